/*
 * tile_convert.c
 *	  A tensor whose weights no longer fit their encoding becomes a plain one.
 *
 * Whoever changes weights of a packed tensor holds a share lock on its row in hart.tensors; whoever makes the tensor plain
 * updates that row, and so waits for the others, and they for it. The tiles are deleted and written anew in the same
 * transaction: every snapshot sees either the one encoding and its tiles or the other.
 *
 * Changing a weight takes UPDATE on the tiles and no more, so what else is done runs with the rights of the tables' owners,
 * as the actions of foreign keys do.
 */
#include "tile_convert.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "tile_table.h"

PG_FUNCTION_INFO_V1(hart_lock_encoding_sql);
PG_FUNCTION_INFO_V1(hart_make_plain_sql);

#define WHICH " WHERE model_id OPERATOR(pg_catalog.=) $1 AND tensor_id OPERATOR(pg_catalog.=) $2"

/* A packed tensor on its way to being plain */
typedef struct Conversion
{
	int32		model_id;
	int32		tensor_id;
	HartFormat	from;
	HartFormat	to;
	int64		n;				/* weights */
	int64		group;			/* tiles as they are that make up whole tiles as they will be */
} Conversion;

typedef struct TableOwner
{
	Oid			user;
	int			context;
} TableOwner;

/* Go on with the rights of a table's owner; an error ends that too */
static TableOwner
become_owner(Oid relid)
{
	TableOwner	before;
	Relation	rel = relation_open(relid, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	relation_close(rel, NoLock);
	GetUserIdAndSecContext(&before.user, &before.context);
	SetUserIdAndSecContext(owner, before.context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	return before;
}

static void
become_again(TableOwner before)
{
	SetUserIdAndSecContext(before.user, before.context);
}

/* The model's table, whose weights the current user may change */
static Oid
table_to_change(int32 model_id)
{
	Oid			relid = hart_tile_table(model_id);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table hart.tiles_%d does not exist", model_id),
				 errhint("CALL hart.drop_model and ingest the model again.")));
	if (pg_class_aclcheck(relid, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck(relid, HART_TILES_PAYLOAD, GetUserId(), ACL_UPDATE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(relid));
	return relid;
}

/* Run a query on model and tensor, connected to SPI */
static uint64
run(const char *query, int expected, int32 model_id, int32 tensor_id)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		args[] = {Int32GetDatum(model_id), Int32GetDatum(tensor_id)};

	if (SPI_execute_with_args(query, lengthof(types), types, args, NULL, false, 0) != expected)
		elog(ERROR, "could not read or write the tensor catalog");
	return SPI_processed;
}

/* Format and number of weights of a tensor as they are now, with a lock on its row */
static HartFormat
lock_tensor(const char *lock, int32 model_id, int32 tensor_id, int64 *n)
{
	HartFormat	format;
	bool		isnull;
	HeapTuple	row;
	TupleDesc	tupdesc;

	if (run(psprintf("SELECT dtype, encoding, bytes FROM hart.tensors" WHICH " FOR %s", lock), SPI_OK_SELECT, model_id, tensor_id) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model number %d has no tensor %d", model_id, tensor_id),
				 errhint("Tensors are numbered in hart.tensors.")));
	row = SPI_tuptable->vals[0];
	tupdesc = SPI_tuptable->tupdesc;
	format = hart_parse_format(SPI_getvalue(row, tupdesc, 1), SPI_getvalue(row, tupdesc, 2));
	*n = DatumGetInt64(SPI_getbinval(row, tupdesc, 3, &isnull)) / (int64) hart_dtype_size(hart_format_dtype(format));
	return format;
}

static Oid
tensor_table(void)
{
	return get_relname_relid("tensors", get_namespace_oid("hart", false));
}

HartFormat
hart_lock_encoding(int32 model_id, int32 tensor_id)
{
	TableOwner	before;
	HartFormat	format;
	int64		n;

	(void) table_to_change(model_id);
	before = become_owner(tensor_table());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	format = lock_tensor("SHARE", model_id, tensor_id, &n);
	SPI_finish();
	become_again(before);
	return format;
}

/* Take a group of tiles out of the table, unpacked, one after the other */
static void
take_tiles(const Conversion *c, int64 first, int64 n_tiles, char *weights)
{
	Oid			types[] = {INT4OID, INT4OID, INT4OID, INT4OID};
	Datum		args[] = {Int32GetDatum(c->model_id), Int32GetDatum(c->tensor_id), Int32GetDatum((int32) first),
	Int32GetDatum((int32) (first + n_tiles - 1))};
	size_t		weight_size = hart_dtype_size((HartDtype) c->to);

	if (SPI_execute_with_args(psprintf("DELETE FROM hart.tiles_%d" WHICH " AND tile_no OPERATOR(pg_catalog.>=) $3"
									   " AND tile_no OPERATOR(pg_catalog.<=) $4 RETURNING tile_no, payload", c->model_id),
							  lengthof(types), types, args, NULL, false, 0) != SPI_OK_DELETE_RETURNING)
		elog(ERROR, "could not delete tiles");
	if (SPI_processed != (uint64) n_tiles)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(UINT64_FORMAT " of " INT64_FORMAT " tiles of tensor %d were rewritten", SPI_processed, n_tiles, c->tensor_id),
				 errhint("The others were deleted, or a trigger on hart.tiles_%d keeps them.", c->model_id)));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int32		tile = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		bytea	   *payload = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		bytea	   *unpacked = hart_unpacked_tile(c->from, payload);
		size_t		bytes = hart_weights_in_tile(c->from, c->n, tile) * weight_size;

		if (VARSIZE_ANY_EXHDR(unpacked) != bytes)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("tile %d of tensor %d of model number %d is of a wrong length", tile, c->tensor_id, c->model_id),
					 errhint("Restore the model's tiles, or drop the model and ingest it again.")));
		memcpy(weights + (tile - first) * hart_tile_weights(c->from) * weight_size, VARDATA_ANY(unpacked), bytes);
		pfree(unpacked);
	}
}

