/*
 * weights_fdw_relations.c
 *	  Which weights a restriction leaves over, and the atoms that they connect.
 */
#include "weights_fdw.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "atom_id.h"

/* tokens whose atoms are read at once */
#define TOKEN_BLOCK 4096

static SPIPlanPtr
saved_plan(SPIPlanPtr *plan, const char *query, int n_args, Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare_cursor(query, n_args, types, CURSOR_OPT_GENERIC_PLAN);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare a query of the tokens");
		*plan = made;
	}
	return *plan;
}

/* ---- From atoms to rows and columns ---- */

/* The numbers of the neurons of a space that are in a set of atoms */
static HartIntSet *
neurons_among(const HartIntSet *atoms, uint64 key)
{
	int64		first = hart_atom_of_neuron(key, 0);
	HartIntSet *space = hart_int_set_range(first, hart_atom_of_neuron(key, HART_NEURON_MAX_INDEX));
	HartIntSet *neurons = hart_int_set_intersect(atoms, space);

	for (int i = 0; i < neurons->n; i++)
	{
		neurons->ranges[i].first -= first;
		neurons->ranges[i].last -= first;
	}
	return neurons;
}

static int64
value_at(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	if (isnull)
		elog(ERROR, "a token has no number or no atom");
	return SPI_gettypeid(SPI_tuptable->tupdesc, column) == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
}

