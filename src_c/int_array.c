/*
 * int_array.c
 *	  Arguments of type integer[], as the transformer takes them.
 */
#include "int_array.h"

const int32 *
hart_int_array(ArrayType *array, const char *what, int *n)
{
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s are an array of %d dimensions", what, ARR_NDIM(array)),
				 errhint("Pass them in one dimension.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not contain nulls", what),
				 errhint("Leave out what is missing, or give it a value.")));
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return (const int32 *) ARR_DATA_PTR(array);
}

const int32 *
hart_int_array_of_rows(ArrayType *array, const char *what, int m)
{
	int			n;
	const int32 *numbers = hart_int_array(array, what, &n);

	if (n != m)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%d %s for %d rows", n, what, m),
				 errhint("Pass one for each row, in the order of the rows.")));
	return numbers;
}
