/*
 * narrow.c
 *		Numbers of float32 in the storage types of weights.
 */
#include "narrow.h"

#include <string.h>

/* Shift right, rounded to nearest, ties to even; 1 <= shift <= 31 */
static uint32_t
shift_rounded(uint32_t bits, int shift)
{
	uint32_t	kept = bits >> shift;
	uint32_t	rest = bits & ((UINT32_C(1) << shift) - 1);
	uint32_t	half = UINT32_C(1) << (shift - 1);

	return kept + (rest > half || (rest == half && (kept & 1)));
}

/*
 * magnitude: the bits of a finite binary32 without its sign, so that one more
 * in the last place is the next larger number and a carry runs into the exponent
 */
static uint32_t
bf16_magnitude(uint32_t magnitude)
{
	return shift_rounded(magnitude, 16);
}

static uint32_t
f16_magnitude(uint32_t magnitude)
{
	int			exponent = (int) (magnitude >> 23) - 127;
	uint32_t	fraction = (magnitude & 0x7fffff) | 0x800000;

	if (exponent > 15)
		return 0x7c00;
	if (exponent >= -14)
		return shift_rounded(magnitude - ((uint32_t) (127 - 15) << 23), 13);
	/* subnormal: units of 2^-24; what is below half a unit is zero */
	if (exponent < -25)
		return 0;
	return shift_rounded(fraction, -1 - exponent);
}

HartNarrowing
hart_narrow(HartDtype dtype, float value, void *out)
{
	uint32_t	bits;
	uint32_t	magnitude;
	uint32_t	narrow;
	uint32_t	infinity = dtype == HART_F16 ? 0x7c00 : 0x7f80;
	uint16_t	stored;
	float		widened;

	memcpy(&bits, &value, sizeof(bits));
	if (dtype == HART_F32)
	{
		memcpy(out, &bits, sizeof(bits));
		return HART_EXACT;
	}
	magnitude = bits & 0x7fffffff;
	if (magnitude > 0x7f800000)
		narrow = infinity | (dtype == HART_F16 ? 0x0200 | (magnitude >> 13 & 0x3ff) : 0x0040 | (magnitude >> 16 & 0x7f));
	else if (magnitude == 0x7f800000)
		narrow = infinity;
	else
	{
		narrow = dtype == HART_F16 ? f16_magnitude(magnitude) : bf16_magnitude(magnitude);
		if (narrow >= infinity)
			return HART_OVERFLOW;
		if (narrow == 0 && magnitude != 0)
			return HART_UNDERFLOW;
	}
	stored = (uint16_t) (narrow | (bits >> 31 << 15));
	memcpy(out, &stored, sizeof(stored));
	hart_kernels->widen[dtype] (&stored, &widened, 1);
	return memcmp(&widened, &value, sizeof(value)) == 0 ? HART_EXACT : HART_ROUNDED;
}
