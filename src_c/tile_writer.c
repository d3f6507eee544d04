/*
 * tile_writer.c
 *	  Appending tiles to the table of a model that is being ingested.
 *
 * Tuples go in by heap_multi_insert, without the ring of buffers that COPY uses: the
 * pages should stay in shared_buffers, since generate will want them next. They go in
 * frozen and all-visible, so that the first reader neither checks nor rewrites them.
 * That is sound because the session that ingests alone knows the table: it is attached to hart.tiles
 * and the model is made ready at the end, and a failed ingest drops it. As with COPY FREEZE,
 * a transaction whose snapshot is older than the ingest can see the rows of the finished
 * model in hart.tiles; it cannot run the model, whose catalog rows it does not see.
 */
#include "hartonomous.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "settings.h"
#include "tensor.h"
#include "tile_format.h"
#include "tile_table.h"
#include "tile_writer.h"

PG_FUNCTION_INFO_V1(hart_write_tiles);
PG_FUNCTION_INFO_V1(hart_fits_encoding);

#define TASK_TILES 8			/* tiles that a thread packs at a time */

/* Some tiles of a tensor, on their way from the checkpoint */
typedef struct PackWork
{
	HartFormat	format;
	const char *weights;		/* of the checkpoint */
	int64		n;				/* weights */
	char	   *payloads;		/* bytea of HART_TILE_BYTES for each tile; NULL to see whether they fit */
	bool		refused[HART_APPEND_BATCH];
} PackWork;

/* Ensure this session is ingesting the model, and look up how the tensor is stored; a call writes megabytes, so a query is cheap */
static HartFormat
check_own_ingest(int32 model_id, int32 tensor_id)
{
	Oid			types[] = {INT4OID, INT4OID, REGROLEOID};
	Datum		args[] = {Int32GetDatum(model_id), Int32GetDatum(tensor_id), ObjectIdGetDatum(GetUserId())};
	HartFormat	format;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT t.dtype, t.encoding, hart.check_own_ingest($1, $3) FROM hart.tensors t"
							  " RIGHT JOIN (VALUES (1)) AS one (n) ON t.model_id OPERATOR(pg_catalog.=) $1 AND t.tensor_id OPERATOR(pg_catalog.=) $2",
							  3, types, args, NULL, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not check the ingest");
	if (SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model number %d has no tensor %d", model_id, tensor_id),
				 errhint("Tensors are numbered in hart.tensors.")));
	format = hart_parse_format(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1),
							   SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	SPI_finish();
	return format;
}

/* Ensure the table is the model's, of the caller's, and in no use yet */
static void
check_target(Relation rel, int32 model_id)
{
	hart_check_tile_table(rel);
	if (RelationGetRelid(rel) != hart_tile_table(model_id) || rel->rd_rel->relispartition || rel->rd_rel->relhasindex)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not the table of a model that is being ingested", RelationGetRelationName(rel)),
				 errhint("Use CALL hart.ingest_model; change the weights of a model that is there by UPDATE.")));
#if PG_VERSION_NUM >= 160000
	if (!object_ownercheck(RelationRelationId, RelationGetRelid(rel), GetUserId()))
#else
	if (!pg_class_ownercheck(RelationGetRelid(rel), GetUserId()))
#endif
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, RelationGetRelationName(rel));
}

Relation
hart_open_incoming(Oid relid, int32 model_id)
{
	Relation	rel = table_open(relid, RowExclusiveLock);

	check_target(rel, model_id);
	return rel;
}

void
hart_append_tiles(Relation rel, int32 model_id, int32 tensor_id, int32 first_tile, char *payloads, int n)
{
	TupleTableSlot *slots[HART_APPEND_BATCH];

	Assert(n <= HART_APPEND_BATCH);
	for (int i = 0; i < n; i++)
	{
		Datum		values[4] = {Int32GetDatum(model_id), Int32GetDatum(tensor_id), Int32GetDatum(first_tile + i),
		PointerGetDatum(payloads + i * HART_PAYLOAD_SPACE)};
		bool		nulls[4] = {false, false, false, false};

		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);
		ExecStoreHeapTuple(heap_form_tuple(RelationGetDescr(rel), values, nulls), slots[i], true);
	}
	heap_multi_insert(rel, slots, n, GetCurrentCommandId(true), HEAP_INSERT_FROZEN | HEAP_INSERT_SKIP_FSM, NULL);
	for (int i = 0; i < n; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
}

