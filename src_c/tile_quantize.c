/*
 * tile_quantize.c
 *	  hart.quantize_tiles: the tiles of a model written anew for its quantized copy.
 *
 * One call reads all tiles of the source under one snapshot, so that the copy is of one state of the model, whoever changes it
 * meanwhile. A batch of tiles at a time is in memory: the main thread reads, all round, the main thread writes.
 */
#include "hartonomous.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "tensor.h"
#include "tile_lookup.h"
#include "tile_table.h"
#include "tile_writer.h"

PG_FUNCTION_INFO_V1(hart_quantize_tiles);

#define TASK_TILES 4			/* tiles that a thread rounds at a time */
#define NOTICE_MILLISECONDS 2000

/* A tensor of the source and of its copy */
typedef struct Copy
{
	int32		tensor_id;
	HartFormat	from;
	HartFormat	to;
	int64		n;				/* weights */
	int64		cols;
} Copy;

typedef struct QuantizeWork
{
	const Copy *copy;
	int64		first_tile;
	const float *weights;		/* of the batch */
	char	   *payloads;
} QuantizeWork;

typedef struct Progress
{
	int			n_tensors;
	int64		all;			/* weights */
	int64		done;
	TimestampTz said;
} Progress;

static void
report_mismatch(int32 tensor_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("tensor %d is not a copy of the source's", tensor_id),
			 errhint("CALL hart.quantize_model.")));
}

/* The tensors of the model that this session is bringing in, beside those of the source */
static Copy *
load_copies(int32 source_id, int32 model_id, int *n_copies, int64 *all)
{
	Oid			types[] = {INT4OID, INT4OID, REGROLEOID};
	Datum		args[] = {Int32GetDatum(source_id), Int32GetDatum(model_id), ObjectIdGetDatum(GetUserId())};
	MemoryContext memory = CurrentMemoryContext;
	Copy	   *copies;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT hart.check_own_ingest($2, $3)", 3, types, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not check the ingest");
	if (SPI_execute_with_args("SELECT t.tensor_id, s.dtype, s.encoding, t.dtype, t.encoding, s.shape, s.bytes, t.shape, t.bytes"
							  " FROM hart.tensors t LEFT JOIN hart.tensors s ON s.model_id OPERATOR(pg_catalog.=) $1"
							  " AND s.tensor_id OPERATOR(pg_catalog.=) t.tensor_id AND s.name OPERATOR(pg_catalog.=) t.name"
							  " WHERE t.model_id OPERATOR(pg_catalog.=) $2 ORDER BY t.tensor_id",
							  3, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the tensor catalog");
	*n_copies = (int) SPI_processed;
	*all = 0;
	copies = MemoryContextAlloc(memory, sizeof(Copy) * Max(*n_copies, 1));
	for (int i = 0; i < *n_copies; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int32		tensor_id = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull));
		Copy	   *copy = &copies[i];
		int64		rows;
		int64		copy_rows;
		int64		copy_cols;

		if (SPI_getvalue(row, desc, 2) == NULL)
			report_mismatch(tensor_id);
		copy->tensor_id = tensor_id;
		copy->from = hart_parse_format(SPI_getvalue(row, desc, 2), SPI_getvalue(row, desc, 3));
		copy->to = hart_parse_format(SPI_getvalue(row, desc, 4), SPI_getvalue(row, desc, 5));
		if (!hart_tensor_shape(DatumGetArrayTypeP(SPI_getbinval(row, desc, 6, &isnull)), hart_format_dtype(copy->from),
							   DatumGetInt64(SPI_getbinval(row, desc, 7, &isnull)), &rows, &copy->cols) ||
			!hart_tensor_shape(DatumGetArrayTypeP(SPI_getbinval(row, desc, 8, &isnull)), hart_format_dtype(copy->to),
							   DatumGetInt64(SPI_getbinval(row, desc, 9, &isnull)), &copy_rows, &copy_cols) ||
			rows != copy_rows || copy->cols != copy_cols ||
			(copy->to != copy->from && (copy->to != HART_Q8 || copy->cols % HART_Q8_BLOCK != 0)))
			report_mismatch(tensor_id);
		copy->n = rows * copy->cols;
		*all += copy->n;
	}
	SPI_finish();
	return copies;
}

static void
quantize_task(void *arg, size_t begin, size_t end, int worker)
{
	const QuantizeWork *w = arg;
	size_t		row_blocks = w->copy->cols / HART_Q8_BLOCK;

	for (size_t i = begin; i < end; i++)
	{
		int64		tile = w->first_tile + i;
		int64		n = hart_weights_in_tile(HART_Q8, w->copy->n, tile);
		char	   *payload = w->payloads + i * HART_PAYLOAD_SPACE;

		hart_q8_pack(w->weights + i * HART_Q8_TILE, n, tile * HART_Q8_TILE_BLOCKS % row_blocks, row_blocks, VARDATA(payload));
		SET_VARSIZE(payload, VARHDRSZ + hart_tile_size(HART_Q8, n));
	}
}

