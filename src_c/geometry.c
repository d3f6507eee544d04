/*
 * geometry.c
 *	  PostGIS points from C; hart.hilbert_encode_4d and hart.hilbert_decode_4d.
 *
 * A PostGIS geometry is, after its varlena header: three bytes of SRID, one of
 * flags, optional further flags and bounding box, the type, and for a point the
 * number of points (0 when it is empty) and the coordinates.
 */
#include "hartonomous.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "geometry.h"
#include "hilbert.h"

#define FLAG_Z 0x01
#define FLAG_M 0x02
#define FLAG_BOX 0x04
#define FLAG_GEODETIC 0x08
#define FLAG_EXTENDED 0x10
#define FLAG_VERSION_2 0x40		/* written since PostGIS 3.0 */
#define POINT_TYPE 1

typedef struct PointZM
{
	int32		vl_len_;
	uint8		srid[3];
	uint8		flags;
	uint32		type;
	uint32		n_points;
	float8		coordinates[4];
} PointZM;

PG_FUNCTION_INFO_V1(hart_hilbert_encode_4d);
PG_FUNCTION_INFO_V1(hart_hilbert_encode_point);
PG_FUNCTION_INFO_V1(hart_hilbert_decode_point);
PG_FUNCTION_INFO_V1(hart_hilbert_decode_4d);

/* Where the type and what follows it lie in a geometry; header is set to the type and the number of points */
static Size
find_type(const char *data, Size size, uint32 header[2])
{
	Size		at = 4;
	uint8		flags;

	if (size < at)
		elog(ERROR, "geometry has only %zu bytes", size);
	flags = (uint8) data[3];
	if ((flags & FLAG_EXTENDED) && (flags & FLAG_VERSION_2))
		at += 8;
	if (flags & FLAG_BOX)
		at += 2 * sizeof(float4) *
			((flags & FLAG_GEODETIC) ? 3 : 2 + ((flags & FLAG_Z) != 0) + ((flags & FLAG_M) != 0));
	if (size < at + 2 * sizeof(uint32))
		elog(ERROR, "geometry has only %zu bytes", size);
	memcpy(header, data + at, 2 * sizeof(uint32));
	return at;
}

bool
hart_is_point(Datum geometry)
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(geometry);
	uint32		header[2];

	find_type(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), header);
	if ((Pointer) value != DatumGetPointer(geometry))
		pfree(value);
	return header[0] == POINT_TYPE;
}

bool
hart_point_of_geometry(Datum geometry, double p[4])
{
	struct varlena *value = PG_DETOAST_DATUM_PACKED(geometry);
	const char *data = VARDATA_ANY(value);
	Size		size = VARSIZE_ANY_EXHDR(value);
	uint32		header[2];
	Size		at = find_type(data, size, header) + sizeof(header);
	bool		complete;

	if (header[0] != POINT_TYPE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("geometry is not a point"),
				 errhint("Give a point with four coordinates, such as ST_MakePoint(0, 0, 0, 0).")));
	complete = (data[3] & (FLAG_Z | FLAG_M)) == (FLAG_Z | FLAG_M) && header[1] == 1;
	if (complete)
	{
		if (size < at + 4 * sizeof(float8))
			elog(ERROR, "point has only %zu bytes", size);
		memcpy(p, data + at, 4 * sizeof(float8));
	}
	if ((Pointer) value != DatumGetPointer(geometry))
		pfree(value);
	return complete;
}

Datum
hart_geometry_of_point(const double p[4])
{
	PointZM    *point = palloc0(sizeof(PointZM));

	SET_VARSIZE(point, sizeof(PointZM));
	point->flags = FLAG_VERSION_2 | FLAG_Z | FLAG_M;
	point->type = POINT_TYPE;
	point->n_points = 1;
	memcpy(point->coordinates, p, sizeof(point->coordinates));
	return PointerGetDatum(point);
}

/* Ensure 1 to 15 bits an axis, so that an index fits a positive bigint */
static void
check_bits(int32 bits)
{
	if (bits < 1 || bits > 15)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("%d bits an axis is out of range", bits),
				 errhint("Use 1 to 15 bits.")));
}

/* The index of a point's cell; error if it is outside of the cube */
static uint64
index_of_point(const double p[4], int32 bits)
{
	uint64		index;

	check_bits(bits);
	if (!hart_hilbert_encode(p, bits, &index))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("point (%g, %g, %g, %g) is out of range", p[0], p[1], p[2], p[3]),
				 errhint("Each coordinate must be a number from -1 to 1.")));
	return index;
}

/* The centre of the cell with an index */
static void
point_of_index(int64 index, int32 bits, double p[4])
{
	check_bits(bits);
	if (index < 0 || !hart_hilbert_decode((uint64) index, bits, p))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("Hilbert index " INT64_FORMAT " is out of range", index),
				 errhint("With %d bits an axis the index goes from 0 to " INT64_FORMAT ".",
						 bits, ((int64) 1 << (4 * bits)) - 1)));
}

/* hart.hilbert_encode_4d(x, y, z, w float8, bits int) → bigint of 4 * bits bits */
Datum
hart_hilbert_encode_4d(PG_FUNCTION_ARGS)
{
	double		p[4];

	for (int i = 0; i < 4; i++)
		p[i] = PG_GETARG_FLOAT8(i);
	PG_RETURN_INT64((int64) index_of_point(p, PG_GETARG_INT32(4)));
}

/* hart.hilbert_encode_4d(point geometry, bits int) → bigint of 4 * bits bits, NULL when the point lacks a coordinate */
Datum
hart_hilbert_encode_point(PG_FUNCTION_ARGS)
{
	double		p[4];

	if (!hart_point_of_geometry(PG_GETARG_DATUM(0), p))
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) index_of_point(p, PG_GETARG_INT32(1)));
}

/* hart.hilbert_decode_4d(index bigint, bits int) → geometry, the cell's centre */
Datum
hart_hilbert_decode_point(PG_FUNCTION_ARGS)
{
	double		p[4];

	point_of_index(PG_GETARG_INT64(0), PG_GETARG_INT32(1), p);
	PG_RETURN_DATUM(hart_geometry_of_point(p));
}

/* hart.hilbert_decode_4d_array(index bigint, bits int) → float8[4], the cell's centre */
Datum
hart_hilbert_decode_4d(PG_FUNCTION_ARGS)
{
	double		p[4];
	Datum		coordinates[4];

	point_of_index(PG_GETARG_INT64(0), PG_GETARG_INT32(1), p);
	for (int i = 0; i < 4; i++)
		coordinates[i] = Float8GetDatum(p[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(coordinates, 4, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
