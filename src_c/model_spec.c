/*
 * model_spec.c
 *	  What the catalog tables say of a model: configuration, tensors, modules.
 */
#include "context.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "tensor.h"

/* Columns of the current row of the last SPI query, by number; the schema has them all NOT NULL */
static Datum
spi_value(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("column \"%s\" of the model catalog is null", SPI_fname(SPI_tuptable->tupdesc, column)),
				 errhint("Drop the model and ingest it again.")));
	return value;
}

/* Ensure what the arithmetic relies on, whoever wrote the row */
static void
check_config(const HartConfig *config)
{
	if (config->n_layers < 0 || config->dim < 1 || config->hidden_dim < 1 || config->n_heads < 1 || config->n_kv_heads < 1 ||
		config->head_dim < 2 || config->head_dim % 2 != 0 || config->n_heads % config->n_kv_heads != 0 ||
		config->vocab_size < 1 || config->max_positions < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("model \"%s\" has an impossible shape in hart.model_registry", config->name),
				 errhint("Drop the model and ingest it again.")));
}

static void
load_config(HartConfig *config, text *model, MemoryContext memory)
{
	Oid			types[] = {TEXTOID};
	Datum		args[] = {model ? PointerGetDatum(model) : (Datum) 0};
	char		nulls[] = {model ? ' ' : 'n', '\0'};
	ArrayType  *inv_freq;

	if (SPI_execute_with_args("SELECT model_id, name, dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim,"
							  " vocab_size, max_positions, rms_norm_eps, tied_embeddings, rope_inv_freq"
							  " FROM hart.model_registry"
							  " WHERE model_id OPERATOR(pg_catalog.=) hart.resolve_model($1)",
							  1, types, args, nulls, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the model catalog");
	config->model_id = DatumGetInt32(spi_value(0, 1));
	config->name = MemoryContextStrdup(memory, TextDatumGetCString(spi_value(0, 2)));
	config->dim = DatumGetInt32(spi_value(0, 3));
	config->hidden_dim = DatumGetInt32(spi_value(0, 4));
	config->n_layers = DatumGetInt32(spi_value(0, 5));
	config->n_heads = DatumGetInt32(spi_value(0, 6));
	config->n_kv_heads = DatumGetInt32(spi_value(0, 7));
	config->head_dim = DatumGetInt32(spi_value(0, 8));
	config->vocab_size = DatumGetInt32(spi_value(0, 9));
	config->max_positions = DatumGetInt32(spi_value(0, 10));
	config->rms_norm_eps = (float) DatumGetFloat8(spi_value(0, 11));
	config->tied_embeddings = DatumGetBool(spi_value(0, 12));
	check_config(config);
	inv_freq = DatumGetArrayTypeP(spi_value(0, 13));
	if (ARR_NDIM(inv_freq) != 1 || ARR_DIMS(inv_freq)[0] != config->head_dim / 2 || array_contains_nulls(inv_freq))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("model \"%s\" has no rotary frequency for each pair of a head of %d dimensions",
						config->name, config->head_dim),
				 errhint("Drop the model and ingest it again.")));
	config->rope_inv_freq = MemoryContextAlloc(memory, sizeof(float) * (config->head_dim / 2));
	memcpy(config->rope_inv_freq, ARR_DATA_PTR(inv_freq), sizeof(float) * (config->head_dim / 2));
}

static void
load_tensors(HartContext *ctx, MemoryContext memory)
{
	Oid			types[] = {INT4OID};
	Datum		args[] = {Int32GetDatum(ctx->config.model_id)};

	if (SPI_execute_with_args("SELECT tensor_id, name, dtype, encoding, shape, bytes FROM hart.tensors"
							  " WHERE model_id OPERATOR(pg_catalog.=) $1 ORDER BY tensor_id",
							  1, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the tensor catalog");
	ctx->n_tensors = (int) SPI_processed;
	ctx->tensors = MemoryContextAllocZero(memory, sizeof(HartTensor) * Max(ctx->n_tensors, 1));
	ctx->ranges = MemoryContextAllocZero(memory, sizeof(HartTileRange) * Max(ctx->n_tensors, 1));
	for (int i = 0; i < ctx->n_tensors; i++)
	{
		HartTensor *tensor = &ctx->tensors[i];
		int64		bytes = DatumGetInt64(spi_value(i, 6));

		tensor->name = MemoryContextStrdup(memory, TextDatumGetCString(spi_value(i, 2)));
		tensor->format = hart_parse_format(TextDatumGetCString(spi_value(i, 3)), TextDatumGetCString(spi_value(i, 4)));
		tensor->tiles = &ctx->ranges[i];
		tensor->tiles->tensor_id = DatumGetInt32(spi_value(i, 1));
		tensor->tiles->format = tensor->format;
		if (!hart_tensor_shape(DatumGetArrayTypeP(spi_value(i, 5)), hart_format_dtype(tensor->format), bytes, &tensor->rows, &tensor->cols) ||
			(tensor->format == HART_Q8 && tensor->cols % HART_Q8_BLOCK != 0))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("tensor \"%s\" of model \"%s\" has a shape that does not fit its " INT64_FORMAT " bytes",
							tensor->name, ctx->config.name, bytes),
					 errhint("Drop the model and ingest it again.")));
		tensor->tiles->n = tensor->rows * tensor->cols;
	}
}

