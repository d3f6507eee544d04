/*
 * weights_fdw_catalog.c
 *	  Models and tensors for the foreign data wrapper, and who may read them.
 */
#include "weights_fdw.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "tensor.h"
#include "tile_table.h"

#define NAMED "r.state OPERATOR(pg_catalog.=) 'ready'" \
	" AND ($1 IS NULL OR r.name OPERATOR(pg_catalog.=) ANY ($1))" \
	" AND ($2 IS NULL OR t.name OPERATOR(pg_catalog.=) ANY ($2))"

static const char *const queries[] = {
	"SELECT r.model_id, r.name, t.tensor_id, t.name, t.dtype, t.shape, t.bytes, t.encoding"
	" FROM hart.model_registry r JOIN hart.tensors t ON t.model_id OPERATOR(pg_catalog.=) r.model_id"
	" WHERE " NAMED " ORDER BY r.model_id, t.tensor_id",

	"SELECT r.model_id, r.name, t.tensor_id, t.name, t.dtype, t.shape, t.bytes, t.encoding,"
	" o.relation_type, o.parent_space, o.child_space, p.key, c.key, o.atom_id"
	" FROM hart.model_registry r JOIN hart.tensors t ON t.model_id OPERATOR(pg_catalog.=) r.model_id"
	" LEFT JOIN hart.tensor_roles o ON o.model_id OPERATOR(pg_catalog.=) t.model_id AND o.tensor_id OPERATOR(pg_catalog.=) t.tensor_id"
	" LEFT JOIN hart.neuron_spaces p ON p.model_id OPERATOR(pg_catalog.=) t.model_id AND p.space OPERATOR(pg_catalog.=) o.parent_space"
	" LEFT JOIN hart.neuron_spaces c ON c.model_id OPERATOR(pg_catalog.=) t.model_id AND c.space OPERATOR(pg_catalog.=) o.child_space"
	" WHERE " NAMED " ORDER BY r.model_id, t.tensor_id"
};

/* The plan of a query, made once a session; the same for all values, since the tables are small */
static SPIPlanPtr
saved_plan(bool with_roles)
{
	static SPIPlanPtr plans[lengthof(queries)];
	SPIPlanPtr *plan = &plans[with_roles];
	Oid			types[] = {TEXTARRAYOID, TEXTARRAYOID};

	if (*plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare_cursor(queries[with_roles], 2, types, CURSOR_OPT_GENERIC_PLAN);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare the query of the tensor catalog");
		*plan = made;
	}
	return *plan;
}

static Datum
column(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* The same where the schema or the query has it NOT NULL */
static Datum
value(uint64 row, int n)
{
	bool		isnull;
	Datum		datum = column(row, n, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("column \"%s\" of the model catalog is null", SPI_fname(SPI_tuptable->tupdesc, n)),
				 errhint("Drop the model and ingest it again.")));
	return datum;
}

static text *
text_value(uint64 row, int n, MemoryContext memory)
{
	text	   *datum = DatumGetTextPP(value(row, n));
	Size		size = VARSIZE_ANY(datum);

	return memcpy(MemoryContextAlloc(memory, size), datum, size);
}

static bool
is_null(uint64 row, int n)
{
	bool		isnull;

	(void) column(row, n, &isnull);
	return isnull;
}

static void
load_roles(HartCatalogTensor *tensor, uint64 row, MemoryContext memory)
{
	if (is_null(row, 9))
		return;
	tensor->relation_type = text_value(row, 9, memory);
	tensor->from_tokens = is_null(row, 10);
	tensor->to_tensor = is_null(row, 11);
	/* hart.tensor_roles: what is a vector leads from a space to itself or to the tensor */
	tensor->is_vector = tensor->to_tensor ||
		(!tensor->from_tokens && DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, value(row, 10), value(row, 11))));
	if (!tensor->from_tokens)
		tensor->parent_key = (uint64) DatumGetInt64(value(row, 12));
	if (tensor->to_tensor)
		tensor->tensor_atom = DatumGetInt64(value(row, 14));
	else
		tensor->child_key = (uint64) DatumGetInt64(value(row, 13));
}

static void
load_tensor(HartCatalogTensor *tensor, uint64 row, bool with_roles, MemoryContext memory)
{
	int64		bytes = DatumGetInt64(value(row, 7));

	tensor->tensor_id = DatumGetInt32(value(row, 3));
	tensor->name = text_value(row, 4, memory);
	tensor->format = hart_parse_format(TextDatumGetCString(value(row, 5)), TextDatumGetCString(value(row, 8)));
	tensor->dtype = hart_format_dtype(tensor->format);
	if (!hart_tensor_shape(DatumGetArrayTypeP(value(row, 6)), tensor->dtype, bytes, &tensor->rows, &tensor->cols) ||
		tensor->rows > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("tensor \"%s\" of model \"%s\" has a shape that does not fit its " INT64_FORMAT " bytes",
						text_to_cstring(tensor->name), text_to_cstring(tensor->model->name), bytes),
				 errhint("Drop the model and ingest it again.")));
	if (with_roles)
		load_roles(tensor, row, memory);
}

