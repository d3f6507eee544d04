/*
 * weights_fdw.h
 *	  The foreign data wrapper that shows tiles as rows.
 *
 * One wrapper, three foreign tables, told apart by their option "shows":
 *	  weights	hart.weights: model, tensor, row, col, value
 *	  relations	hart.weight_relations: the same weights as edges between atoms
 *	  atoms		hart.computed_atoms: neurons and weight values
 *
 * weights_fdw_catalog.c knows models and tensors, weights_fdw_quals.c turns conditions of a query into
 * sets of rows and columns, weights_fdw_plan.c estimates, weights_fdw_elements.c walks over the weights of such sets,
 * weights_fdw_relations.c knows which atoms they connect, weights_fdw_scan.c, weights_fdw_atoms.c and
 * weights_fdw_modify.c serve the executor.
 */
#ifndef HART_WEIGHTS_FDW_H
#define HART_WEIGHTS_FDW_H

#include "hartonomous.h"

#include "foreign/fdwapi.h"
#include "nodes/pathnodes.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "int_set.h"
#include "kernels.h"
#include "tile_lookup.h"

typedef enum HartFace
{
	HART_SHOWS_WEIGHTS,
	HART_SHOWS_RELATIONS,
	HART_SHOWS_ATOMS
} HartFace;

/* attribute numbers */
enum
{
	HART_WEIGHTS_MODEL = 1, HART_WEIGHTS_TENSOR, HART_WEIGHTS_ROW, HART_WEIGHTS_COL, HART_WEIGHTS_VALUE,
	HART_WEIGHTS_NATTS = HART_WEIGHTS_VALUE
};
enum
{
	HART_RELATIONS_PARENT = 1, HART_RELATIONS_CHILD, HART_RELATIONS_TYPE, HART_RELATIONS_POSITION, HART_RELATIONS_WEIGHT,
	HART_RELATIONS_MODEL, HART_RELATIONS_TENSOR, HART_RELATIONS_VALUE,
	HART_RELATIONS_NATTS = HART_RELATIONS_VALUE
};
enum
{
	HART_ATOMS_ID = 1, HART_ATOMS_GEOM, HART_ATOMS_CONTENT,
	HART_ATOMS_NATTS = HART_ATOMS_CONTENT
};

/* what a foreign table shows; error when its columns are not those above */
extern HartFace hart_face_of(Oid relid);

/* ---- weights_fdw_catalog.c ---- */

typedef struct HartCatalogModel
{
	int32		model_id;
	text	   *name;
	enum
	{
		HART_UNCHECKED, HART_READABLE, HART_REFUSED
	}			access;
	Relation	rel;			/* opened at first use */
	HartTileLookup *lookup;
} HartCatalogModel;

typedef struct HartCatalogTensor
{
	HartCatalogModel *model;
	int32		tensor_id;
	text	   *name;
	HartDtype	dtype;
	HartFormat	format;
	int64		rows;
	int64		cols;
	/* what follows is for catalogs with roles only */
	text	   *relation_type;	/* NULL when the model does not compute with the tensor */
	bool		is_vector;		/* element i belongs to neuron i: norms and biases */
	bool		from_tokens;	/* a row belongs to a token, not to a neuron */
	bool		to_tensor;		/* the child is the tensor's own atom: biases */
	uint64		parent_key;		/* of the spaces of neurons */
	uint64		child_key;
	int64		tensor_atom;
} HartCatalogTensor;

typedef struct HartCatalog
{
	Snapshot	snapshot;
	MemoryContext memory;		/* everything is in here */
	HartCatalogModel *models;
	int			n_models;
	HartCatalogTensor *tensors; /* by model, then tensor_id */
	int			n_tensors;
} HartCatalog;

/*
 * Models that are ready, and their tensors, as a snapshot sees them; only those named if the lists of texts are not NULL.
 * In the current memory context; tiles are opened with the current resource owner.
 */
extern HartCatalog *hart_catalog_load(Snapshot snapshot, List *models, List *tensors, bool with_roles);

/* close what was opened */
extern void hart_catalog_close(HartCatalog *catalog);

/*
 * Whether the current user may read a model's tiles. Otherwise the model is passed over,
 * or, when the query names it, refused with an error.
 */
extern bool hart_catalog_may_read(HartCatalogModel *model, bool named);

/* the lookup in a model's tiles, which may be read */
extern HartTileLookup *hart_catalog_lookup(HartCatalog *catalog, HartCatalogModel *model);

/* ---- weights_fdw_quals.c ---- */

/* Columns that conditions can be pushed down on; ROW and COL are of a weight, whichever face shows it */
typedef enum HartColumn
{
	HART_COLUMN_MODEL, HART_COLUMN_TENSOR, HART_COLUMN_TYPE,	/* text: = and = ANY */
	HART_COLUMN_PARENT, HART_COLUMN_CHILD,	/* atoms: = and = ANY */
	HART_COLUMN_ROW, HART_COLUMN_COL, HART_COLUMN_ID,	/* numbers: comparisons too */
	HART_N_COLUMNS
} HartColumn;

#define HART_FIRST_INT_COLUMN HART_COLUMN_PARENT

/* operators besides btree's strategies 1 to 5 */
#define HART_EQUALS_ANY 6

/* column operator value */
typedef struct HartCondition
{
	HartColumn	column;
	int			op;
	Expr	   *value;			/* does not depend on the foreign table */
} HartCondition;

/* what conditions leave over: NULL where there is no condition */
typedef struct HartRestriction
{
	List	   *texts[HART_FIRST_INT_COLUMN];	/* sorted, when limited */
	bool		limited[HART_FIRST_INT_COLUMN];
	HartIntSet *ints[HART_N_COLUMNS];	/* from HART_FIRST_INT_COLUMN on */
} HartRestriction;

