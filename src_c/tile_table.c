/*
 * tile_table.c
 *	  The table that holds a model's tiles, hart.tiles_<model_id>.
 */
#include "tile_table.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

Oid
hart_tile_table(int32 model_id)
{
	return get_relname_relid(psprintf("tiles_%d", model_id), get_namespace_oid("hart", false));
}

static bool
has_tile_columns(TupleDesc tupdesc)
{
	static const Oid types[] = {INT4OID, INT4OID, INT4OID, BYTEAOID};

	if (tupdesc->natts != lengthof(types))
		return false;
	for (int i = 0; i < tupdesc->natts; i++)
		if (TupleDescAttr(tupdesc, i)->attisdropped || TupleDescAttr(tupdesc, i)->atttypid != types[i])
			return false;
	return true;
}

void
hart_check_tile_table(Relation rel)
{
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_tableam != GetHeapamTableAmRoutine())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is not a heap", RelationGetRelationName(rel)),
				 errhint("Tiles are read in place and must be in an ordinary table: ALTER TABLE … SET ACCESS METHOD heap.")));
	if (!has_tile_columns(RelationGetDescr(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("\"%s\" does not have the columns of hart.tiles", RelationGetRelationName(rel)),
				 errhint("A table of tiles has the columns model_id, tensor_id, tile_no and payload, in that order and no others.")));
}

static void
check_no_row_security(Oid relid)
{
	if (check_enable_rls(relid, InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row-level security hides tiles of table \"%s\" from this role", get_rel_name(relid)),
				 errhint("A model runs as a whole: grant or revoke SELECT on its table instead.")));
}

void
hart_check_tile_access(Oid relid)
{
	Oid			parent = get_relname_relid("tiles", get_namespace_oid("hart", false));

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", get_rel_name(relid)),
				 errhint("GRANT SELECT ON hart.%s to the role that runs the model.", get_rel_name(relid))));
	check_no_row_security(relid);
	if (OidIsValid(parent))
		check_no_row_security(parent);
}
