/*
 * weights_fdw.c
 *	  Entry points of the foreign data wrapper that shows tiles as rows.
 */
#include "weights_fdw.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(hart_weights_handler);
PG_FUNCTION_INFO_V1(hart_weights_validator);

static const char *const faces[] = {"weights", "relations", "atoms"};

static int
find_face(const char *name)
{
	for (int i = 0; i < (int) lengthof(faces); i++)
		if (strcmp(faces[i], name) == 0)
			return i;
	return -1;
}

/* Ensure a foreign table has the columns that the code fills */
static void
check_columns(Oid relid, HartFace face)
{
	/* the type of hart.computed_atoms.geom is that of an extension, and checked by its length alone */
	static const Oid types[][HART_RELATIONS_NATTS + 1] = {
		{TEXTOID, TEXTOID, INT4OID, INT4OID, FLOAT4OID, InvalidOid},
		{INT8OID, INT8OID, TEXTOID, INT4OID, INT8OID, TEXTOID, TEXTOID, FLOAT4OID, InvalidOid},
		{INT8OID, ANYOID, BYTEAOID, InvalidOid}
	};
	Relation	rel = table_open(relid, NoLock);
	TupleDesc	tupdesc = RelationGetDescr(rel);
	bool		good = true;
	int			n = 0;

	for (; OidIsValid(types[face][n]); n++)
		if (n >= tupdesc->natts || TupleDescAttr(tupdesc, n)->attisdropped ||
			(types[face][n] == ANYOID ? TupleDescAttr(tupdesc, n)->attlen != -1
			 : TupleDescAttr(tupdesc, n)->atttypid != types[face][n]))
			good = false;
	if (!good || tupdesc->natts != n)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_DATA_TYPE),
				 errmsg("foreign table \"%s\" does not have the columns of what it shows", RelationGetRelationName(rel)),
				 errhint("Use the foreign tables that the extension made.")));
	table_close(rel, NoLock);
}

HartFace
hart_face_of(Oid relid)
{
	ForeignTable *table = GetForeignTable(relid);
	ListCell   *cell;
	int			face = -1;

	foreach(cell, table->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "shows") == 0)
			face = find_face(defGetString(option));
	}
	if (face < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("foreign table \"%s\" has no option \"shows\"", get_rel_name(relid)),
				 errhint("Use the foreign tables that the extension made.")));
	check_columns(relid, (HartFace) face);
	return (HartFace) face;
}

/* hart.weights_validator(options text[], catalog oid) */
Datum
hart_weights_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (catalog != ForeignTableRelationId || strcmp(option->defname, "shows") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" does not exist", option->defname),
					 errhint("Foreign tables have the option shows; wrapper and server have none.")));
		if (find_face(defGetString(option)) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("invalid value for option \"%s\": \"%s\"", option->defname, defGetString(option)),
					 errhint("It is weights, relations or atoms.")));
	}
	PG_RETURN_VOID();
}

/* Rows cannot be locked: they are parts of rows of other tables. NONE is what the other tables of an UPDATE ask for. */
static RowMarkType
row_mark_type(RangeTblEntry *rte, LockClauseStrength strength)
{
	if (strength != LCS_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rows of \"%s\" cannot be locked", get_rel_name(rte->relid)),
				 errhint("Lock rows of hart.tiles, which hold the weights.")));
	return ROW_MARK_COPY;
}

/* hart.weights_handler() → fdw_handler */
Datum
hart_weights_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = hart_get_rel_size;
	routine->GetForeignPaths = hart_get_paths;
	routine->GetForeignPlan = hart_get_plan;
	routine->BeginForeignScan = hart_begin_scan;
	routine->IterateForeignScan = hart_iterate_scan;
	routine->ReScanForeignScan = hart_rescan;
	routine->EndForeignScan = hart_end_scan;
	routine->ExplainForeignScan = hart_explain_scan;
	routine->GetForeignRowMarkType = row_mark_type;
	hart_modify_routines(routine);
	PG_RETURN_POINTER(routine);
}
