/*
 * weights_fdw_plan.c
 *	  Estimates and plans of scans: how many tiles conditions leave over, by the catalog of tensors.
 */
#include "weights_fdw.h"

#include <math.h>

#include "access/stratnum.h"
#include "access/sysattr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "utils/snapmgr.h"

#include "atom_id.h"

/* reading the catalog of tensors, in the planner's units */
#define CATALOG_COST 20.0
/* values expected in an array that is not known */
#define UNKNOWN_ARRAY 10.0
/* share of a column expected above or below a value that is not known */
#define UNKNOWN_RANGE (1.0 / 3)

/* What planning one foreign table needs */
typedef struct HartRelation
{
	HartFace	face;
	HartCatalog *catalog;
} HartRelation;

typedef struct Estimate
{
	double		rows;			/* after all conditions */
	double		fetched;		/* before those that the executor checks */
	double		tiles;
	double		jobs;
	Cost		startup_cost;
	Cost		total_cost;
} Estimate;

/* How many of n values a condition with an unknown value leaves over */
static double
unknown_count(double n, int op)
{
	if (op == BTEqualStrategyNumber)
		return Min(n, 1);
	if (op == HART_EQUALS_ANY)
		return Min(n, UNKNOWN_ARRAY);
	return n * UNKNOWN_RANGE;
}

/* Share of a number of equal things that a condition with an unknown value leaves over */
static double
unknown_share(double n, int op)
{
	return n < 1 ? 1 : unknown_count(n, op) / n;
}

/* What is left of one job when the values of some conditions are not known */
static void
add_job(const HartJob *job, List *unknown, Estimate *estimate)
{
	double		rows = hart_int_set_count(job->rows);
	double		cols = hart_int_set_count(job->cols);
	double		all_rows = rows;
	double		all_cols = cols;
	ListCell   *cell;

	foreach(cell, unknown)
	{
		HartCondition *condition = lfirst(cell);
		bool		vector = job->tensor->is_vector;

		if (condition->column == HART_COLUMN_ROW || (condition->column == HART_COLUMN_PARENT && !vector))
			rows = unknown_count(rows, condition->op);
		else if (condition->column == HART_COLUMN_COL || condition->column == HART_COLUMN_PARENT ||
				 (condition->column == HART_COLUMN_CHILD && !job->tensor->to_tensor))
			cols = unknown_count(cols, condition->op);
	}
	estimate->fetched += rows * cols;
	/* the tiles of a row are there once for each row; those of a column at most as often as there are rows */
	estimate->tiles += Max(1, hart_job_tiles(job) * (rows / all_rows) *
						   (job->tensor->cols > hart_tile_weights(job->tensor->format) ? cols / all_cols : 1));
	estimate->jobs += 1;
}

/* Weights and tiles that conditions leave over */
static void
estimate_elements(HartRelation *relation, const HartRestriction *restriction, List *unknown, Estimate *estimate)
{
	HartCatalog *catalog = relation->catalog;
	double		share = 1;
	double		tensors = catalog->n_models == 0 ? 1 : (double) catalog->n_tensors / catalog->n_models;
	int			n_jobs;
	HartJob    *jobs = hart_make_jobs(catalog, restriction, relation->face, true, &n_jobs);
	ListCell   *cell;

	foreach(cell, unknown)
	{
		HartCondition *condition = lfirst(cell);

		switch (condition->column)
		{
			case HART_COLUMN_MODEL:
				share *= unknown_share(catalog->n_models, condition->op);
				break;
			case HART_COLUMN_TENSOR:
				share *= unknown_share(tensors, condition->op);
				break;
			case HART_COLUMN_TYPE:
				share *= unknown_share(6, condition->op);
				break;
			case HART_COLUMN_PARENT:
			case HART_COLUMN_CHILD:
				/* a neuron is the output or input of two or three tensors */
				share *= unknown_share(tensors / 3, condition->op);
				break;
			default:
				break;
		}
	}
	for (int i = 0; i < n_jobs; i++)
		add_job(&jobs[i], unknown, estimate);
	estimate->fetched *= share;
	estimate->tiles = Max(estimate->tiles * share, Min(estimate->jobs, 1));
	estimate->jobs *= share;
}

