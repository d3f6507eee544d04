/*
 * sampling_options.h
 *	  What of a hart.generation_options concerns the choice of a token.
 */
#ifndef HART_SAMPLING_OPTIONS_H
#define HART_SAMPLING_OPTIONS_H

#include "hartonomous.h"

#include "utils/jsonb.h"

#include "warpers.h"

typedef struct
{
	HartWarpers warpers;
	double		repetition_penalty;
	double		presence_penalty;
	double		frequency_penalty;
	Jsonb	   *logit_bias;		/* or NULL */
	int32		min_tokens;
} HartSamplingOptions;

/* an argument of type hart.generation_options; error when one of these is out of range */
extern HartSamplingOptions hart_getarg_options(FunctionCallInfo fcinfo, int arg);

#endif							/* HART_SAMPLING_OPTIONS_H */
