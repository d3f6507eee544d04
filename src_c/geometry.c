/*
 * geometry.c
 *	  hart.hilbert_encode_4d and hart.hilbert_decode_4d.
 */
#include "hartonomous.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "hilbert.h"

PG_FUNCTION_INFO_V1(hart_hilbert_encode_4d);
PG_FUNCTION_INFO_V1(hart_hilbert_decode_4d);

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

/* hart.hilbert_encode_4d(x, y, z, w float8, bits int) → bigint of 4 * bits bits */
Datum
hart_hilbert_encode_4d(PG_FUNCTION_ARGS)
{
	double		p[4];
	int32		bits = PG_GETARG_INT32(4);
	uint64		index;

	check_bits(bits);
	for (int i = 0; i < 4; i++)
		p[i] = PG_GETARG_FLOAT8(i);
	if (!hart_hilbert_encode(p, bits, &index))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("point (%g, %g, %g, %g) is out of range", p[0], p[1], p[2], p[3]),
				 errhint("Each coordinate must be a number from -1 to 1.")));
	PG_RETURN_INT64((int64) index);
}

/* hart.hilbert_decode_4d_array(index bigint, bits int) → float8[4], the cell's centre */
Datum
hart_hilbert_decode_4d(PG_FUNCTION_ARGS)
{
	int64		index = PG_GETARG_INT64(0);
	int32		bits = PG_GETARG_INT32(1);
	double		p[4];
	Datum		coordinates[4];

	check_bits(bits);
	if (index < 0 || !hart_hilbert_decode((uint64) index, bits, p))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("Hilbert index " INT64_FORMAT " is out of range", index),
				 errhint("With %d bits an axis the index goes from 0 to " INT64_FORMAT ".",
						 bits, ((int64) 1 << (4 * bits)) - 1)));
	for (int i = 0; i < 4; i++)
		coordinates[i] = Float8GetDatum(p[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(coordinates, 4, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
