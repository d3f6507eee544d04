/*
 * tile_patch.c
 *	  hart.patch_tile: the bytes of a tile with some weights changed.
 *
 * An UPDATE of hart.weights is one of the tiles that hold the weights, SET payload = hart.patch_tile(payload, …). When another
 * transaction has changed the tile meanwhile, PostgreSQL calls it again with the newer payload, so that neither change is lost.
 */
#include "tile_patch.h"

#include "utils/builtins.h"

#include "kernels.h"
#include "narrow.h"
#include "tensor.h"

PG_FUNCTION_INFO_V1(hart_patch_tile);

static void
report_bad_patch(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("patch does not fit the tile"),
			 errhint("Weights are changed by UPDATE hart.weights.")));
}

static void
apply(const HartPatch *patch, HartDtype dtype, char *weights, size_t n)
{
	char	   *at = weights + patch->index * hart_dtype_size(dtype);
	float		value;
	HartNarrowing narrowing;

	if (patch->index >= n)
		report_bad_patch();
	hart_kernels->widen[dtype] (at, &value, 1);
	if (memcmp(&value, &patch->old_bits, sizeof(value)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not update a weight that another transaction has changed"),
				 errhint("Run the statement again; it will see the new value.")));
	memcpy(&value, &patch->new_bits, sizeof(value));
	narrowing = hart_narrow(dtype, value, at);
	if (narrowing != HART_EXACT && narrowing != HART_ROUNDED)
		report_bad_patch();
}

/* hart.patch_tile(payload bytea, dtype text, patch bytea) → bytea */
Datum
hart_patch_tile(PG_FUNCTION_ARGS)
{
	bytea	   *payload = PG_GETARG_BYTEA_P_COPY(0);
	HartDtype	dtype = hart_parse_dtype(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	bytea	   *patches = PG_GETARG_BYTEA_PP(2);
	size_t		size = VARSIZE_ANY_EXHDR(patches);
	size_t		n = VARSIZE_ANY_EXHDR(payload) / hart_dtype_size(dtype);

	if (size % sizeof(HartPatch) != 0)
		report_bad_patch();
	for (size_t at = 0; at < size; at += sizeof(HartPatch))
	{
		HartPatch	patch;

		memcpy(&patch, VARDATA_ANY(patches) + at, sizeof(patch));
		apply(&patch, dtype, VARDATA(payload), n);
	}
	PG_RETURN_BYTEA_P(payload);
}