/* model.layers.<n>.<rest> → n and rest; false for other names */
static bool
split_layer(const char *name, int32 n_layers, int32 *layer, const char **rest)
{
	static const char prefix[] = "model.layers.";
	char	   *end;
	long		n;

	if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
		return false;
	n = strtol(name + sizeof(prefix) - 1, &end, 10);
	if (end == name + sizeof(prefix) - 1 || *end != '.' || n < 0 || n >= n_layers)
		return false;
	*layer = (int32) n;
	*rest = end + 1;
	return true;
}

/* Enter <module>.weight or <module>.bias */
static void
add_to_module(HartModuleList *list, const char *name, HartTensor *tensor)
{
	const char *dot = strrchr(name, '.');
	bool		is_bias = dot != NULL && strcmp(dot, ".bias") == 0;
	char	   *module;
	int			i;

	if (dot == NULL || (!is_bias && strcmp(dot, ".weight") != 0))
		return;
	module = pnstrdup(name, dot - name);
	for (i = 0; i < list->n && strcmp(list->modules[i].name, module) != 0; i++)
		;
	if (i == list->n)
	{
		list->modules = list->modules ? repalloc(list->modules, sizeof(HartModule) * (list->n + 1))
			: palloc(sizeof(HartModule));
		list->modules[list->n++] = (HartModule) {.name = module};
	}
	if (is_bias)
		list->modules[i].bias = tensor;
	else
		list->modules[i].weight = tensor;
}

static HartTensor *
find_tensor(HartContext *ctx, const char *name)
{
	for (int i = 0; i < ctx->n_tensors; i++)
		if (strcmp(ctx->tensors[i].name, name) == 0)
			return &ctx->tensors[i];
	return NULL;
}

/* Ensure a bias has a number for each row of its weight */
static void
check_biases(const HartContext *ctx, const HartModuleList *list)
{
	for (int i = 0; i < list->n; i++)
	{
		const HartModule *module = &list->modules[i];

		if (module->weight && module->bias && module->bias->rows * module->bias->cols != module->weight->rows)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("tensor \"%s\" of model \"%s\" does not fit its weight", module->bias->name, ctx->config.name),
					 errhint("Drop the model and ingest it again.")));
	}
}

static void
build_modules(HartContext *ctx)
{
	ctx->layers = palloc0(sizeof(HartModuleList) * Max(ctx->config.n_layers, 1));
	for (int i = 0; i < ctx->n_tensors; i++)
	{
		HartTensor *tensor = &ctx->tensors[i];
		const char *rest;
		int32		layer;

		if (split_layer(tensor->name, ctx->config.n_layers, &layer, &rest))
			add_to_module(&ctx->layers[layer], rest, tensor);
		else if (!(ctx->config.tied_embeddings && strcmp(tensor->name, "lm_head.weight") == 0))
			add_to_module(&ctx->outer, tensor->name, tensor);
	}
	if (ctx->config.tied_embeddings)
		add_to_module(&ctx->outer, "lm_head.weight", find_tensor(ctx, "model.embed_tokens.weight"));
	check_biases(ctx, &ctx->outer);
	for (int i = 0; i < ctx->config.n_layers; i++)
		check_biases(ctx, &ctx->layers[i]);
}

void
hart_load_model_spec(HartContext *ctx, text *model)
{
	MemoryContext memory = CurrentMemoryContext;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	load_config(&ctx->config, model, memory);
	load_tensors(ctx, memory);
	SPI_finish();
	Assert(CurrentMemoryContext == memory);
	build_modules(ctx);
}