static Datum
text_array(List *texts)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(texts), 1));
	ListCell   *cell;

	foreach(cell, texts)
		values[foreach_current_index(cell)] = PointerGetDatum(lfirst(cell));
	return PointerGetDatum(construct_array(values, list_length(texts), TEXTOID, -1, false, TYPALIGN_INT));
}

HartCatalog *
hart_catalog_load(Snapshot snapshot, List *models, List *tensors, bool with_roles)
{
	HartCatalog *catalog = palloc0(sizeof(HartCatalog));
	MemoryContext memory = CurrentMemoryContext;
	Datum		args[2] = {models ? text_array(models) : (Datum) 0, tensors ? text_array(tensors) : (Datum) 0};
	char		nulls[3] = {models ? ' ' : 'n', tensors ? ' ' : 'n', '\0'};

	catalog->snapshot = snapshot;
	catalog->memory = memory;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(snapshot);
	if (SPI_execute_plan(saved_plan(with_roles), args, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the tensor catalog");
	PopActiveSnapshot();
	catalog->n_tensors = (int) SPI_processed;
	catalog->tensors = MemoryContextAllocZero(memory, sizeof(HartCatalogTensor) * Max(catalog->n_tensors, 1));
	/* tensors point to their models, so these must not move */
	catalog->models = MemoryContextAllocZero(memory, sizeof(HartCatalogModel) * Max(catalog->n_tensors, 1));
	for (int i = 0; i < catalog->n_tensors; i++)
	{
		int32		model_id = DatumGetInt32(value(i, 1));

		if (i == 0 || catalog->models[catalog->n_models - 1].model_id != model_id)
		{
			HartCatalogModel *model = &catalog->models[catalog->n_models++];

			model->model_id = model_id;
			model->name = text_value(i, 2, memory);
		}
		catalog->tensors[i].model = &catalog->models[catalog->n_models - 1];
		load_tensor(&catalog->tensors[i], i, with_roles, memory);
	}
	SPI_finish();
	return catalog;
}

void
hart_catalog_close(HartCatalog *catalog)
{
	for (int i = 0; i < catalog->n_models; i++)
	{
		HartCatalogModel *model = &catalog->models[i];

		if (model->lookup)
			hart_lookup_close(model->lookup);
		/* the lock stays to the end of the transaction */
		if (model->rel)
			relation_close(model->rel, NoLock);
		model->lookup = NULL;
		model->rel = NULL;
	}
}

static bool
hides_rows(Oid relid)
{
	return OidIsValid(relid) && check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED;
}

bool
hart_catalog_may_read(HartCatalogModel *model, bool named)
{
	/* what was passed over before is refused now if the query names it */
	if (model->access == HART_UNCHECKED || (named && model->access == HART_REFUSED))
	{
		Oid			relid = hart_tile_table(model->model_id);

		model->access = HART_REFUSED;
		if (!OidIsValid(relid))
		{
			if (named)
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_TABLE),
						 errmsg("table hart.tiles_%d of model \"%s\" does not exist", model->model_id, text_to_cstring(model->name)),
						 errhint("CALL hart.drop_model and ingest the model again.")));
		}
		else if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		{
			if (named)
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("permission denied for model \"%s\"", text_to_cstring(model->name)),
						 errhint("Its owner can GRANT SELECT ON hart.tiles_%d to you.", model->model_id)));
		}
		else if (hides_rows(relid) || hides_rows(get_relname_relid("tiles", get_namespace_oid("hart", false))))
		{
			if (named)
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("row-level security hides tiles of table \"%s\" from this role", get_rel_name(relid)),
						 errhint("A model is read as a whole: grant or revoke SELECT on its table instead.")));
		}
		else
			model->access = HART_READABLE;
	}
	return model->access == HART_READABLE;
}

HartTileLookup *
hart_catalog_lookup(HartCatalog *catalog, HartCatalogModel *model)
{
	MemoryContext old;
	Oid			relid;

	if (model->lookup)
		return model->lookup;
	relid = hart_tile_table(model->model_id);
	if (OidIsValid(relid))
	{
		LockRelationOid(relid, AccessShareLock);
		model->rel = try_relation_open(relid, NoLock);
	}
	if (model->rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table hart.tiles_%d of model \"%s\" does not exist", model->model_id, text_to_cstring(model->name)),
				 errhint("The model was dropped while it was read.")));
	hart_check_tile_table(model->rel);
	old = MemoryContextSwitchTo(catalog->memory);
	model->lookup = hart_lookup_open(model->rel, catalog->snapshot, model->model_id);
	MemoryContextSwitchTo(old);
	return model->lookup;
}
