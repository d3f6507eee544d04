/*
 * hartonomous.c
 *	  Loading of the library, and the check that it fits the catalog.
 */
#include "hartonomous.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#if PG_VERSION_NUM < 140000
#error "hartonomous needs PostgreSQL 14 or later"
#endif
#if BLCKSZ != 8192
#error "hartonomous needs PostgreSQL built with 8 kB blocks"
#endif

PG_MODULE_MAGIC;

void		_PG_init(void);

PG_FUNCTION_INFO_V1(hart_library_version);
PG_FUNCTION_INFO_V1(hart_python_path);

void
_PG_init(void)
{
	hart_settings_init();
	hart_context_init();
	hart_large_memory_init();
	hart_modify_init();
}

/* The installed version of the extension, NULL when it is not installed. */
static char *
catalog_version(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("hartonomous"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		if (!isnull)
			version = TextDatumGetCString(datum);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

void
hart_check_version(void)
{
	char	   *version = catalog_version();

	if (version == NULL || strcmp(version, HART_VERSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("hartonomous library version %s does not match extension version %s",
						HART_VERSION, version ? version : "none"),
				 errhint("Run ALTER EXTENSION hartonomous UPDATE, and reconnect if the library was replaced.")));
	pfree(version);
}

/* hart.library_version() → text */
Datum
hart_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(HART_VERSION));
}

/* hart.python_path() → text: where this server keeps the Python packages of the extension */
Datum
hart_python_path(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s/hartonomous/python", pkglib_path)));
}
