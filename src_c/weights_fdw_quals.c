/*
 * weights_fdw_quals.c
 *	  Conditions of a query as sets of rows and columns.
 */
#include "weights_fdw.h"

#include "access/stratnum.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* ---- Which clauses can be pushed down ---- */

int
hart_column_of_attribute(HartFace face, AttrNumber attnum)
{
	static const signed char columns[][HART_RELATIONS_NATTS + 1] = {
		[HART_SHOWS_WEIGHTS] = {-1, HART_COLUMN_MODEL, HART_COLUMN_TENSOR, HART_COLUMN_ROW, HART_COLUMN_COL, -1, -1, -1, -1},
		[HART_SHOWS_RELATIONS] = {-1, HART_COLUMN_PARENT, HART_COLUMN_CHILD, HART_COLUMN_TYPE, HART_COLUMN_COL, -1,
		HART_COLUMN_MODEL, HART_COLUMN_TENSOR, -1},
		[HART_SHOWS_ATOMS] = {-1, HART_COLUMN_ID, -1, -1, -1, -1, -1, -1, -1}
	};

	return attnum > 0 && attnum < (int) lengthof(columns[0]) ? columns[face][attnum] : -1;
}

/* The column that an expression is, -1 when it is none */
static int
column_of(RelOptInfo *rel, HartFace face, Expr *expr)
{
	while (expr && IsA(expr, RelabelType))
		expr = ((RelabelType *) expr)->arg;
	if (expr == NULL || !IsA(expr, Var) || ((Var *) expr)->varno != (int) rel->relid || ((Var *) expr)->varlevelsup != 0)
		return -1;
	return hart_column_of_attribute(face, ((Var *) expr)->varattno);
}

/* Whether the value of an expression is the same for all rows of the foreign table */
static bool
is_fixed(PlannerInfo *root, RelOptInfo *rel, Expr *expr)
{
	return !bms_is_member(rel->relid, pull_varnos(root, (Node *) expr)) && !contain_volatile_functions((Node *) expr);
}

/* The btree strategy of an operator on a column, 0 when it is not one that is pushed down */
static int
strategy_of(HartColumn column, Oid opno, Oid collation)
{
	int			strategy;

	if (column < HART_FIRST_INT_COLUMN)
	{
		/* the bytes are compared, which is what equality means unless the collation says otherwise */
		if (!OidIsValid(collation) || !get_collation_isdeterministic(collation))
			return 0;
		strategy = get_op_opfamily_strategy(opno, TEXT_BTREE_FAM_OID);
	}
	else
		strategy = get_op_opfamily_strategy(opno, INTEGER_BTREE_FAM_OID);
	return strategy == BTEqualStrategyNumber || column >= HART_COLUMN_ROW ? strategy : 0;
}

static bool
is_value_type(HartColumn column, Oid type)
{
	if (column < HART_FIRST_INT_COLUMN)
		return type == TEXTOID;
	return type == INT2OID || type == INT4OID || type == INT8OID;
}

static bool
match_operator(PlannerInfo *root, RelOptInfo *rel, HartFace face, OpExpr *clause, HartCondition *condition)
{
	Expr	   *left;
	Expr	   *right;
	Oid			opno = clause->opno;
	int			column;

	if (list_length(clause->args) != 2)
		return false;
	left = linitial(clause->args);
	right = lsecond(clause->args);
	column = column_of(rel, face, left);
	if (column < 0)
	{
		Expr	   *swap = left;

		left = right;
		right = swap;
		column = column_of(rel, face, left);
		opno = get_commutator(opno);
	}
	if (column < 0 || !OidIsValid(opno) || !is_fixed(root, rel, right) || !is_value_type(column, exprType((Node *) right)))
		return false;
	*condition = (HartCondition) {column, strategy_of(column, opno, clause->inputcollid), right};
	return condition->op != 0;
}

static bool
match_any(PlannerInfo *root, RelOptInfo *rel, HartFace face, ScalarArrayOpExpr *clause, HartCondition *condition)
{
	Expr	   *array = lsecond(clause->args);
	int			column = column_of(rel, face, linitial(clause->args));

	if (!clause->useOr || column < 0 || !is_fixed(root, rel, array) ||
		!is_value_type(column, get_element_type(exprType((Node *) array))) ||
		strategy_of(column, clause->opno, clause->inputcollid) != BTEqualStrategyNumber)
		return false;
	*condition = (HartCondition) {column, HART_EQUALS_ANY, array};
	return true;
}