/* Tell conditions with known values from others */
static void
sort_conditions(PlannerInfo *root, List *conditions, HartRestriction *restriction, List **unknown)
{
	ListCell   *cell;

	memset(restriction, 0, sizeof(*restriction));
	*unknown = NIL;
	foreach(cell, conditions)
	{
		HartCondition *condition = lfirst(cell);
		Node	   *value = estimate_expression_value(root, (Node *) condition->value);

		if (IsA(value, Const))
			hart_restrict(restriction, condition->column, condition->op, exprType(value),
						  ((Const *) value)->constvalue, ((Const *) value)->constisnull);
		else
			*unknown = lappend(*unknown, condition);
	}
}

/* Divide clauses into conditions that are pushed down and others */
static void
divide_clauses(PlannerInfo *root, RelOptInfo *rel, HartFace face, List *rinfos, List **conditions, List **pushed, List **local)
{
	ListCell   *cell;

	foreach(cell, rinfos)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, cell);
		HartCondition condition;

		if (rinfo->pseudoconstant)
			continue;
		if (hart_match_condition(root, rel, face, rinfo->clause, &condition))
		{
			HartCondition *copy = palloc(sizeof(HartCondition));

			*copy = condition;
			*conditions = lappend(*conditions, copy);
			*pushed = lappend(*pushed, rinfo->clause);
		}
		else
			*local = lappend(*local, rinfo);
	}
}

static void
estimate_scan(PlannerInfo *root, RelOptInfo *rel, HartRelation *relation, List *rinfos, Estimate *estimate)
{
	List	   *conditions = NIL;
	List	   *pushed = NIL;
	List	   *local = NIL;
	List	   *unknown;
	HartRestriction restriction;
	QualCost	local_cost;

	memset(estimate, 0, sizeof(*estimate));
	divide_clauses(root, rel, relation->face, rinfos, &conditions, &pushed, &local);
	sort_conditions(root, conditions, &restriction, &unknown);
	if (relation->face == HART_SHOWS_ATOMS)
		estimate->fetched = hart_estimate_atoms(&restriction, unknown, relation->catalog, &estimate->tiles);
	else
		estimate_elements(relation, &restriction, unknown, estimate);
	estimate->rows = clamp_row_est(estimate->fetched * clauselist_selectivity(root, local, rel->relid, JOIN_INNER, NULL));
	cost_qual_eval(&local_cost, local, root);
	estimate->startup_cost = CATALOG_COST * cpu_tuple_cost * relation->catalog->n_tensors / 10 + local_cost.startup +
		rel->reltarget->cost.startup;
	estimate->total_cost = estimate->startup_cost + estimate->jobs * random_page_cost + estimate->tiles * seq_page_cost +
		estimate->fetched * (cpu_tuple_cost + local_cost.per_tuple) + estimate->rows * rel->reltarget->cost.per_tuple;
}

void
hart_get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	HartRelation *relation = palloc(sizeof(HartRelation));
	Estimate	estimate;

	hart_check_version();
	relation->face = hart_face_of(relid);
	relation->catalog = hart_catalog_load(GetActiveSnapshot(), NIL, NIL, relation->face == HART_SHOWS_RELATIONS);
	rel->fdw_private = relation;
	estimate_scan(root, rel, relation, NIL, &estimate);
	rel->tuples = clamp_row_est(estimate.fetched);
	rel->pages = (BlockNumber) Min(estimate.tiles, MaxBlockNumber);
	estimate_scan(root, rel, relation, rel->baserestrictinfo, &estimate);
	rel->rows = estimate.rows;
}

static void
add_foreign_path(PlannerInfo *root, RelOptInfo *rel, const Estimate *estimate, double rows, Relids required_outer)
{
	add_path(rel, (Path *) create_foreignscan_path(root, rel, NULL, rows,
#if PG_VERSION_NUM >= 180000
												   0,
#endif
												   estimate->startup_cost, estimate->total_cost,
												   NIL, required_outer, NULL,
#if PG_VERSION_NUM >= 170000
												   NIL,
#endif
												   NIL));
}