/* The weights of the source's tiles from number first on */
static void
read_weights(HartTileLookup *lookup, const Copy *copy, int64 first, int64 n, float *weights)
{
	int64		last_tile = hart_tile_of(copy->from, copy->n - 1);

	for (int64 at = first; at < first + n;)
	{
		HartWeightPlace place = hart_place_of(copy->from, at);
		const char *payload = hart_lookup_tile(lookup, copy->tensor_id, copy->from, copy->n, place.tile, last_tile);
		int64		taken = Min(first + n - at, hart_tile_weights(copy->from) - (int64) place.index);

		hart_widen_tile(copy->from, payload, place.index, weights + (at - first), taken);
		at += taken;
	}
}

/* A batch of tiles for the copy, as bytea at their distance */
static void
make_batch(HartTileLookup *lookup, const Copy *copy, int64 first_tile, int n_tiles, float *weights, char *payloads)
{
	if (copy->to == HART_Q8 && copy->from != HART_Q8)
	{
		QuantizeWork w = {copy, first_tile, weights, payloads};
		int64		first = first_tile * HART_Q8_TILE;

		read_weights(lookup, copy, first, Min(n_tiles * (int64) HART_Q8_TILE, copy->n - first), weights);
		hart_run_parallel(n_tiles, TASK_TILES, quantize_task, &w);
		return;
	}
	for (int i = 0; i < n_tiles; i++)
	{
		char	   *payload = payloads + i * HART_PAYLOAD_SPACE;
		int64		size = hart_tile_size(copy->to, hart_weights_in_tile(copy->to, copy->n, first_tile + i));

		SET_VARSIZE(payload, VARHDRSZ + size);
		memcpy(VARDATA(payload), hart_lookup_tile(lookup, copy->tensor_id, copy->from, copy->n, first_tile + i,
												  hart_tile_of(copy->from, copy->n - 1)), size);
	}
}

/* Say now and then how far it is */
static void
say_progress(Progress *progress, int tensor, int64 weights)
{
	progress->done += weights;
	if (!TimestampDifferenceExceeds(progress->said, GetCurrentTimestamp(), NOTICE_MILLISECONDS))
		return;
	progress->said = GetCurrentTimestamp();
	ereport(NOTICE,
			(errmsg("tensor %d of %d, %.0f of %.0f million weights", tensor, progress->n_tensors,
					progress->done / 1e6, progress->all / 1e6)));
}

/* hart.quantize_tiles(source int, tiles regclass, model_id int) → number of tiles written */
Datum
hart_quantize_tiles(PG_FUNCTION_ARGS)
{
	int32		source_id = PG_GETARG_INT32(0);
	Oid			tiles = PG_GETARG_OID(1);
	int32		model_id = PG_GETARG_INT32(2);
	Oid			source = hart_tile_table(source_id);
	Progress	progress = {.said = GetCurrentTimestamp()};
	Copy	   *copies;
	HartTileLookup *lookup;
	Relation	from;
	Relation	to;
	float	   *weights = palloc(HART_APPEND_BATCH * HART_Q8_TILE * sizeof(float));
	char	   *payloads = palloc(HART_APPEND_BATCH * HART_PAYLOAD_SPACE);
	int64		written = 0;

	hart_check_version();
	PreventCommandIfReadOnly("hart.quantize_tiles()");
	copies = load_copies(source_id, model_id, &progress.n_tensors, &progress.all);
	if (!OidIsValid(source))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table hart.tiles_%d does not exist", source_id),
				 errhint("CALL hart.drop_model and ingest the model again.")));
	from = table_open(source, AccessShareLock);
	hart_check_tile_table(from);
	hart_check_tile_access(source);
	to = hart_open_incoming(tiles, model_id);
	lookup = hart_lookup_open(from, GetActiveSnapshot(), source_id);
	for (int i = 0; i < progress.n_tensors; i++)
	{
		const Copy *copy = &copies[i];
		int64		n_tiles = hart_tile_count(copy->to, copy->n);

		for (int64 tile = 0; tile < n_tiles; tile += HART_APPEND_BATCH)
		{
			int			n = (int) Min(HART_APPEND_BATCH, n_tiles - tile);

			CHECK_FOR_INTERRUPTS();
			make_batch(lookup, copy, tile, n, weights, payloads);
			hart_append_tiles(to, model_id, copy->tensor_id, (int32) tile, payloads, n);
			written += n;
			say_progress(&progress, i + 1, Min(n * hart_tile_weights(copy->to), copy->n - tile * hart_tile_weights(copy->to)));
		}
	}
	hart_lookup_close(lookup);
	table_close(from, NoLock);
	table_close(to, NoLock);
	pfree(weights);
	pfree(payloads);
	PG_RETURN_INT64(written);
}
