/*
 * sequences.c
 *	  SQL functions on the sequences of a context.
 */
#include "context.h"

PG_FUNCTION_INFO_V1(hart_fork_sequence);
PG_FUNCTION_INFO_V1(hart_drop_sequence);

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
