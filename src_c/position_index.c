/*
 * position_index.c
 *	  Distances for the GiST index of token positions.
 *
 * PostGIS has an operator class for n dimensions, whose distance function makes a box of the point that is looked for
 * anew for each entry it meets, some thousands a search, and lets the executor compute each distance again. This one reads
 * the coordinates where they are, and answers finally where an entry says exactly where its point lies: where
 * float32 holds the coordinates, as it does in neighbourhood charts.
 */
#include "hartonomous.h"

#include <math.h>

#include "access/gist.h"
#include "utils/float.h"

#include "geometry.h"

#define AXES 4

/* A key of the index, PostGIS's type gidx: the range of each axis, rounded outwards to float32; fewer axes where a geometry has fewer, none where it is empty */
typedef struct PositionBox
{
	int32		vl_len_;
	struct
	{
		float4		low;
		float4		high;
	}			axis[FLEXIBLE_ARRAY_MEMBER];
} PositionBox;

PG_FUNCTION_INFO_V1(hart_position_distance);

/* hart.position_distance(entry, point geometry, strategy, subtype, recheck): GiST's distance function for <<->> */
Datum
hart_position_distance(PG_FUNCTION_ARGS)
{
	GISTENTRY  *entry = (GISTENTRY *) PG_GETARG_POINTER(0);
	bool	   *recheck = (bool *) PG_GETARG_POINTER(4);
	const PositionBox *box = (const PositionBox *) DatumGetPointer(entry->key);
	bool		exact = true;
	double		squares = 0;
	double		p[AXES];

	/* of what is no complete point PostGIS itself tells the distance, row by row */
	*recheck = true;
	if (!hart_is_point(PG_GETARG_DATUM(1)) || !hart_point_of_geometry(PG_GETARG_DATUM(1), p))
		PG_RETURN_FLOAT8(0);
	if (VARSIZE(box) < offsetof(PositionBox, axis) + AXES * sizeof(box->axis[0]))
		PG_RETURN_FLOAT8(VARSIZE(box) > offsetof(PositionBox, axis) ? 0 : get_float8_infinity());

	for (int i = 0; i < AXES; i++)
	{
		double		outside = Max(box->axis[i].low - p[i], p[i] - box->axis[i].high);

		if (outside > 0)
			squares += outside * outside;
		exact = exact && box->axis[i].low == box->axis[i].high;
	}
	*recheck = !(GIST_LEAF(entry) && exact);
	/* a distance that is computed again must not come out smaller, be it by a rounding: the executor takes that for an error */
	PG_RETURN_FLOAT8(sqrt(squares) * (exact ? 1 : 1 - 1e-14));
}
