/*
 * tensor.h
 *	  How a tensor's numbers are stored.
 */
#ifndef HART_TENSOR_H
#define HART_TENSOR_H

#include "kernels.h"

/* dtype by its name in safetensors: F32, F16, BF16; error for others */
extern HartDtype hart_parse_dtype(const char *dtype);

#endif							/* HART_TENSOR_H */
