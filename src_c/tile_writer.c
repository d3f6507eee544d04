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
#include "utils/rel.h"

#include "tile_reader.h"
#include "tile_table.h"

PG_FUNCTION_INFO_V1(hart_write_tiles);

#define INSERT_BATCH 64			/* tuples, and pages, a heap_multi_insert */

/* Ensure this session is ingesting the model; a call writes megabytes, so a query is cheap */
static void
check_own_ingest(int32 model_id)
{
	Oid			types[] = {INT4OID, REGROLEOID};
	Datum		args[] = {Int32GetDatum(model_id), ObjectIdGetDatum(GetUserId())};

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT hart.check_own_ingest($1, $2)", 2, types, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not check the ingest");
	SPI_finish();
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
	int64		left = VARSIZE_ANY_EXHDR(data);
	int32		written = 0;
	Relation	rel;
	TupleTableSlot *slots[INSERT_BATCH];
	bytea	   *payload = palloc(VARHDRSZ + HART_TILE_BYTES);
	CommandId	cid = GetCurrentCommandId(true);
	int			options = HEAP_INSERT_FROZEN | HEAP_INSERT_SKIP_FSM;

	hart_check_version();
	PreventCommandIfReadOnly("hart.write_tiles()");
	check_own_ingest(model_id);
	rel = table_open(relid, RowExclusiveLock);
	check_target(rel, model_id);
	if (first_tile < 0 || first_tile > PG_INT32_MAX - hart_tile_count(left))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("tile %d is out of range", first_tile),
				 errhint("Tiles of a tensor are counted from 0.")));
	for (int i = 0; i < INSERT_BATCH; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);

	while (left > 0)
	{
		int			n = 0;

		CHECK_FOR_INTERRUPTS();
		for (; n < INSERT_BATCH && left > 0; n++)
		{
			int64		bytes = Min(left, HART_TILE_BYTES);
			Datum		values[4] = {Int32GetDatum(model_id), Int32GetDatum(tensor_id),
			Int32GetDatum(first_tile + written + n), PointerGetDatum(payload)};
			bool		nulls[4] = {false, false, false, false};

			SET_VARSIZE(payload, VARHDRSZ + bytes);
			memcpy(VARDATA(payload), at, bytes);
			ExecStoreHeapTuple(heap_form_tuple(RelationGetDescr(rel), values, nulls), slots[n], true);
			at += bytes;
			left -= bytes;
		}
		heap_multi_insert(rel, slots, n, cid, options, NULL);
		written += n;
		for (int i = 0; i < n; i++)
			ExecClearTuple(slots[i]);
	}

	for (int i = 0; i < INSERT_BATCH; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	table_close(rel, NoLock);
	pfree(payload);
	PG_RETURN_INT32(written);
}