/* Remember the other tables of a join clause that could be pushed down */
static void
collect_outer(PlannerInfo *root, RelOptInfo *rel, HartFace face, List *clauses, List **outers)
{
	ListCell   *cell;

	foreach(cell, clauses)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, cell);
		HartCondition condition;
		Relids		outer;
		ListCell   *other;
		bool		found = false;

		if (!join_clause_is_movable_to(rinfo, rel) || !hart_match_condition(root, rel, face, rinfo->clause, &condition))
			continue;
		outer = bms_union(rinfo->clause_relids, rel->lateral_relids);
		outer = bms_del_member(outer, rel->relid);
		foreach(other, *outers)
			found |= bms_equal(outer, lfirst(other));
		if (!found && !bms_is_empty(outer))
			*outers = lappend(*outers, outer);
	}
}

/* Whether a member of an equivalence class is the attribute looked for */
static bool
is_attribute(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec, EquivalenceMember *em, void *arg)
{
	Expr	   *expr = em->em_expr;

	while (expr && IsA(expr, RelabelType))
		expr = ((RelabelType *) expr)->arg;
	return expr && IsA(expr, Var) && ((Var *) expr)->varno == (int) rel->relid && ((Var *) expr)->varattno == *(AttrNumber *) arg;
}

/* The sets of other tables that, being known, narrow a scan down */
static List *
useful_outers(PlannerInfo *root, RelOptInfo *rel, HartFace face)
{
	List	   *outers = NIL;
	Relids		all = NULL;
	ListCell   *cell;

	collect_outer(root, rel, face, rel->joininfo, &outers);
	if (rel->has_eclass_joins)
		for (AttrNumber attnum = 1; attnum <= rel->max_attr; attnum++)
			if (hart_column_of_attribute(face, attnum) >= 0)
				collect_outer(root, rel, face,
							  generate_implied_equalities_for_column(root, rel, is_attribute, &attnum, rel->lateral_referencers),
							  &outers);
	/* and what they know together */
	if (list_length(outers) > 1)
	{
		bool		found = false;

		foreach(cell, outers)
			all = bms_add_members(all, lfirst(cell));
		foreach(cell, outers)
			found |= bms_equal(all, lfirst(cell));
		if (!found)
			outers = lappend(outers, all);
	}
	return outers;
}

void
hart_get_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	HartRelation *relation = rel->fdw_private;
	Estimate	estimate;
	ListCell   *cell;

	estimate_scan(root, rel, relation, rel->baserestrictinfo, &estimate);
	add_foreign_path(root, rel, &estimate, rel->rows, rel->lateral_relids);
	foreach(cell, useful_outers(root, rel, relation->face))
	{
		Relids		outer = lfirst(cell);
		ParamPathInfo *info = get_baserel_parampathinfo(root, rel, outer);

		estimate_scan(root, rel, relation, list_concat_copy(rel->baserestrictinfo, info->ppi_clauses), &estimate);
		/* all paths with these outer tables must agree on it */
		info->ppi_rows = estimate.rows;
		add_foreign_path(root, rel, &estimate, estimate.rows, outer);
	}
}

/* Attributes that the query needs, 0 standing for the whole row */
static List *
needed_attributes(RelOptInfo *rel, List *clauses)
{
	Bitmapset  *found = NULL;
	List	   *list = NIL;
	int			attribute = -1;

	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &found);
	pull_varattnos((Node *) clauses, rel->relid, &found);
	while ((attribute = bms_next_member(found, attribute)) >= 0)
		if (attribute + FirstLowInvalidHeapAttributeNumber >= 0)
			list = lappend_int(list, attribute + FirstLowInvalidHeapAttributeNumber);
	return list;
}

ForeignScan *
hart_get_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path, List *targets, List *clauses, Plan *outer_plan)
{
	HartRelation *relation = rel->fdw_private;
	List	   *conditions = NIL;
	List	   *pushed = NIL;
	List	   *local = NIL;
	List	   *values = NIL;
	List	   *private;
	Estimate	estimate;
	ListCell   *cell;

	divide_clauses(root, rel, relation->face, clauses, &conditions, &pushed, &local);
	local = extract_actual_clauses(local, false);
	foreach(cell, conditions)
		values = lappend(values, ((HartCondition *) lfirst(cell))->value);
	estimate_scan(root, rel, relation, clauses, &estimate);
	private = list_make4(makeInteger(relation->face), hart_conditions_to_list(conditions), needed_attributes(rel, local),
						 makeFloat(psprintf("%.0f", ceil(estimate.tiles))));
	return make_foreignscan(targets, local, rel->relid, values, private, NIL, pushed, outer_plan);
}
