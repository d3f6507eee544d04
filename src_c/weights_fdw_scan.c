/*
 * weights_fdw_scan.c
 *	  Scans of hart.weights, hart.weight_relations and hart.computed_atoms.
 */
#include "weights_fdw.h"

#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"

#include "atom_id.h"

bool
hart_scan_needs(const HartScan *scan, AttrNumber attnum)
{
	/* 0 is the whole row */
	return bms_is_member(0, scan->attributes) || bms_is_member(attnum, scan->attributes);
}

void
hart_begin_scan(ForeignScanState *node, int eflags)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	EState	   *estate = node->ss.ps.state;
	HartScan   *scan;
	ListCell   *cell;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	hart_check_version();
	scan = palloc0(sizeof(HartScan));
	node->fdw_state = scan;
	scan->face = (HartFace) intVal(list_nth(plan->fdw_private, HART_PLAN_FACE));
	scan->conditions = list_nth(plan->fdw_private, HART_PLAN_CONDITIONS);
	scan->values = ExecInitExprList(plan->fdw_exprs, &node->ss.ps);
	foreach(cell, (List *) list_nth(plan->fdw_private, HART_PLAN_ATTRIBUTES))
		scan->attributes = bms_add_member(scan->attributes, lfirst_int(cell));
	foreach(cell, plan->fdw_exprs)
	{
		Node	   *value = lfirst(cell);

		if (list_nth_int(scan->conditions, 3 * foreach_current_index(cell)) == HART_COLUMN_MODEL &&
			(IsA(value, Const) || (IsA(value, Param) && ((Param *) value)->paramkind == PARAM_EXTERN)))
			scan->names_model = true;
	}
	scan->snapshot = estate->es_snapshot;
	scan->memory = AllocSetContextCreate(estate->es_query_cxt, "hart scan", ALLOCSET_DEFAULT_SIZES);
	scan->pass_memory = AllocSetContextCreate(scan->memory, "hart scan pass", ALLOCSET_SMALL_SIZES);
	scan->row_memory = AllocSetContextCreate(scan->memory, "hart scan row", ALLOCSET_SMALL_SIZES);
}

/* ---- The catalog ---- */

static bool
same_texts(const List *a, const List *b)
{
	if (list_length(a) != list_length(b))
		return false;
	for (int i = 0; i < list_length(a); i++)
	{
		const text *x = list_nth(a, i);
		const text *y = list_nth(b, i);

		if (VARSIZE_ANY_EXHDR(x) != VARSIZE_ANY_EXHDR(y) || memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) != 0)
			return false;
	}
	return true;
}

static List *
copied_texts(const List *texts)
{
	List	   *copy = NIL;
	ListCell   *cell;

	foreach(cell, texts)
		copy = lappend(copy, DatumGetTextPCopy(PointerGetDatum(lfirst(cell))));
	return copy;
}

static int64
count_tiles(const HartCatalog *catalog)
{
	int64		n = 0;

	for (int i = 0; catalog && i < catalog->n_models; i++)
		if (catalog->models[i].lookup)
			n += hart_lookup_count(catalog->models[i].lookup);
	return n;
}

int64
hart_scan_tiles(const HartScan *scan)
{
	return scan->n_tiles + count_tiles(scan->catalog);
}

static void
close_catalog(HartScan *scan)
{
	if (scan->catalog == NULL)
		return;
	scan->n_tiles += count_tiles(scan->catalog);
	hart_catalog_close(scan->catalog);
	scan->catalog = NULL;
}