bool
hart_match_condition(PlannerInfo *root, RelOptInfo *rel, HartFace face, Expr *clause, HartCondition *condition)
{
	if (IsA(clause, OpExpr))
		return match_operator(root, rel, face, (OpExpr *) clause, condition);
	if (IsA(clause, ScalarArrayOpExpr))
		return match_any(root, rel, face, (ScalarArrayOpExpr *) clause, condition);
	return false;
}

List *
hart_conditions_to_list(List *conditions)
{
	List	   *list = NIL;
	ListCell   *cell;

	foreach(cell, conditions)
	{
		HartCondition *condition = lfirst(cell);

		list = lappend_int(list, condition->column);
		list = lappend_int(list, condition->op);
		list = lappend_int(list, (int) exprType((Node *) condition->value));
	}
	return list;
}

/* ---- What they leave over ---- */

static int64
number(Oid type, Datum value)
{
	return type == INT2OID ? DatumGetInt16(value) : type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
}

static int
compare_texts(const text *a, const text *b)
{
	Size		size_a = VARSIZE_ANY_EXHDR(a);
	Size		size_b = VARSIZE_ANY_EXHDR(b);
	int			order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(size_a, size_b));

	return order != 0 ? order : (size_a > size_b) - (size_a < size_b);
}

static int
compare_cells(const ListCell *a, const ListCell *b)
{
	return compare_texts(lfirst(a), lfirst(b));
}

bool
hart_text_allowed(const HartRestriction *restriction, HartColumn column, const text *value)
{
	const List *texts = restriction->texts[column];
	int			low = 0;
	int			high = list_length(texts) - 1;

	if (!restriction->limited[column])
		return true;
	while (low <= high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_texts(value, list_nth(texts, middle));

		if (order == 0)
			return true;
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return false;
}

/* Keep of the texts allowed so far those among the given */
static void
restrict_text(HartRestriction *restriction, HartColumn column, Datum *values, bool *nulls, int n)
{
	List	   *allowed = NIL;

	for (int i = 0; i < n; i++)
	{
		text	   *value;

		if (nulls[i])
			continue;
		value = DatumGetTextPCopy(values[i]);
		if (hart_text_allowed(restriction, column, value))
			allowed = lappend(allowed, value);
	}
	list_sort(allowed, compare_cells);
	restriction->texts[column] = allowed;
	restriction->limited[column] = true;
}

static void
restrict_int(HartRestriction *restriction, HartColumn column, HartIntSet *set)
{
	HartIntSet **ints = &restriction->ints[column];

	*ints = *ints ? hart_int_set_intersect(*ints, set) : set;
}

static HartIntSet *
comparison(int strategy, int64 value)
{
	switch (strategy)
	{
		case BTLessStrategyNumber:
			return value == PG_INT64_MIN ? hart_int_set_range(1, 0) : hart_int_set_range(PG_INT64_MIN, value - 1);
		case BTLessEqualStrategyNumber:
			return hart_int_set_range(PG_INT64_MIN, value);
		case BTEqualStrategyNumber:
			return hart_int_set_range(value, value);
		case BTGreaterEqualStrategyNumber:
			return hart_int_set_range(value, PG_INT64_MAX);
		case BTGreaterStrategyNumber:
			return value == PG_INT64_MAX ? hart_int_set_range(1, 0) : hart_int_set_range(value + 1, PG_INT64_MAX);
		default:
			elog(ERROR, "unexpected operator strategy %d", strategy);
	}
}

static void
restrict_any(HartRestriction *restriction, HartColumn column, ArrayType *array)
{
	Oid			type = ARR_ELEMTYPE(array);
	int16		length;
	bool		by_value;
	char		align;
	Datum	   *values;
	bool	   *nulls;
	int			n;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(array, type, length, by_value, align, &values, &nulls, &n);
	if (column < HART_FIRST_INT_COLUMN)
		restrict_text(restriction, column, values, nulls, n);
	else
	{
		int64	   *numbers = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(n, 1));
		int			kept = 0;

		for (int i = 0; i < n; i++)
			if (!nulls[i])
				numbers[kept++] = number(type, values[i]);
		restrict_int(restriction, column, hart_int_set_values(numbers, kept));
		pfree(numbers);
	}
	pfree(values);
	pfree(nulls);
}

void
hart_restrict(HartRestriction *restriction, HartColumn column, int op, Oid type, Datum value, bool isnull)
{
	if (column < HART_FIRST_INT_COLUMN && (isnull || op != HART_EQUALS_ANY))
		restrict_text(restriction, column, &value, &isnull, 1);
	else if (isnull)
		restrict_int(restriction, column, hart_int_set_range(1, 0));
	else if (op == HART_EQUALS_ANY)
		restrict_any(restriction, column, DatumGetArrayTypeP(value));
	else
		restrict_int(restriction, column, comparison(op, number(type, value)));
}
