/*
 * tile_format.c
 *	  Formats of tiles by name, and what is wrong with a tile.
 */
#include "tile_format.h"

#include "tensor.h"

HartFormat
hart_parse_format(const char *dtype, const char *encoding)
{
	HartDtype	plain = hart_parse_dtype(dtype);

	if (strcmp(encoding, "plain") == 0)
		return (HartFormat) plain;
	if (strcmp(encoding, "bf12") == 0 && plain == HART_BF16)
		return HART_BF12;
	if (strcmp(encoding, "q8") == 0 && plain == HART_F32)
		return HART_Q8;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown encoding \"%s\" of dtype %s", encoding, dtype),
			 errhint("Tiles are plain, or of dtype BF16 and bf12, or of dtype F32 and q8.")));
}

const char *
hart_tile_fault(HartFormat format, const char *payload, size_t size, int64 n)
{
	size_t		expected = hart_tile_size(format, n);

	if (size != expected)
		return psprintf("has %zu bytes instead of %zu", size, expected);
	return format == HART_BF12 ? hart_bf12_fault(payload, size, n) : format == HART_Q8 ? hart_q8_fault(payload, size, n) : NULL;
}

void
hart_unpack_tile(HartFormat format, const char *payload, int64 n, void *weights)
{
	if (format == HART_BF12)
		hart_bf12_unpack(payload, weights);
	else if (format == HART_Q8)
		hart_q8_widen(payload, 0, weights, n);
	else
		memcpy(weights, payload, hart_tile_size(format, n));
}

bool
hart_tile_fits(HartFormat format, const void *weights, int64 n)
{
	return format == HART_BF12 ? hart_bf12_fits(weights, n) : format != HART_Q8;
}

bool
hart_pack_tile(HartFormat format, const void *weights, int64 n, char *payload)
{
	if (format == HART_BF12)
		return hart_bf12_pack(weights, n, payload);
	if (format == HART_Q8)
		return false;
	memcpy(payload, weights, hart_tile_size(format, n));
	return true;
}

int64
hart_weights_held(HartFormat format, const char *payload, size_t size)
{
	if (format == HART_BF12)
		return size < HART_BF12_HEADER ? 0 : Min(hart_bf12_n_weights(payload), HART_BF12_TILE);
	if (format == HART_Q8)
		return size < HART_Q8_HEADER ? 0 : Min(size - HART_Q8_HEADER, HART_Q8_TILE);
	return size / hart_dtype_size((HartDtype) format);
}