/* Ids of tokens among atoms, as an array for a query; how many there are */
static ArrayType *
token_atoms_among(const HartIntSet *atoms, int64 *n)
{
	HartIntSet *tokens = hart_int_set_intersect(atoms, hart_int_set_range(hart_atom_first(HART_ATOM_TOKEN),
																		  hart_atom_first(HART_ATOM_TEXT) - 1));
	Datum	   *ids;

	*n = (int64) hart_int_set_count(tokens);
	ids = palloc(sizeof(Datum) * Max(*n, 1));
	*n = 0;
	for (int i = 0; i < tokens->n; i++)
		for (int64 id = tokens->ranges[i].first; id <= tokens->ranges[i].last; id++)
			ids[(*n)++] = Int64GetDatum(id);
	return construct_array(ids, (int) *n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/* The tokens of a model whose atoms are in a set; one atom may stand for several */
static HartIntSet *
tokens_among(const HartIntSet *atoms, const HartCatalog *catalog, const HartCatalogModel *model, bool planning)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT4OID, INT8ARRAYOID};
	MemoryContext memory = CurrentMemoryContext;
	HartIntSet *tokens;
	int64	   *ids;
	int64		n;
	Datum		args[2];

	args[0] = Int32GetDatum(model->model_id);
	args[1] = PointerGetDatum(token_atoms_among(atoms, &n));
	if (n == 0 || planning)
		return hart_int_set_range(0, n - 1);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(catalog->snapshot);
	if (SPI_execute_plan(saved_plan(&plan, "SELECT token_id FROM hart.tokens WHERE model_id OPERATOR(pg_catalog.=) $1"
									" AND atom_id OPERATOR(pg_catalog.=) ANY ($2)", 2, types),
						 args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the tokens");
	PopActiveSnapshot();
	ids = palloc(sizeof(int64) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
		ids[i] = value_at(i, 1);
	MemoryContextSwitchTo(memory);
	tokens = hart_int_set_values(ids, (int) SPI_processed);
	SPI_finish();
	MemoryContextSwitchTo(memory);
	return tokens;
}

/* Narrow rows and columns down to those that parents and children leave over; false when nothing is */
static bool
restrict_by_atoms(HartCatalog *catalog, const HartRestriction *restriction, bool planning, HartJob *job)
{
	HartCatalogTensor *tensor = job->tensor;
	const HartIntSet *parents = restriction->ints[HART_COLUMN_PARENT];
	const HartIntSet *children = restriction->ints[HART_COLUMN_CHILD];

	if (parents && tensor->from_tokens)
		job->rows = hart_int_set_intersect(job->rows, tokens_among(parents, catalog, tensor->model, planning));
	else if (parents && tensor->is_vector)
		job->cols = hart_int_set_intersect(job->cols, neurons_among(parents, tensor->parent_key));
	else if (parents)
		job->rows = hart_int_set_intersect(job->rows, neurons_among(parents, tensor->parent_key));
	if (children && tensor->to_tensor)
		return hart_int_set_contains(children, tensor->tensor_atom);
	if (children)
		job->cols = hart_int_set_intersect(job->cols, neurons_among(children, tensor->child_key));
	return true;
}

HartJob *
hart_make_jobs(HartCatalog *catalog, const HartRestriction *restriction, HartFace face, bool planning, int *n_jobs)
{
	HartJob    *jobs = palloc(sizeof(HartJob) * Max(catalog->n_tensors, 1));

	*n_jobs = 0;
	for (int i = 0; i < catalog->n_tensors; i++)
	{
		HartCatalogTensor *tensor = &catalog->tensors[i];
		HartJob    *job = &jobs[*n_jobs];

		if (!hart_text_allowed(restriction, HART_COLUMN_MODEL, tensor->model->name) ||
			!hart_text_allowed(restriction, HART_COLUMN_TENSOR, tensor->name))
			continue;
		job->tensor = tensor;
		job->rows = hart_int_set_range(0, tensor->rows - 1);
		job->cols = hart_int_set_range(0, tensor->cols - 1);
		if (restriction->ints[HART_COLUMN_ROW])
			job->rows = hart_int_set_intersect(job->rows, restriction->ints[HART_COLUMN_ROW]);
		if (restriction->ints[HART_COLUMN_COL])
			job->cols = hart_int_set_intersect(job->cols, restriction->ints[HART_COLUMN_COL]);
		if (face == HART_SHOWS_RELATIONS &&
			(tensor->relation_type == NULL ||
			 !hart_text_allowed(restriction, HART_COLUMN_TYPE, tensor->relation_type) ||
			 !restrict_by_atoms(catalog, restriction, planning, job)))
			continue;
		if (job->rows->n > 0 && job->cols->n > 0)
			(*n_jobs)++;
	}
	return jobs;
}

/* ---- From rows to atoms ---- */

/* Read the atoms of n tokens from first on */
static void
load_tokens(HartTokenAtoms *tokens, const HartCatalog *catalog, const HartCatalogModel *model, int64 first, int64 n)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT4OID, INT4OID, INT4OID};
	Datum		args[] = {Int32GetDatum(model->model_id), Int32GetDatum((int32) first), Int32GetDatum((int32) (first + n - 1))};

	if (tokens->atoms == NULL)
		tokens->atoms = MemoryContextAlloc(catalog->memory, sizeof(int64) * TOKEN_BLOCK);
	memset(tokens->atoms, 0, sizeof(int64) * n);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(catalog->snapshot);
	if (SPI_execute_plan(saved_plan(&plan, "SELECT token_id, atom_id FROM hart.tokens WHERE model_id OPERATOR(pg_catalog.=) $1"
									" AND token_id OPERATOR(pg_catalog.>=) $2 AND token_id OPERATOR(pg_catalog.<=) $3", 3, types),
						 args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the tokens");
	PopActiveSnapshot();
	for (uint64 i = 0; i < SPI_processed; i++)
		tokens->atoms[value_at(i, 1) - first] = value_at(i, 2);
	SPI_finish();
	tokens->model = model;
	tokens->first = first;
	tokens->n = n;
}

int64
hart_token_atom(HartTokenAtoms *tokens, const HartCatalog *catalog, const HartCatalogModel *model, int64 token_id, int64 last)
{
	if (tokens->model != model || token_id < tokens->first || token_id >= tokens->first + tokens->n)
		load_tokens(tokens, catalog, model, token_id, Min(TOKEN_BLOCK, last - token_id + 1));
	return tokens->atoms[token_id - tokens->first];
}
