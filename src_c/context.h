/*
 * context.h
 *	  One run of a model: its weights under a snapshot, its keys and values.
 *
 * A context lives from hart.open_context to hart.close_context, at the longest to the
 * end of the (sub)transaction that opened it. Everything it holds (pins, snapshot,
 * relation, memory) goes with it, on success, error and cancel alike.
 */
#ifndef HART_CONTEXT_H
#define HART_CONTEXT_H

#include "hartonomous.h"

#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapshot.h"

#include "kernels.h"
#include "kv_cache.h"
#include "large_memory.h"
#include "tile_reader.h"

/* What the transformer must know of a model; names as in the field's literature */
typedef struct HartConfig
{
	int32		model_id;
	char	   *name;
	int32		dim;
	int32		hidden_dim;
	int32		n_layers;
	int32		n_heads;
	int32		n_kv_heads;
	int32		head_dim;
	int32		vocab_size;
	int32		max_positions;
	float		rms_norm_eps;
	bool		tied_embeddings;
	float	   *rope_inv_freq;	/* (head_dim / 2) */
} HartConfig;

/* A tensor of the checkpoint. A vector counts as one row. */
typedef struct HartTensor
{
	char	   *name;
	HartFormat	format;
	int64		rows;
	int64		cols;
	HartTileRange *tiles;
	float	   *values;			/* (rows, cols) in float32, for the small tensors that are used whole; made at first use */
} HartTensor;

/* What one layer of the network owns under one name: model.layers.3.mlp.up_proj → weight and perhaps bias */
typedef struct HartModule
{
	char	   *name;			/* relative to the layer: mlp.up_proj */
	HartTensor *weight;
	HartTensor *bias;
} HartModule;

typedef struct HartModuleList
{
	HartModule *modules;
	int			n;
} HartModuleList;

/* cosine and sine of position × frequency, for rotary embeddings */
typedef struct HartRopeTable
{
	float	   *cos;			/* (n_positions, head_dim / 2) */
	float	   *sin;			/* (n_positions, head_dim / 2) */
	int64		n_positions;
} HartRopeTable;

typedef struct HartContext
{
	struct HartContext *next;
	uint64		id;
	SubTransactionId subid;
	Oid			user;			/* who opened it, with whose privileges it was checked */
	MemoryContext memory;
	ResourceOwner owner;
	Snapshot	snapshot;
	Relation	rel;

	HartConfig	config;
	HartTensor *tensors;
	HartTileRange *ranges;		/* of the tensors, in the same order */
	int			n_tensors;
	HartModuleList *layers;		/* (n_layers) */
	HartModuleList outer;		/* model.embed_tokens, model.norm, lm_head: under their full names */

	HartTileReader *tiles;
	HartKvCache *cache;
	int			arithmetic;		/* that computed all of the cache; 0 when several did */
	HartRopeTable rope;
	HartLargeMemory scratch;	/* of the threads, to work in */
} HartContext;

/* an open context by the handle that SQL passes around; error when it is closed */
extern HartContext *hart_context_lookup(Datum handle);
#define PG_GETARG_CONTEXT(n) hart_context_lookup(PG_GETARG_DATUM(n))

/* close a context from C, if it is still open */
extern void hart_context_end(uint64 id);

/* a module by name; error when there is none, or NULL if missing_ok. Layer 0 .. n_layers - 1 */
extern HartModule *hart_context_module(HartContext *ctx, int32 layer, const text *name, bool missing_ok);
/* the same for a module outside the layers */
extern HartModule *hart_context_outer_module(HartContext *ctx, const text *name);

/* working memory of at least n floats, valid until the next call */
extern float *hart_context_scratch(HartContext *ctx, size_t n);

/* the tensor's numbers in float32, kept for the life of the context */
extern const float *hart_context_values(HartContext *ctx, HartTensor *tensor);

/* the resource owner of the context in force, to be put back by the result */
extern ResourceOwner hart_context_enter(HartContext *ctx);

/* layers.c: ensure that n positions are within the context length */
extern void hart_check_positions(const HartContext *ctx, const int32 *positions, int n);
/* layers.c: the n positions from pos on; error when they are not within the context length */
extern const int32 *hart_positions_from(const HartContext *ctx, int32 pos, int n);

/* model_spec.c: configuration, tensors and modules of the model a user names, NULL the default; in the current memory context */
extern void hart_load_model_spec(HartContext *ctx, text *model);

#endif							/* HART_CONTEXT_H */
