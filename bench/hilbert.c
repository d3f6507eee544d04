/*
 * hilbert.c
 *		Speed of the Hilbert kernel alone: points encoded and decoded a second by one core.
 */
#include "hilbert.h"

#include <stdio.h>
#include <time.h>

#define N 65536					/* points, that fit the cache */
#define ROUNDS 64

static double points[N][4];
static uint64_t indexes[N];

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double) now.tv_sec + now.tv_nsec * 1e-9;
}

int
main(void)
{
	uint64_t	state = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t	sum = 0;
	double		start;
	double		encode;
	double		decode;

	for (int i = 0; i < N; i++)
		for (int axis = 0; axis < 4; axis++)
		{
			state ^= state >> 12;
			state ^= state << 25;
			state ^= state >> 27;
			points[i][axis] = (double) (state >> 11) * 0x1p-52 - 1.0;
		}
	start = seconds();
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < N; i++)
			sum += hart_hilbert_encode(points[i], 12, &indexes[i]);
	encode = seconds() - start;
	start = seconds();
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < N; i++)
			sum += hart_hilbert_decode(indexes[i], 12, points[i]);
	decode = seconds() - start;
	printf("%.1f %.1f\n", N * ROUNDS / encode / 1e6, N * ROUNDS / decode / 1e6);
	return sum != 2 * (uint64_t) N * ROUNDS;
}
