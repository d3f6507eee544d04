/*
 * stream.c
 *	  hart.generation_steps: a row for each token, made when it is asked for.
 *
 * The work itself is PL/pgSQL, hart.begin_stream and hart.next_token. What PL/pgSQL cannot do is
 * return to its caller between two rows: this function keeps the generation meanwhile, and ends
 * its run when the caller wants no more rows.
 */
#include "hartonomous.h"

#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datum.h"

#include "context.h"

PG_FUNCTION_INFO_V1(hart_generation_steps);

typedef struct
{
	FmgrInfo	next_token;
	Datum		generation;		/* a hart.generation, in the memory of the whole call */
	uint64		ctx;			/* its run */
	ExprContext *econtext;
	bool		finished;
} Stream;

static Oid
function_oid(const char *signature)
{
	return DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(signature)));
}

/* hart.begin_stream(prompt text, options hart.generation_options, model text) with this call's own arguments */
static Datum
begin_stream(FunctionCallInfo fcinfo)
{
	FmgrInfo	begin;
	LOCAL_FCINFO(call, 3);
	Datum		generation;

	fmgr_info(function_oid("hart.begin_stream(text, hart.generation_options, text)"), &begin);
	InitFunctionCallInfoData(*call, &begin, 3, DEFAULT_COLLATION_OID, NULL, NULL);
	for (int i = 0; i < 3; i++)
		call->args[i] = fcinfo->args[i];
	generation = FunctionCallInvoke(call);
	if (call->isnull)
		elog(ERROR, "hart.begin_stream returned NULL");
	return generation;
}

static void
keep_generation(Stream *s, Datum generation, MemoryContext memory)
{
	MemoryContext old = MemoryContextSwitchTo(memory);

	if (DatumGetPointer(s->generation) != NULL)
		pfree(DatumGetPointer(s->generation));
	s->generation = datumCopy(generation, false, -1);
	MemoryContextSwitchTo(old);
}

/* The caller has had enough rows, or all */
static void
end_stream(Datum arg)
{
	Stream	   *s = (Stream *) DatumGetPointer(arg);

	hart_context_end(s->ctx);
}

static Stream *
open_stream(FunctionCallInfo fcinfo, MemoryContext memory)
{
	Stream	   *s = MemoryContextAllocZero(memory, sizeof(Stream));
	bool		isnull;

	fmgr_info_cxt(function_oid("hart.next_token(hart.generation)"), &s->next_token, memory);
	keep_generation(s, begin_stream(fcinfo), memory);
	s->ctx = DatumGetUInt64(GetAttributeByName(DatumGetHeapTupleHeader(s->generation), "ctx", &isnull));
	s->econtext = ((ReturnSetInfo *) fcinfo->resultinfo)->econtext;
	RegisterExprContextCallback(s->econtext, end_stream, PointerGetDatum(s));
	return s;
}

/* hart.generation_steps(prompt text, options hart.generation_options, model text) → (step int, token_id int, piece text, logprob float8) */
Datum
hart_generation_steps(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Stream	   *s;
	HeapTupleHeader g;
	Datum		values[4];
	bool		nulls[4] = {false};
	bool		going;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		TupleDesc	tupdesc;

		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		call->tuple_desc = BlessTupleDesc(tupdesc);
		MemoryContextSwitchTo(old);
		call->user_fctx = open_stream(fcinfo, call->multi_call_memory_ctx);
	}
	call = SRF_PERCALL_SETUP();
	s = call->user_fctx;
	if (s->finished)
	{
		UnregisterExprContextCallback(s->econtext, end_stream, PointerGetDatum(s));
		SRF_RETURN_DONE(call);
	}

	keep_generation(s, FunctionCall1Coll(&s->next_token, DEFAULT_COLLATION_OID, s->generation), call->multi_call_memory_ctx);
	g = DatumGetHeapTupleHeader(s->generation);
	values[0] = Int32GetDatum((int32) call->call_cntr + 1);
	values[1] = GetAttributeByName(g, "token_id", &nulls[1]);
	values[2] = GetAttributeByName(g, "piece", &nulls[2]);
	values[3] = GetAttributeByName(g, "logprob", &nulls[3]);
	(void) GetAttributeByName(g, "finish_reason", &going);
	s->finished = !going;
	if (s->finished)
		hart_context_end(s->ctx);
	SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
}
