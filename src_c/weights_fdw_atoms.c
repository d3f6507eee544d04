/*
 * weights_fdw_atoms.c
 *	  hart.computed_atoms: neurons and weight values, whose content their ids tell.
 *
 * Asked for ids, it answers from the ids alone: a neuron is there if a model that may be read has it, a weight
 * value always. Asked for all, it lists the neurons of those models and each value among their weights once.
 */
#include "weights_fdw.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#include "access/stratnum.h"
#include "catalog/pg_operator.h"

#include "atom_id.h"
#include "geometry.h"
#include "narrow.h"

/* more ids than this are not looked up one by one: a range that somebody asks for */
#define MOST_IDS 1e7

/* values of 16 bits that have been seen */
#define N_HALVES 65536

typedef struct Space
{
	uint64		key;
	int64		n;				/* neurons */
	text	   *name;			/* fingerprint of the model and name of the space */
} Space;

typedef enum Phase
{
	BY_ID, NEURONS, HALVES, FLOATS, DONE
} Phase;

typedef struct HartAtomScan
{
	MemoryContext memory;
	Phase		phase;
	const HartIntSet *ids;		/* NULL when all are wanted */
	int			range;			/* of ids */
	int64		id;
	Space	   *spaces;			/* sorted by key */
	int			n_spaces;
	int			space;
	int64		index;			/* of a neuron */
	uint8	   *seen[HART_N_DTYPES];	/* of each type of 16 bits, a bit for each value */
	Tuplesortstate *sort;		/* values that no type of 16 bits has */
	uint32		half;
	HartDtype	dtype;
	bool		any;			/* a value was returned by the sort */
	uint32		last;
} HartAtomScan;

/* ---- Neurons ---- */

static HartCatalogModel *
find_model(HartCatalog *catalog, int32 model_id)
{
	for (int i = 0; i < catalog->n_models; i++)
		if (catalog->models[i].model_id == model_id)
			return &catalog->models[i];
	return NULL;
}

