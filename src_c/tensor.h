/*
 * tensor.h
 *	  How a tensor's numbers are stored.
 */
#ifndef HART_TENSOR_H
#define HART_TENSOR_H

#include "hartonomous.h"

#include "utils/array.h"

#include "kernels.h"

/* dtype by its name in safetensors: F32, F16, BF16; error for others */
extern HartDtype hart_parse_dtype(const char *dtype);

/* rows × columns of a tensor's shape, a vector being one row; false when they do not make up its bytes */
extern bool hart_tensor_shape(ArrayType *shape, HartDtype dtype, int64 bytes, int64 *rows, int64 *cols);

#endif							/* HART_TENSOR_H */