/* Write n weights as plain tiles */
static void
put_tiles(const Conversion *c, int64 first, int64 n, const char *weights)
{
	Oid			types[] = {INT4OID, INT4OID, INT4ARRAYOID, BYTEAARRAYOID};
	size_t		weight_size = hart_dtype_size((HartDtype) c->to);
	int			n_tiles = (int) hart_tile_count(c->to, n);
	Datum	   *numbers = palloc(sizeof(Datum) * n_tiles);
	Datum	   *payloads = palloc(sizeof(Datum) * n_tiles);
	Datum		args[4] = {Int32GetDatum(c->model_id), Int32GetDatum(c->tensor_id)};

	for (int i = 0; i < n_tiles; i++)
	{
		size_t		bytes = hart_weights_in_tile(c->to, n, i) * weight_size;
		bytea	   *payload = palloc(VARHDRSZ + bytes);

		SET_VARSIZE(payload, VARHDRSZ + bytes);
		memcpy(VARDATA(payload), weights + i * hart_tile_weights(c->to) * weight_size, bytes);
		numbers[i] = Int32GetDatum((int32) (first + i));
		payloads[i] = PointerGetDatum(payload);
	}
	args[2] = PointerGetDatum(construct_array(numbers, n_tiles, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	args[3] = PointerGetDatum(construct_array(payloads, n_tiles, BYTEAOID, -1, false, TYPALIGN_INT));
	/* unnest of two arrays is PostgreSQL's own, whatever the search path */
	if (SPI_execute_with_args(psprintf("INSERT INTO hart.tiles_%d (model_id, tensor_id, tile_no, payload)"
									   " SELECT $1, $2, p.tile_no, p.payload FROM unnest($3, $4) AS p (tile_no, payload)", c->model_id),
							  lengthof(types), types, args, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert tiles");
	if (SPI_processed != (uint64) n_tiles)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(UINT64_FORMAT " of %d tiles of tensor %d were written", SPI_processed, n_tiles, c->tensor_id),
				 errhint("A trigger on hart.tiles_%d keeps the others.", c->model_id)));
}

/* Tiles as they are whose weights fill whole tiles as they will be */
static int64
tiles_of_group(HartFormat from, HartFormat to)
{
	int64		a = hart_tile_weights(from);
	int64		b = hart_tile_weights(to);

	while (b != 0)
	{
		int64		rest = a % b;

		a = b;
		b = rest;
	}
	return hart_tile_weights(to) / a;
}

/*
 * Rewrite the tiles, a group at a time, the last ones first: packed tiles hold more, so that a plain tile's number is never below
 * that of the packed tile its weights come from, and the numbers still in use are below those written.
 */
static void
rewrite_tiles(const Conversion *c)
{
	int64		n_tiles = hart_tile_count(c->from, c->n);
	int64		group_weights = c->group * hart_tile_weights(c->from);

	Assert(hart_tile_weights(c->from) >= hart_tile_weights(c->to));
	for (int64 g = (n_tiles - 1) / c->group; g >= 0 && n_tiles > 0; g--)
	{
		int64		n = Min(group_weights, c->n - g * group_weights);
		char	   *weights;

		CHECK_FOR_INTERRUPTS();
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		weights = palloc(n * hart_dtype_size((HartDtype) c->to));
		take_tiles(c, g * c->group, Min(c->group, n_tiles - g * c->group), weights);
		put_tiles(c, g * group_weights / hart_tile_weights(c->to), n, weights);
		SPI_finish();
	}
}

void
hart_make_plain(int32 model_id, int32 tensor_id)
{
	Conversion	c = {.model_id = model_id, .tensor_id = tensor_id};
	Oid			tiles = table_to_change(model_id);
	TableOwner	before = become_owner(tensor_table());

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	c.from = lock_tensor("NO KEY UPDATE", model_id, tensor_id, &c.n);
	c.to = (HartFormat) hart_format_dtype(c.from);
	if (c.from != c.to)
		run("UPDATE hart.tensors SET encoding = 'plain', n_tiles = hart.tile_count('plain', bytes)" WHICH, SPI_OK_UPDATE, model_id, tensor_id);
	SPI_finish();
	become_again(before);
	if (c.from == c.to)
		return;
	c.group = tiles_of_group(c.from, c.to);
	before = become_owner(tiles);
	rewrite_tiles(&c);
	become_again(before);
}

/* hart.lock_encoding(model_id int, tensor_id int) → text */
Datum
hart_lock_encoding_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(hart_encoding_name(hart_lock_encoding(PG_GETARG_INT32(0), PG_GETARG_INT32(1)))));
}

/* hart.make_plain(model_id int, tensor_id int) */
Datum
hart_make_plain_sql(PG_FUNCTION_ARGS)
{
	hart_make_plain(PG_GETARG_INT32(0), PG_GETARG_INT32(1));
	PG_RETURN_VOID();
}