/* The spaces of the models that may be read, each once: models of the same checkpoint share theirs */
static void
load_spaces(HartAtomScan *atoms, HartCatalog *catalog)
{
	static SPIPlanPtr plan;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare("SELECT s.model_id, s.key, s.n, pg_catalog.encode(s.fingerprint, 'hex') OPERATOR(pg_catalog.||) '/'"
									   " OPERATOR(pg_catalog.||) s.space FROM hart.neuron_spaces s ORDER BY s.key, s.model_id", 0, NULL);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare the query of the neurons");
		plan = made;
	}
	PushActiveSnapshot(catalog->snapshot);
	if (SPI_execute_plan(plan, NULL, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the spaces of neurons");
	PopActiveSnapshot();
	atoms->spaces = MemoryContextAlloc(atoms->memory, sizeof(Space) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	tupdesc = SPI_tuptable->tupdesc;
		bool		isnull;
		HartCatalogModel *model = find_model(catalog, DatumGetInt32(SPI_getbinval(tuple, tupdesc, 1, &isnull)));
		uint64		key = (uint64) DatumGetInt64(SPI_getbinval(tuple, tupdesc, 2, &isnull));
		Datum		name = SPI_getbinval(tuple, tupdesc, 4, &isnull);
		Space	   *space;

		if (model == NULL || !hart_catalog_may_read(model, false) ||
			(atoms->n_spaces > 0 && atoms->spaces[atoms->n_spaces - 1].key == key))
			continue;
		space = &atoms->spaces[atoms->n_spaces++];
		space->key = key;
		space->n = DatumGetInt32(SPI_getbinval(tuple, tupdesc, 3, &isnull));
		space->name = MemoryContextAlloc(atoms->memory, VARSIZE_ANY(DatumGetPointer(name)));
		memcpy(space->name, DatumGetPointer(name), VARSIZE_ANY(DatumGetPointer(name)));
	}
	SPI_finish();
}

static Space *
find_space(HartAtomScan *atoms, uint64 key)
{
	int			low = 0;
	int			high = atoms->n_spaces - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;

		if (atoms->spaces[middle].key == key)
			return &atoms->spaces[middle];
		if (atoms->spaces[middle].key < key)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

/* ---- Filling in a row ---- */

static void
fill_atom(HartScan *scan, TupleTableSlot *slot, int64 id, Datum content)
{
	double		p[4];

	memset(slot->tts_isnull, false, sizeof(bool) * HART_ATOMS_NATTS);
	slot->tts_values[HART_ATOMS_ID - 1] = Int64GetDatum(id);
	slot->tts_values[HART_ATOMS_CONTENT - 1] = content;
	slot->tts_isnull[HART_ATOMS_CONTENT - 1] = content == (Datum) 0;
	slot->tts_isnull[HART_ATOMS_GEOM - 1] = true;
	if (hart_scan_needs(scan, HART_ATOMS_GEOM))
	{
		hart_atom_geometry(id, p);
		slot->tts_values[HART_ATOMS_GEOM - 1] = hart_geometry_of_point(p);
		slot->tts_isnull[HART_ATOMS_GEOM - 1] = false;
	}
}

static bool
fill_weight(HartScan *scan, TupleTableSlot *slot, uint32 bits)
{
	int64		id = hart_atom_of_weight(bits);
	bytea	   *content = NULL;

	if (scan->atoms->ids && !hart_int_set_contains(scan->atoms->ids, id))
		return false;
	if (hart_scan_needs(scan, HART_ATOMS_CONTENT))
	{
		content = palloc(VARHDRSZ + sizeof(bits));
		SET_VARSIZE(content, VARHDRSZ + sizeof(bits));
		memcpy(VARDATA(content), &bits, sizeof(bits));
	}
	fill_atom(scan, slot, id, PointerGetDatum(content));
	return true;
}

static bool
fill_neuron(HartScan *scan, TupleTableSlot *slot, const Space *space, int64 index)
{
	int64		id = hart_atom_of_neuron(space->key, (uint32) index);
	Datum		content = (Datum) 0;

	if (scan->atoms->ids && !hart_int_set_contains(scan->atoms->ids, id))
		return false;
	/* the encoding of the database is the one of the name, which is ASCII */
	if (hart_scan_needs(scan, HART_ATOMS_CONTENT))
		content = PointerGetDatum(cstring_to_text(psprintf("%.*s/" INT64_FORMAT, (int) VARSIZE_ANY_EXHDR(space->name),
														   VARDATA_ANY(space->name), index)));
	fill_atom(scan, slot, id, content);
	return true;
}

/* ---- By id ---- */

static bool
next_by_id(HartScan *scan, TupleTableSlot *slot)
{
	HartAtomScan *atoms = scan->atoms;

	for (; atoms->range < atoms->ids->n; atoms->range++, atoms->id = PG_INT64_MIN)
	{
		const HartRange *range = &atoms->ids->ranges[atoms->range];

		for (int64 id = Max(atoms->id, range->first); id <= range->last; id++)
		{
			uint32		bits;
			uint64		key;
			Space	   *space;

			CHECK_FOR_INTERRUPTS();
			atoms->id = id + 1;
			if (hart_atom_weight(id, &bits))
				return fill_weight(scan, slot, bits);
			if (hart_atom_neuron(id, &key, &bits) && (space = find_space(atoms, key)) != NULL && bits < space->n)
				return fill_neuron(scan, slot, space, bits);
		}
	}
	return false;
}

/* ---- All values of weights ---- */

/* Remember a value with the type of 16 bits that has it, else for sorting */
static void
see_value(HartAtomScan *atoms, float value)
{
	uint32		bits;
	uint16		half;

	memcpy(&bits, &value, sizeof(bits));
	if ((bits & 0xffff) == 0)
		atoms->seen[HART_BF16][bits >> 19] |= 1 << (bits >> 16 & 7);
	else if (hart_narrow(HART_F16, value, &half) == HART_EXACT)
		atoms->seen[HART_F16][half >> 3] |= 1 << (half & 7);
	else
		tuplesort_putdatum(atoms->sort, Int32GetDatum((int32) bits), false);
}

/* Read the weights of a tensor of 16 bits: which values there are is soon known */
static void
see_halves(HartAtomScan *atoms, const HartCatalogTensor *tensor, const uint16 *halves, int64 n, uint8 *met)
{
	for (int64 i = 0; i < n; i++)
	{
		float		value;

		if (met[halves[i] >> 3] & 1 << (halves[i] & 7))
			continue;
		met[halves[i] >> 3] |= 1 << (halves[i] & 7);
		hart_kernels->widen[tensor->dtype] (&halves[i], &value, 1);
		see_value(atoms, value);
	}
}

static void
see_tensor(HartScan *scan, HartCatalogTensor *tensor, uint8 *met)
{
	HartTileLookup *lookup = hart_catalog_lookup(scan->catalog, tensor->model);
	int64		n = tensor->rows * tensor->cols;
	int64		n_tiles = hart_tile_count(tensor->format, n);
	uint32		block[HART_MAX_TILE_WEIGHTS];

	for (int64 tile_no = 0; tile_no < n_tiles; tile_no++)
	{
		const char *payload = hart_lookup_tile(lookup, tensor->tensor_id, tensor->format, n, tile_no, n_tiles - 1);
		int64		held = hart_weights_in_tile(tensor->format, n, tile_no);

		/* aligned, whatever lies in the table */
		hart_unpack_tile(tensor->format, payload, held, block);
		if (tensor->dtype == HART_F32)
			for (int64 i = 0; i < held; i++)
				see_value(scan->atoms, ((float *) block)[i]);
		else
			see_halves(scan->atoms, tensor, (uint16 *) block, held, met);
	}
	hart_lookup_release(lookup);
}

static void
see_all_values(HartScan *scan)
{
	HartAtomScan *atoms = scan->atoms;
	uint8	   *met[HART_N_DTYPES] = {NULL, palloc0(N_HALVES / 8), palloc0(N_HALVES / 8)};

	atoms->seen[HART_F16] = palloc0(N_HALVES / 8);
	atoms->seen[HART_BF16] = palloc0(N_HALVES / 8);
	atoms->sort = tuplesort_begin_datum(INT4OID, Int4LessOperator, InvalidOid, false, work_mem, NULL, false);
	for (int i = 0; i < scan->catalog->n_tensors; i++)
	{
		HartCatalogTensor *tensor = &scan->catalog->tensors[i];

		if (!hart_catalog_may_read(tensor->model, false))
			continue;
		see_tensor(scan, tensor, met[tensor->dtype]);
		scan->n_tensors++;
	}
	tuplesort_performsort(atoms->sort);
	atoms->dtype = HART_F16;
}

static bool
next_half(HartScan *scan, TupleTableSlot *slot)
{
	HartAtomScan *atoms = scan->atoms;

	for (; atoms->dtype <= HART_BF16; atoms->dtype++, atoms->half = 0)
		while (atoms->half < N_HALVES)
		{
			uint16		half = (uint16) atoms->half++;
			uint32		bits;
			float		value;

			if (!(atoms->seen[atoms->dtype][half >> 3] & 1 << (half & 7)))
				continue;
			hart_kernels->widen[atoms->dtype] (&half, &value, 1);
			memcpy(&bits, &value, sizeof(bits));
			if (fill_weight(scan, slot, bits))
				return true;
		}
	return false;
}

static bool
next_float(HartScan *scan, TupleTableSlot *slot)
{
	HartAtomScan *atoms = scan->atoms;
	Datum		datum;
	bool		isnull;

#if PG_VERSION_NUM >= 160000
	while (tuplesort_getdatum(atoms->sort, true, false, &datum, &isnull, NULL))
#else
	while (tuplesort_getdatum(atoms->sort, true, &datum, &isnull, NULL))
#endif
	{
		uint32		bits = (uint32) DatumGetInt32(datum);

		CHECK_FOR_INTERRUPTS();
		if (atoms->any && bits == atoms->last)
			continue;
		atoms->any = true;
		atoms->last = bits;
		if (fill_weight(scan, slot, bits))
			return true;
	}
	return false;
}

/* ---- The scan ---- */

static bool
next_neuron(HartScan *scan, TupleTableSlot *slot)
{
	HartAtomScan *atoms = scan->atoms;

	for (; atoms->space < atoms->n_spaces; atoms->space++, atoms->index = 0)
		while (atoms->index < atoms->spaces[atoms->space].n)
			if (fill_neuron(scan, slot, &atoms->spaces[atoms->space], atoms->index++))
				return true;
	return false;
}

static void
begin_atoms(HartScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(scan->pass_memory);
	HartAtomScan *atoms = palloc0(sizeof(HartAtomScan));

	atoms->memory = scan->pass_memory;
	if (scan->restriction.ints[HART_COLUMN_ID])
		atoms->ids = hart_int_set_intersect(scan->restriction.ints[HART_COLUMN_ID],
											hart_int_set_range(hart_atom_first(HART_ATOM_WEIGHT), hart_atom_first(HART_ATOM_TENSOR) - 1));
	atoms->phase = atoms->ids && hart_int_set_count(atoms->ids) <= MOST_IDS ? BY_ID : NEURONS;
	atoms->id = PG_INT64_MIN;
	load_spaces(atoms, scan->catalog);
	scan->atoms = atoms;
	MemoryContextSwitchTo(old);
}

/* Whether any id of a modality is wanted: the values of all weights are not read for nothing */
static bool
wants(const HartAtomScan *atoms, HartModality modality)
{
	return atoms->ids == NULL ||
		hart_int_set_intersect(atoms->ids, hart_int_set_range(hart_atom_first(modality),
															  hart_atom_first(modality) + (INT64CONST(1) << HART_ATOM_MODALITY_SHIFT) - 1))->n > 0;
}

bool
hart_next_atom(HartScan *scan, TupleTableSlot *slot)
{
	MemoryContext old;
	bool		found = false;

	if (scan->atoms == NULL)
		begin_atoms(scan);
	/* what is in the slot lives to the next call; what is larger lives longer, in the scan's own memory */
	old = MemoryContextSwitchTo(scan->row_memory);
	MemoryContextReset(scan->row_memory);
	while (!found && scan->atoms->phase != DONE)
		switch (scan->atoms->phase)
		{
			case BY_ID:
				if (!(found = next_by_id(scan, slot)))
					scan->atoms->phase = DONE;
				break;
			case NEURONS:
				if (wants(scan->atoms, HART_ATOM_NEURON) && (found = next_neuron(scan, slot)))
					break;
				scan->atoms->phase = HALVES;
				if (!wants(scan->atoms, HART_ATOM_WEIGHT))
					scan->atoms->phase = DONE;
				else
				{
					MemoryContextSwitchTo(scan->pass_memory);
					see_all_values(scan);
					MemoryContextSwitchTo(scan->row_memory);
				}
				break;
			case HALVES:
				if (!(found = next_half(scan, slot)))
					scan->atoms->phase = FLOATS;
				break;
			case FLOATS:
				if (!(found = next_float(scan, slot)))
					scan->atoms->phase = DONE;
				break;
			case DONE:
				break;
		}
	MemoryContextSwitchTo(old);
	return found;
}

void
hart_end_atoms(HartScan *scan)
{
	if (scan->atoms && scan->atoms->sort)
		tuplesort_end(scan->atoms->sort);
	scan->atoms = NULL;
}

double
hart_estimate_atoms(const HartRestriction *restriction, List *unknown, HartCatalog *catalog, double *tiles)
{
	const HartIntSet *ids = restriction->ints[HART_COLUMN_ID];
	ListCell   *cell;

	*tiles = 0;
	if (ids && hart_int_set_count(ids) <= MOST_IDS)
		return hart_int_set_count(ids);
	foreach(cell, unknown)
	{
		HartCondition *condition = lfirst(cell);

		if (condition->op == BTEqualStrategyNumber)
			return 1;
		if (condition->op == HART_EQUALS_ANY)
			return 10;
	}
	for (int i = 0; i < catalog->n_tensors; i++)
		*tiles += (double) hart_tile_count(catalog->tensors[i].format, catalog->tensors[i].rows * catalog->tensors[i].cols);
	/* of values of 16 bits there are never more, and neurons are fewer */
	return N_HALVES;
}
