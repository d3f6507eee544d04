/*
 * weights_fdw_elements.c
 *	  Walking over weights of a tensor, tile by tile.
 */
#include "weights_fdw.h"

#include "tile_reader.h"

double
hart_job_weights(const HartJob *job)
{
	return hart_int_set_count(job->rows) * hart_int_set_count(job->cols);
}

/* Whether reading some columns of each row of a range touches every tile in between */
static bool
is_dense(const HartJob *job)
{
	return job->tensor->cols <= hart_tile_weights(job->tensor->format) ||
		hart_int_set_count(job->cols) == (double) job->tensor->cols;
}

double
hart_job_tiles(const HartJob *job)
{
	double		per_tile = (double) hart_tile_weights(job->tensor->format);
	double		rows = hart_int_set_count(job->rows);
	double		cols = hart_int_set_count(job->cols);
	double		all = (double) hart_tile_count(job->tensor->format, job->tensor->rows * job->tensor->cols);
	double		tiles;

	if (is_dense(job))
		/* at both ends of a range of rows a tile is only partly needed */
		tiles = rows * (double) job->tensor->cols / per_tile + job->rows->n;
	else
		tiles = rows * (cols / per_tile + job->cols->n);
	return Min(all, tiles);
}

void
hart_walk_begin(HartWalk *walk, HartCatalog *catalog, const HartJob *job)
{
	walk->catalog = catalog;
	walk->job = job;
	walk->row_range = 0;
	walk->row = job->rows->ranges[0].first;
	walk->col_range = 0;
	walk->col = job->cols->ranges[0].first;
	walk->payload = NULL;
	if (walk->values == NULL)
		walk->values = MemoryContextAlloc(catalog->memory, HART_MAX_TILE_WEIGHTS * sizeof(float));
}

/* Go on to the first column wanted of the next row wanted; false when there is none */
static bool
next_row(HartWalk *walk)
{
	walk->col_range = 0;
	walk->col = walk->job->cols->ranges[0].first;
	if (++walk->row <= walk->job->rows->ranges[walk->row_range].last)
		return true;
	if (++walk->row_range >= walk->job->rows->n)
		return false;
	walk->row = walk->job->rows->ranges[walk->row_range].first;
	return true;
}

/* Have the tile with an element, the element last being the end of what is read in one go */
static void
need_tile(HartWalk *walk, int64 element, int64 last)
{
	HartCatalogTensor *tensor = walk->job->tensor;
	int64		tile_no = hart_tile_of(tensor->format, element);

	if (walk->payload && walk->tile_no == tile_no)
		return;
	walk->payload = hart_lookup_tile(hart_catalog_lookup(walk->catalog, tensor->model),
									 tensor->tensor_id, tensor->format, tensor->rows * tensor->cols, tile_no,
									 hart_tile_of(tensor->format, last));
	walk->tile_no = tile_no;
}

bool
hart_walk_next(HartWalk *walk, int64 *row, int64 *col, int64 *n)
{
	const HartJob *job = walk->job;
	HartCatalogTensor *tensor = job->tensor;
	int64		element;
	int64		last;
	HartWeightPlace place;

	if (walk->col_range >= job->cols->n && !next_row(walk))
		return false;
	element = walk->row * tensor->cols + walk->col;
	last = is_dense(job) ? job->rows->ranges[walk->row_range].last * tensor->cols + job->cols->ranges[job->cols->n - 1].last
		: walk->row * tensor->cols + job->cols->ranges[walk->col_range].last;
	need_tile(walk, element, last);
	place = hart_place_of(tensor->format, element);

	*row = walk->row;
	*col = walk->col;
	*n = Min(job->cols->ranges[walk->col_range].last - walk->col + 1, hart_tile_weights(tensor->format) - (int64) place.index);
	hart_widen_tile(tensor->format, walk->payload, place.index, walk->values, *n);

	walk->col += *n;
	if (walk->col > job->cols->ranges[walk->col_range].last && ++walk->col_range < job->cols->n)
		walk->col = job->cols->ranges[walk->col_range].first;
	return true;
}
