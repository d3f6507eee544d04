/*
 * tile_patch.c
 *	  hart.patch_tile: the bytes of a tile with some weights changed.
 *
 * An UPDATE of hart.weights is one of the tiles that hold the weights, SET payload = hart.patch_tile(payload, …). When another
 * transaction has changed the tile meanwhile, PostgreSQL calls it again with the newer payload, so that neither change is lost.
 * A packed tile may have no room for what it should hold; hart.patch_fits tells beforehand.
 */
#include "tile_patch.h"

#include "utils/builtins.h"

#include "kernels.h"
#include "narrow.h"
#include "tile_format.h"

PG_FUNCTION_INFO_V1(hart_patch_tile);
PG_FUNCTION_INFO_V1(hart_patch_fits);

static void
report_bad_patch(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("patch does not fit the tile"),
			 errhint("Weights are changed by UPDATE hart.weights.")));
}

/* The value that a weight has; error when it is not there */
static float
value_at(const HartPatch *patch, HartDtype dtype, const char *weights, size_t n)
{
	float		value;

	if (patch->index >= n)
		report_bad_patch();
	hart_kernels->widen[dtype] (weights + patch->index * hart_dtype_size(dtype), &value, 1);
	return value;
}

static void
check_unchanged(const HartPatch *patch, float value)
{
	if (memcmp(&value, &patch->old_bits, sizeof(value)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not update a weight that another transaction has changed"),
				 errhint("Run the statement again; it will see the new value.")));
}

static void
apply(const HartPatch *patch, HartDtype dtype, char *weights)
{
	float		value;
	HartNarrowing narrowing;

	memcpy(&value, &patch->new_bits, sizeof(value));
	narrowing = hart_narrow(dtype, value, weights + patch->index * hart_dtype_size(dtype));
	if (narrowing != HART_EXACT && narrowing != HART_ROUNDED)
		report_bad_patch();
}

/* The weights of a tile with the changes made; each weight must be what it was if check says so */
static bytea *
patched(HartFormat format, const bytea *payload, const bytea *patches, bool check)
{
	HartDtype	dtype = hart_format_dtype(format);
	bytea	   *weights = hart_unpacked_tile(format, payload);
	size_t		size = VARSIZE_ANY_EXHDR(patches);
	size_t		n = VARSIZE_ANY_EXHDR(weights) / hart_dtype_size(dtype);

	if (size % sizeof(HartPatch) != 0)
		report_bad_patch();
	for (size_t at = 0; at < size; at += sizeof(HartPatch))
	{
		HartPatch	patch;
		float		value;

		memcpy(&patch, VARDATA_ANY(patches) + at, sizeof(patch));
		value = value_at(&patch, dtype, VARDATA(weights), n);
		if (check)
			check_unchanged(&patch, value);
		apply(&patch, dtype, VARDATA(weights));
	}
	return weights;
}

static HartFormat
format_of(FunctionCallInfo fcinfo)
{
	return hart_parse_format(text_to_cstring(PG_GETARG_TEXT_PP(1)), text_to_cstring(PG_GETARG_TEXT_PP(2)));
}

/* hart.patch_tile(payload bytea, dtype text, encoding text, patch bytea) → bytea */
Datum
hart_patch_tile(PG_FUNCTION_ARGS)
{
	HartFormat	format = format_of(fcinfo);
	bytea	   *weights = patched(format, PG_GETARG_BYTEA_PP(0), PG_GETARG_BYTEA_PP(3), true);
	bytea	   *payload = hart_packed_tile(format, weights);

	/* what was asked beforehand was whether they fit the tile as it was then */
	if (payload == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not update weights of a tile that another transaction has changed"),
				 errhint("Run the statement again; it will see the new values.")));
	PG_RETURN_BYTEA_P(payload);
}

/* hart.patch_fits(payload bytea, dtype text, encoding text, patch bytea) → boolean */
Datum
hart_patch_fits(PG_FUNCTION_ARGS)
{
	HartFormat	format = format_of(fcinfo);
	bytea	   *weights = patched(format, PG_GETARG_BYTEA_PP(0), PG_GETARG_BYTEA_PP(3), false);

	PG_RETURN_BOOL(hart_tile_fits(format, VARDATA(weights), VARSIZE_ANY_EXHDR(weights) / hart_dtype_size(hart_format_dtype(format))));
}
