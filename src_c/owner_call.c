/*
 * owner_call.c
 *	  Functions that do for a role what it may not do itself.
 *
 * Inside a SECURITY DEFINER function nothing tells who called it: the session's role and the role outside of all such functions may be
 * those of somebody who fired a trigger unknowingly, or who called another's SECURITY DEFINER function.  So each of these functions is a pair.
 * The one that everybody calls is in C and runs with the rights of the current role; it calls the other, of the same name, with that role in
 * front of the arguments.  That one is SECURITY DEFINER, judges the role that it is given, and nobody else may execute it.
 */
#include "hartonomous.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(hart_call_as_owner);

/* The function of the same name and arguments behind a role */
static Oid
function_with_role(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	Oid			types[FUNC_MAX_ARGS];
	Oid			found = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->pronargs < FUNC_MAX_ARGS)
	{
		types[0] = REGROLEOID;
		memcpy(types + 1, form->proargtypes.values, form->pronargs * sizeof(Oid));
		found = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, NameGetDatum(&form->proname),
								PointerGetDatum(buildoidvector(types, form->pronargs + 1)), ObjectIdGetDatum(form->pronamespace));
	}
	if (!OidIsValid(found))
		elog(ERROR, "function %s with a role in front does not exist", NameStr(form->proname));
	ReleaseSysCache(tuple);
	return found;
}

/* hart.NAME(…): hart.NAME(current_user, …) with the rights of its owner */
Datum
hart_call_as_owner(PG_FUNCTION_ARGS)
{
	FmgrInfo   *function = fcinfo->flinfo->fn_extra;
	Datum		result;

	LOCAL_FCINFO(call, FUNC_MAX_ARGS);

	if (function == NULL)
	{
		function = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(function_with_role(fcinfo->flinfo->fn_oid), function, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = function;
	}
	/* not through a query, so that the right to execute it is not asked of the current role */
	InitFunctionCallInfoData(*call, function, PG_NARGS() + 1, PG_GET_COLLATION(), NULL, NULL);
	call->args[0] = (NullableDatum) {ObjectIdGetDatum(GetUserId()), false};
	memcpy(call->args + 1, fcinfo->args, PG_NARGS() * sizeof(NullableDatum));
	result = FunctionCallInvoke(call);
	fcinfo->isnull = call->isnull;
	return result;
}