void
hart_scan_load_catalog(HartScan *scan, bool with_roles)
{
	const HartRestriction *restriction = &scan->restriction;
	List	   *models = restriction->texts[HART_COLUMN_MODEL];
	List	   *tensors = restriction->texts[HART_COLUMN_TENSOR];
	MemoryContext old;
	bool		again = scan->catalog != NULL;

	if (again && (scan->catalog_is_whole || (same_texts(models, scan->catalog_models) && same_texts(tensors, scan->catalog_tensors))))
		return;
	close_catalog(scan);
	old = MemoryContextSwitchTo(scan->memory);
	/* who asks for other names at each pass gets them all */
	scan->catalog_is_whole = again || (models == NIL && tensors == NIL);
	scan->catalog_models = again ? NIL : copied_texts(models);
	scan->catalog_tensors = again ? NIL : copied_texts(tensors);
	scan->catalog = hart_catalog_load(scan->snapshot, scan->catalog_models, scan->catalog_tensors, with_roles);
	scan->walk.values = NULL;
	scan->tokens = (HartTokenAtoms) {0};
	MemoryContextSwitchTo(old);
}

/* ---- A pass ---- */

static void
evaluate_conditions(HartScan *scan, ExprContext *econtext)
{
	ListCell   *cell;

	memset(&scan->restriction, 0, sizeof(scan->restriction));
	ResetExprContext(econtext);
	foreach(cell, scan->values)
	{
		int			i = 3 * foreach_current_index(cell);
		bool		isnull;
		Datum		value = ExecEvalExprSwitchContext(lfirst(cell), econtext, &isnull);

		hart_restrict(&scan->restriction, list_nth_int(scan->conditions, i), list_nth_int(scan->conditions, i + 1),
					  (Oid) list_nth_int(scan->conditions, i + 2), value, isnull);
	}
}

static void
start_pass(HartScan *scan, ExprContext *econtext)
{
	MemoryContext old = MemoryContextSwitchTo(scan->pass_memory);

	evaluate_conditions(scan, econtext);
	hart_scan_load_catalog(scan, scan->face == HART_SHOWS_RELATIONS);
	if (scan->face != HART_SHOWS_ATOMS)
		scan->jobs = hart_make_jobs(scan->catalog, &scan->restriction, scan->face, false, &scan->n_jobs);
	MemoryContextSwitchTo(old);
	scan->job = 0;
	scan->in_job = false;
	scan->at = scan->n = 0;
	scan->started = true;
}

/* The parent of all weights of a run in a matrix; 0 when it belongs to no token */
static int64
parent_of_row(HartScan *scan, const HartJob *job)
{
	HartCatalogTensor *tensor = job->tensor;

	if (tensor->is_vector || !hart_scan_needs(scan, HART_RELATIONS_PARENT))
		return 0;
	if (tensor->from_tokens)
		return hart_token_atom(&scan->tokens, scan->catalog, tensor->model, scan->row, job->rows->ranges[scan->walk.row_range].last);
	return hart_atom_of_neuron(tensor->parent_key, (uint32) scan->row);
}

/* Have the next run of weights; false at the end */
static bool
next_run(HartScan *scan)
{
	for (;;)
	{
		HartJob    *job;

		CHECK_FOR_INTERRUPTS();
		if (scan->in_job)
		{
			job = &scan->jobs[scan->job];
			if (hart_walk_next(&scan->walk, &scan->row, &scan->col, &scan->n))
			{
				scan->at = 0;
				if (scan->face == HART_SHOWS_RELATIONS)
					scan->parent = parent_of_row(scan, job);
				return true;
			}
			scan->in_job = false;
			scan->job++;
		}
		if (scan->job >= scan->n_jobs)
			return false;
		job = &scan->jobs[scan->job];
		if (!hart_catalog_may_read(job->tensor->model, scan->names_model))
			scan->job++;
		else
		{
			hart_walk_begin(&scan->walk, scan->catalog, job);
			scan->in_job = true;
			scan->n_tensors++;
		}
	}
}

static void
fill_weight(HartScan *scan, Datum *values)
{
	HartCatalogTensor *tensor = scan->jobs[scan->job].tensor;

	values[HART_WEIGHTS_MODEL - 1] = PointerGetDatum(tensor->model->name);
	values[HART_WEIGHTS_TENSOR - 1] = PointerGetDatum(tensor->name);
	values[HART_WEIGHTS_ROW - 1] = Int32GetDatum((int32) scan->row);
	values[HART_WEIGHTS_COL - 1] = Int32GetDatum((int32) (scan->col + scan->at));
	values[HART_WEIGHTS_VALUE - 1] = Float4GetDatum(scan->walk.values[scan->at]);
}