/* whether a clause can be pushed down to a foreign table, and as what */
extern bool hart_match_condition(PlannerInfo *root, RelOptInfo *rel, HartFace face, Expr *clause, HartCondition *condition);

/* the column of an attribute, -1 when conditions on it are not pushed down */
extern int	hart_column_of_attribute(HartFace face, AttrNumber attnum);

/* narrow a restriction down by a condition whose value is known; the values are copied to the current memory context */
extern void hart_restrict(HartRestriction *restriction, HartColumn column, int op, Oid type, Datum value, bool isnull);

extern bool hart_text_allowed(const HartRestriction *restriction, HartColumn column, const text *value);

/* conditions as they travel in a plan: columns, operators and types as a list, the values apart */
extern List *hart_conditions_to_list(List *conditions);

/* ---- weights_fdw_elements.c ---- */

/* Some weights of one tensor */
typedef struct HartJob
{
	HartCatalogTensor *tensor;
	HartIntSet *rows;			/* within the tensor, not empty */
	HartIntSet *cols;
} HartJob;

/* weights and tiles of a job */
extern double hart_job_weights(const HartJob *job);
extern double hart_job_tiles(const HartJob *job);

/* A walk over the weights of a job, by runs of neighbours in a row */
typedef struct HartWalk
{
	HartCatalog *catalog;
	const HartJob *job;
	int			row_range;
	int64		row;
	int			col_range;
	int64		col;
	const char *payload;		/* of the tile at hand; NULL when there is none */
	int64		tile_no;
	float	   *values;			/* of the run, as many as a tile holds at most */
} HartWalk;

extern void hart_walk_begin(HartWalk *walk, HartCatalog *catalog, const HartJob *job);

/* the next run: its first weight's row and column, its length, the values in walk->values; false at the end */
extern bool hart_walk_next(HartWalk *walk, int64 *row, int64 *col, int64 *n);

/* ---- weights_fdw_relations.c ---- */

/* The jobs that a restriction leaves over, tensor by tensor. Planning, the tokens are not looked up, only counted. */
extern HartJob *hart_make_jobs(HartCatalog *catalog, const HartRestriction *restriction, HartFace face, bool planning, int *n_jobs);

/* Atoms of the tokens of a model, read in blocks */
typedef struct HartTokenAtoms
{
	const HartCatalogModel *model;
	int64		first;
	int64		n;
	int64	   *atoms;			/* 0 where a row belongs to no token */
} HartTokenAtoms;

/* the atom of a token, 0 when the tokenizer does not have it; tokens up to last are likely to be asked for next */
extern int64 hart_token_atom(HartTokenAtoms *tokens, const HartCatalog *catalog, const HartCatalogModel *model,
							 int64 token_id, int64 last);

/* ---- weights_fdw_plan.c ---- */

/* members of ForeignScan.fdw_private */
enum
{
	HART_PLAN_FACE, HART_PLAN_CONDITIONS, HART_PLAN_ATTRIBUTES, HART_PLAN_TILES
};

extern void hart_get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid);
extern void hart_get_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid);
extern ForeignScan *hart_get_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path,
								  List *targets, List *clauses, Plan *outer_plan);

/* ---- weights_fdw_scan.c ---- */

typedef struct HartScan HartScan;

struct HartScan
{
	HartFace	face;
	List	   *conditions;		/* triples of numbers: column, operator, type */
	List	   *values;			/* their ExprStates */
	Bitmapset  *attributes;		/* that are needed; NULL when all are */
	Snapshot	snapshot;
	MemoryContext memory;		/* of the scan */
	MemoryContext pass_memory;	/* of one pass over it */
	MemoryContext row_memory;	/* of one row */
	bool		started;		/* this pass */
	HartRestriction restriction;

	HartCatalog *catalog;
	bool		catalog_is_whole;
	List	   *catalog_models; /* what it was loaded for, when it is not whole */
	List	   *catalog_tensors;

	HartJob    *jobs;
	int			n_jobs;
	int			job;			/* at hand */
	bool		in_job;
	HartWalk	walk;
	int64		row;			/* of the run */
	int64		col;
	int64		n;
	int64		at;
	HartTokenAtoms tokens;
	int64		parent;			/* of the run, when it is the same for all */

	struct HartAtomScan *atoms; /* of hart.computed_atoms */
	bool		names_model;	/* by a constant: one that may not be read is an error */
	int64		n_tensors;		/* counted over all passes */
	int64		n_tiles;		/* read with catalogs that are closed */
};

extern bool hart_scan_needs(const HartScan *scan, AttrNumber attnum);

/* load the catalog that the restriction of this pass needs */
extern void hart_scan_load_catalog(HartScan *scan, bool with_roles);

/* the tiles that were read so far */
extern int64 hart_scan_tiles(const HartScan *scan);

extern void hart_begin_scan(ForeignScanState *node, int eflags);
extern TupleTableSlot *hart_iterate_scan(ForeignScanState *node);
extern void hart_rescan(ForeignScanState *node);
extern void hart_end_scan(ForeignScanState *node);
extern void hart_explain_scan(ForeignScanState *node, struct ExplainState *es);

/* ---- weights_fdw_atoms.c ---- */

/* the next atom into the slot; false at the end */
extern bool hart_next_atom(HartScan *scan, TupleTableSlot *slot);
extern void hart_end_atoms(HartScan *scan);
extern double hart_estimate_atoms(const HartRestriction *restriction, List *unknown, HartCatalog *catalog, double *tiles);

/* ---- weights_fdw_modify.c ---- */

extern void hart_modify_routines(FdwRoutine *routine);

#endif							/* HART_WEIGHTS_FDW_H */
