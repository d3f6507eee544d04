/*
 * embedding.c
 *	  The token embedding of a model, read straight from its tiles.
 */
#include "embedding.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "tensor.h"
#include "tile_table.h"

/* Shape and dtype as the catalog says, by a plan that the session keeps: a search for neighbors comes here twice */
static void
load_shape(HartEmbedding *e)
{
	static SPIPlanPtr plan = NULL;
	Datum		args[] = {Int32GetDatum(e->model_id)};
	bool		isnull;
	HeapTuple	row;
	TupleDesc	desc;
	int64		bytes;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (plan == NULL)
	{
		Oid			types[] = {INT4OID};
		SPIPlanPtr	new_plan = SPI_prepare("SELECT tensor_id, dtype, encoding, shape[1], shape[2], bytes FROM hart.tensors"
										   " WHERE model_id OPERATOR(pg_catalog.=) $1"
										   " AND name OPERATOR(pg_catalog.=) 'model.embed_tokens.weight'"
										   " AND pg_catalog.array_length(shape, 1) OPERATOR(pg_catalog.=) 2", 1, types);

		if (new_plan == NULL || SPI_keepplan(new_plan) != 0)
			elog(ERROR, "could not prepare to read the tensor catalog");
		plan = new_plan;
	}
	if (SPI_execute_plan(plan, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the tensor catalog");
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model number %d has no embedding", e->model_id),
				 errhint("SELECT model_id, name FROM hart.models lists the models.")));
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	e->range.tensor_id = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull));
	e->format = hart_parse_format(TextDatumGetCString(SPI_getbinval(row, desc, 2, &isnull)),
								  TextDatumGetCString(SPI_getbinval(row, desc, 3, &isnull)));
	e->rows = DatumGetInt32(SPI_getbinval(row, desc, 4, &isnull));
	e->cols = DatumGetInt32(SPI_getbinval(row, desc, 5, &isnull));
	bytes = DatumGetInt64(SPI_getbinval(row, desc, 6, &isnull));
	e->range.format = e->format;
	e->range.n = e->rows * e->cols;
	SPI_finish();
	if (e->rows < 0 || e->cols < 1 || e->range.n * (int64) hart_dtype_size(hart_format_dtype(e->format)) != bytes)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the embedding of model number %d has a shape that does not fit its bytes", e->model_id),
				 errhint("Drop the model and ingest it again.")));
}

HartEmbedding *
hart_embedding_open(int32 model_id)
{
	HartEmbedding *e = palloc0(sizeof(HartEmbedding));
	Oid			relid;

	hart_check_version();
	e->model_id = model_id;
	load_shape(e);
	relid = hart_tile_table(model_id);
	if (OidIsValid(relid))
	{
		LockRelationOid(relid, AccessShareLock);
		e->rel = try_relation_open(relid, NoLock);
	}
	if (e->rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table hart.tiles_%d does not exist", model_id),
				 errhint("CALL hart.drop_model and ingest the model again.")));
	hart_check_tile_table(e->rel);
	hart_check_tile_access(relid);
	e->outer = CurrentResourceOwner;
	e->owner = ResourceOwnerCreate(e->outer, "hart embedding");
	e->snapshot = GetActiveSnapshot();
	return e;
}

void
hart_embedding_close(HartEmbedding *e)
{
	if (e->lookup)
		hart_lookup_close(e->lookup);
	/* isCommit is false so that nothing held counts as leaked */
	ResourceOwnerRelease(e->owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, false);
	ResourceOwnerRelease(e->owner, RESOURCE_RELEASE_LOCKS, false, false);
	ResourceOwnerRelease(e->owner, RESOURCE_RELEASE_AFTER_LOCKS, false, false);
	ResourceOwnerDelete(e->owner);
	relation_close(e->rel, NoLock);
}

void
hart_embedding_check_row(const HartEmbedding *e, int64 row)
{
	if (row < 0 || row >= e->rows)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token id " INT64_FORMAT " is out of range", row),
				 errhint("Token ids of the model are counted from 0 to " INT64_FORMAT ".", e->rows - 1)));
}

void
hart_embedding_row(HartEmbedding *e, int64 row, float *out)
{
	int64		last_tile = hart_tile_of(e->format, (row + 1) * e->cols - 1);
	int64		col = 0;

	if (e->lookup == NULL)
		e->lookup = hart_lookup_open(e->rel, e->snapshot, e->model_id);
	while (col < e->cols)
	{
		int64		tile = hart_tile_of(e->format, row * e->cols + col);
		const char *payload = hart_lookup_tile(e->lookup, e->range.tensor_id, e->format, e->range.n, tile, last_tile);
		HartEmbeddingRows r = {e, &payload, tile};

		col += hart_embedding_widen_part(&r, row, col, e->cols - col, out + col);
	}
}

int64
hart_embedding_open_tiles(HartEmbedding *e)
{
	CurrentResourceOwner = e->owner;
	e->tiles = hart_tiles_open(e->rel, e->snapshot, e->model_id, &e->range, 1);
	CurrentResourceOwner = e->outer;
	return Max(1, hart_tiles_at_once(e->tiles) * hart_tile_weights(e->format) / e->cols - 1);
}

HartEmbeddingRows
hart_embedding_pin(HartEmbedding *e, int64 first_row, int64 n_rows)
{
	int64		first_tile = hart_tile_of(e->format, first_row * e->cols);
	int64		last_tile = hart_tile_of(e->format, (first_row + n_rows) * e->cols - 1);
	HartEmbeddingRows r = {.embedding = e, .first_tile = first_tile};

	CurrentResourceOwner = e->owner;
	r.payload = hart_tiles_pin(e->tiles, e->range.first + first_tile, last_tile - first_tile + 1);
	CurrentResourceOwner = e->outer;
	return r;
}

void
hart_embedding_unpin(HartEmbedding *e)
{
	CurrentResourceOwner = e->owner;
	hart_tiles_unpin(e->tiles);
	CurrentResourceOwner = e->outer;
}