static void
fill_relation(HartScan *scan, Datum *values, bool *isnull)
{
	HartCatalogTensor *tensor = scan->jobs[scan->job].tensor;
	int64		col = scan->col + scan->at;
	float		value = scan->walk.values[scan->at];
	int64		parent = tensor->is_vector ? hart_atom_of_neuron(tensor->parent_key, (uint32) col) : scan->parent;
	uint32		bits;

	values[HART_RELATIONS_PARENT - 1] = Int64GetDatum(parent);
	/* rows that only fill an embedding matrix up belong to no token */
	isnull[HART_RELATIONS_PARENT - 1] = parent == 0;
	values[HART_RELATIONS_CHILD - 1] = Int64GetDatum(tensor->to_tensor ? tensor->tensor_atom
													 : hart_atom_of_neuron(tensor->child_key, (uint32) col));
	values[HART_RELATIONS_TYPE - 1] = PointerGetDatum(tensor->relation_type);
	values[HART_RELATIONS_POSITION - 1] = Int32GetDatum((int32) col);
	if (hart_scan_needs(scan, HART_RELATIONS_WEIGHT))
	{
		memcpy(&bits, &value, sizeof(bits));
		values[HART_RELATIONS_WEIGHT - 1] = Int64GetDatum(hart_atom_of_weight(bits));
	}
	else
		isnull[HART_RELATIONS_WEIGHT - 1] = true;
	values[HART_RELATIONS_MODEL - 1] = PointerGetDatum(tensor->model->name);
	values[HART_RELATIONS_TENSOR - 1] = PointerGetDatum(tensor->name);
	values[HART_RELATIONS_VALUE - 1] = Float4GetDatum(value);
}

TupleTableSlot *
hart_iterate_scan(ForeignScanState *node)
{
	HartScan   *scan = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (!scan->started)
		start_pass(scan, node->ss.ps.ps_ExprContext);
	if (scan->face == HART_SHOWS_ATOMS)
		return hart_next_atom(scan, slot) ? ExecStoreVirtualTuple(slot) : slot;
	if (scan->at >= scan->n && !next_run(scan))
		return slot;
	memset(slot->tts_isnull, false, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	if (scan->face == HART_SHOWS_WEIGHTS)
		fill_weight(scan, slot->tts_values);
	else
		fill_relation(scan, slot->tts_values, slot->tts_isnull);
	scan->at++;
	return ExecStoreVirtualTuple(slot);
}

void
hart_rescan(ForeignScanState *node)
{
	HartScan   *scan = node->fdw_state;

	if (scan == NULL)
		return;
	scan->started = false;
	hart_end_atoms(scan);
	MemoryContextReset(scan->pass_memory);
}

void
hart_end_scan(ForeignScanState *node)
{
	HartScan   *scan = node->fdw_state;

	if (scan == NULL)
		return;
	hart_end_atoms(scan);
	close_catalog(scan);
}

void
hart_explain_scan(ForeignScanState *node, ExplainState *es)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	HartScan   *scan = node->fdw_state;

	if (plan->fdw_recheck_quals != NIL)
	{
		List	   *context = set_deparse_context_plan(es->deparse_cxt, (Plan *) plan, NIL);
		Node	   *conditions = (Node *) make_ands_explicit(plan->fdw_recheck_quals);

		ExplainPropertyText("Pushed Down", deparse_expression(conditions, context, list_length(es->rtable) > 1 || es->verbose, false), es);
	}
	if (es->costs)
		ExplainPropertyFloat("Tiles Expected", NULL, floatVal(list_nth(plan->fdw_private, HART_PLAN_TILES)), 0, es);
	if (es->analyze && scan)
	{
		ExplainPropertyInteger("Tensors Read", NULL, scan->n_tensors, es);
		ExplainPropertyInteger("Tiles Read", NULL, hart_scan_tiles(scan), es);
	}
}
