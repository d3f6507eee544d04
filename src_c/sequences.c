/*
 * sequences.c
 *	  SQL functions on the sequences of a context.
 */
#include "context.h"

#include "funcapi.h"

#include "settings.h"

PG_FUNCTION_INFO_V1(hart_fork_sequence);
PG_FUNCTION_INFO_V1(hart_drop_sequence);
PG_FUNCTION_INFO_V1(hart_kv_cache_stats);

/* hart.fork_sequence(context, from_sequence int, to_sequence int, n_positions int) */
Datum
hart_fork_sequence(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);

	hart_kv_fork(ctx->cache, PG_GETARG_INT32(1), PG_GETARG_INT32(2), PG_GETARG_INT32(3));
	PG_RETURN_VOID();
}

/* hart.drop_sequence(context, sequence int) */
Datum
hart_drop_sequence(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);

	hart_kv_drop(ctx->cache, PG_GETARG_INT32(1));
	PG_RETURN_VOID();
}

/* hart.kv_cache_stats() → (bytes bigint, remembered_bytes bigint, limit_bytes bigint) */
Datum
hart_kv_cache_stats(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(hart_kv_held_bytes());
	values[1] = Int64GetDatum(hart_kv_kept_bytes());
	values[2] = Int64GetDatum(hart_kv_cache_limit * INT64CONST(1048576));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