/* Pack tiles, or see whether that can be done */
static void
pack_task(void *arg, size_t begin, size_t end, int worker)
{
	PackWork   *w = arg;
	size_t		weight_size = hart_dtype_size(hart_format_dtype(w->format));

	for (size_t tile = begin; tile < end; tile++)
	{
		const char *weights = w->weights + tile * hart_tile_weights(w->format) * weight_size;
		int64		n = hart_weights_in_tile(w->format, w->n, tile);
		char	   *payload = w->payloads + tile * HART_PAYLOAD_SPACE;

		if (w->payloads == NULL)
			w->refused[tile] = !hart_tile_fits(w->format, weights, n);
		else
		{
			w->refused[tile] = !hart_pack_tile(w->format, weights, n, VARDATA(payload));
			SET_VARSIZE(payload, VARHDRSZ + hart_tile_size(w->format, n));
		}
	}
}

/* Pack the next tiles, as many as make a batch; returns how many, or -1 when one does not fit */
static int
pack_batch(HartFormat format, const char *weights, int64 n, char *payloads)
{
	PackWork	w = {.format = format, .weights = weights, .payloads = payloads};
	int			n_tiles;

	w.n = Min(n, HART_APPEND_BATCH * hart_tile_weights(format));
	n_tiles = (int) hart_tile_count(format, w.n);
	hart_run_parallel(n_tiles, TASK_TILES, pack_task, &w);
	for (int i = 0; i < n_tiles; i++)
		if (w.refused[i])
			return -1;
	return n_tiles;
}

/* hart.write_tiles(tiles regclass, model_id int, tensor_id int, first_tile int, data bytea) → number of tiles written */
Datum
hart_write_tiles(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	int32		model_id = PG_GETARG_INT32(1);
	int32		tensor_id = PG_GETARG_INT32(2);
	int32		first_tile = PG_GETARG_INT32(3);
	bytea	   *data = PG_GETARG_BYTEA_PP(4);
	const char *at = VARDATA_ANY(data);
	int64		left;			/* weights */
	int32		written = 0;
	Relation	rel;
	char	   *payloads = palloc(HART_APPEND_BATCH * HART_PAYLOAD_SPACE);
	HartFormat	format;
	size_t		weight_size;

	hart_check_version();
	PreventCommandIfReadOnly("hart.write_tiles()");
	format = check_own_ingest(model_id, tensor_id);
	weight_size = hart_dtype_size(hart_format_dtype(format));
	left = VARSIZE_ANY_EXHDR(data) / weight_size;
	if (VARSIZE_ANY_EXHDR(data) % weight_size != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%zu bytes are not a whole number of weights", VARSIZE_ANY_EXHDR(data)),
				 errhint("Pass whole tiles of the tensor, but for the last.")));
	rel = hart_open_incoming(relid, model_id);
	if (first_tile < 0 || first_tile > PG_INT32_MAX - hart_tile_count(format, left))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("tile %d is out of range", first_tile),
				 errhint("Tiles of a tensor are counted from 0.")));
	while (left > 0)
	{
		int			n = pack_batch(format, at, left, payloads);
		int64		packed;

		CHECK_FOR_INTERRUPTS();
		if (n < 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("weights do not fit the encoding of tensor %d", tensor_id),
					 errhint("The checkpoint changed while it was read; ingest it again.")));
		hart_append_tiles(rel, model_id, tensor_id, first_tile + written, payloads, n);
		packed = Min(left, n * hart_tile_weights(format));
		at += packed * weight_size;
		left -= packed;
		written += n;
	}

	table_close(rel, NoLock);
	pfree(payloads);
	PG_RETURN_INT32(written);
}

/* hart.fits_encoding(dtype text, encoding text, data bytea) → boolean: whether whole tiles of weights, but for the last, fit */
Datum
hart_fits_encoding(PG_FUNCTION_ARGS)
{
	HartFormat	format = hart_parse_format(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	bytea	   *data = PG_GETARG_BYTEA_PP(2);
	size_t		weight_size = hart_dtype_size(hart_format_dtype(format));
	int64		n = VARSIZE_ANY_EXHDR(data) / weight_size;
	int64		batch = HART_APPEND_BATCH * hart_tile_weights(format);

	for (int64 at = 0; at < n; at += batch)
	{
		CHECK_FOR_INTERRUPTS();
		if (pack_batch(format, VARDATA_ANY(data) + at * weight_size, n - at, NULL) < 0)
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}
