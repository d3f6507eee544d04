/*
 * bf16.c
 *		Choosing the kernels for bf16 products.
 */
#include "bf16_internal.h"

#include <string.h>

#ifdef HART_BF16_KERNELS
#include <cpuid.h>
#endif

const HartBf16Kernels *hart_bf16_kernels = NULL;

size_t
hart_bf16_panel_rows(size_t bytes, size_t m, size_t cols)
{
	size_t		depth = cols < HART_BF16_DEPTH ? cols : HART_BF16_DEPTH;

	/* what few rows of x leave time for while it is unpacked */
	if (m <= HART_BF16_STRIP)
		return 2 * HART_BF16_STRIP;
	return bytes / (2 * hart_bf16_groups(depth) * HART_BF16_BLOCK) * 2 * HART_BF16_STRIP;
}

#ifdef HART_BF16_KERNELS

#define AVX512_BF16_BIT (1u << 5)	/* of EAX of leaf 7, 1 */

static bool
has_avx512_bf16(void)
{
	unsigned	eax,
				ebx,
				ecx,
				edx;

	return hart_find_kernels("avx512") != NULL && __builtin_cpu_supports("avx512vbmi") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & AVX512_BF16_BIT) != 0;
}

#endif							/* HART_BF16_KERNELS */

const HartBf16Kernels *
hart_bf16_find_kernels(const char *name)
{
#ifdef HART_BF16_KERNELS
	if (strcmp(name, "amx") == 0 && hart_find_kernels(name) != NULL)
		return &hart_bf16_kernels_amx;
	if (strcmp(name, "avx512bf16") == 0 && has_avx512_bf16())
		return &hart_bf16_kernels_avx512bf16;
#endif
	(void) name;
	return NULL;
}

void
hart_bf16_select_kernels(const char *name, bool rounded)
{
	hart_bf16_kernels = NULL;
	if (strcmp(name, "amx") == 0)
		hart_bf16_kernels = hart_bf16_find_kernels("amx");
#ifdef HART_BF16_KERNELS
	/* Intel's processors make no more of these products than of float32's, and measured fewer */
	else if (strcmp(name, "avx512") == 0 && rounded && __builtin_cpu_is("amd"))
		hart_bf16_kernels = hart_bf16_find_kernels("avx512bf16");
#else
	(void) rounded;
#endif
}
