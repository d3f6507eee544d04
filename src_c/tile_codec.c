/*
 * tile_codec.c
 *	  Payloads of tiles for SQL: weights as they are in a checkpoint become a payload, and a payload weights.
 */
#include "tile_format.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(hart_unpack_tile_sql);
PG_FUNCTION_INFO_V1(hart_pack_tile_sql);

static HartFormat
format_of(FunctionCallInfo fcinfo)
{
	return hart_parse_format(text_to_cstring(PG_GETARG_TEXT_PP(1)), text_to_cstring(PG_GETARG_TEXT_PP(2)));
}

bytea *
hart_unpacked_tile(HartFormat format, const bytea *payload)
{
	size_t		size = VARSIZE_ANY_EXHDR(payload);
	int64		n = hart_weights_held(format, VARDATA_ANY(payload), size);
	const char *fault = hart_tile_fault(format, VARDATA_ANY(payload), size, n);
	size_t		bytes = n * hart_dtype_size(hart_format_dtype(format));
	bytea	   *weights;

	if (fault)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a tile %s", fault),
				 errhint("Restore the model's tiles, or drop the model and ingest it again.")));
	weights = palloc(VARHDRSZ + bytes);
	SET_VARSIZE(weights, VARHDRSZ + bytes);
	hart_unpack_tile(format, VARDATA_ANY(payload), n, VARDATA(weights));
	return weights;
}

bytea *
hart_packed_tile(HartFormat format, const bytea *weights)
{
	size_t		weight_size = hart_dtype_size(hart_format_dtype(format));
	size_t		bytes = VARSIZE_ANY_EXHDR(weights);
	int64		n = bytes / weight_size;
	size_t		size;
	bytea	   *payload;

	if (bytes % weight_size != 0 || n > hart_tile_weights(format))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%zu bytes are not the weights of a tile", bytes),
				 errhint("A tile of this encoding holds up to %d weights of %zu bytes.", (int) hart_tile_weights(format), weight_size)));
	size = hart_tile_size(format, n);
	payload = palloc(VARHDRSZ + size);
	SET_VARSIZE(payload, VARHDRSZ + size);
	if (hart_pack_tile(format, VARDATA_ANY(weights), n, VARDATA(payload)))
		return payload;
	pfree(payload);
	return NULL;
}

/* hart.unpack_tile(payload bytea, dtype text, encoding text) → bytea */
Datum
hart_unpack_tile_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(hart_unpacked_tile(format_of(fcinfo), PG_GETARG_BYTEA_PP(0)));
}

/* hart.pack_tile(weights bytea, dtype text, encoding text) → bytea, NULL when they do not fit */
Datum
hart_pack_tile_sql(PG_FUNCTION_ARGS)
{
	bytea	   *payload = hart_packed_tile(format_of(fcinfo), PG_GETARG_BYTEA_PP(0));

	if (payload == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(payload);
}
