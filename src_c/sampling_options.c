/*
 * sampling_options.c
 *	  From a hart.generation_options of SQL to the options of sampling.
 */
#include "sampling_options.h"

#include <math.h>

#include "access/htup_details.h"
#include "utils/typcache.h"

/* Attributes of hart.generation_options, in order */
enum
{
	MAX_TOKENS, TEMPERATURE, TOP_K, TOP_P, MIN_P, TYPICAL_P, REPETITION_PENALTY, PRESENCE_PENALTY, FREQUENCY_PENALTY,
	LOGIT_BIAS, SEED, MIN_TOKENS, STOP, STOP_TOKENS, CHOICES, REGEX, JSON_SCHEMA, GRAMMAR, N_OPTIONS
};

HartSamplingOptions
hart_getarg_options(FunctionCallInfo fcinfo, int arg)
{
	HeapTupleHeader header = PG_GETARG_HEAPTUPLEHEADER(arg);
	TupleDesc	tupdesc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	Datum		values[N_OPTIONS];
	bool		nulls[N_OPTIONS];
	HartSamplingOptions o;
	HartWarpers *w = &o.warpers;

	if (tupdesc->natts != N_OPTIONS)
		elog(ERROR, "hart.generation_options has %d attributes", tupdesc->natts);
	heap_deform_tuple(&tuple, tupdesc, values, nulls);
	ReleaseTupleDesc(tupdesc);
	for (int i = 0; i < N_OPTIONS; i++)
		if (nulls[i] && (i < LOGIT_BIAS || i == MIN_TOKENS))
			values[i] = Float8GetDatum(NAN);
	*w = (HartWarpers) {DatumGetFloat8(values[TEMPERATURE]), DatumGetInt32(values[TOP_K]), DatumGetFloat8(values[TOP_P]),
		DatumGetFloat8(values[MIN_P]), DatumGetFloat8(values[TYPICAL_P])};
	o.repetition_penalty = DatumGetFloat8(values[REPETITION_PENALTY]);
	o.presence_penalty = DatumGetFloat8(values[PRESENCE_PENALTY]);
	o.frequency_penalty = DatumGetFloat8(values[FREQUENCY_PENALTY]);
	o.logit_bias = nulls[LOGIT_BIAS] ? NULL : DatumGetJsonbP(values[LOGIT_BIAS]);
	o.min_tokens = DatumGetInt32(values[MIN_TOKENS]);
	if (!(w->temperature >= 0 && isfinite(w->temperature) && !nulls[TOP_K] && w->top_k >= 0 && w->top_p > 0 && w->top_p <= 1
		  && w->min_p >= 0 && w->min_p <= 1 && w->typical_p > 0 && w->typical_p <= 1 && o.repetition_penalty > 0
		  && isfinite(o.repetition_penalty) && isfinite(o.presence_penalty) && isfinite(o.frequency_penalty)
		  && !nulls[MIN_TOKENS]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an option of generation is out of range"),
				 errhint("Make the options by hart.generation_options, which checks them.")));
	return o;
}
