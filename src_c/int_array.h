/*
 * int_array.h
 *	  Arguments of type integer[], as the transformer takes them: tokens, sequences, positions.
 */
#ifndef HART_INT_ARRAY_H
#define HART_INT_ARRAY_H

#include "hartonomous.h"

#include "utils/array.h"

/* the numbers of an array and how many there are; error when it has several dimensions or NULLs. `what` is plural: "positions" */
extern const int32 *hart_int_array(ArrayType *array, const char *what, int *n);

/* the same, of an array that must have one number for each of m rows */
extern const int32 *hart_int_array_of_rows(ArrayType *array, const char *what, int m);

#endif							/* HART_INT_ARRAY_H */
