/*
 * hilbert.h
 *		The Hilbert curve through the 4D cube [-1, 1]^4.
 *
 * J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707,
 * 381 (2004).  With b bits an axis the cube has 2^b cells an axis and the index
 * has 4 b bits.  Cells whose indexes differ by one share a face, and the index
 * at b bits is the index at b + 1 bits shifted right by 4.
 */
#ifndef HART_HILBERT_H
#define HART_HILBERT_H

#include <stdbool.h>
#include <stdint.h>

#define HART_HILBERT_DIMS 4
#define HART_HILBERT_MAX_BITS 15	/* 60 bits of index: a positive bigint */

/*
 * The index of a cell, whose place on each axis counts from 0, and the cell of
 * an index.  bits is 1 to 15 and both arguments are in range: not checked.
 */
extern uint64_t hart_hilbert_index(const uint32_t cell[HART_HILBERT_DIMS], int bits);
extern void hart_hilbert_cell(uint64_t index, int bits, uint32_t cell[HART_HILBERT_DIMS]);

/*
 * Find the index of the cell that holds the point.  A cell includes its lower
 * faces; the last cell of an axis includes 1 as well.  Returns false if a
 * coordinate is NaN, infinite or outside [-1, 1], or bits outside 1..15.
 */
extern bool hart_hilbert_encode(const double p[HART_HILBERT_DIMS], int bits,
								uint64_t *index);

/*
 * Find the centre of the cell with the given index.  Returns false if bits is
 * outside 1..15 or the index needs more than 4 * bits bits.
 */
extern bool hart_hilbert_decode(uint64_t index, int bits,
								double p[HART_HILBERT_DIMS]);

#endif							/* HART_HILBERT_H */
