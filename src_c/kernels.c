/*
 * kernels.c
 *		Choosing the set of kernels for this processor.
 */
#include "kernels_internal.h"

#include <string.h>

#ifdef HART_X86_KERNELS
#include <cpuid.h>
#endif
#ifdef HART_BF16_KERNELS
#include <sys/syscall.h>
#include <unistd.h>
#endif

const HartKernels *hart_kernels = &hart_kernels_portable;

#ifdef HART_X86_KERNELS

/* AVX2, FMA and F16C, and an operating system that saves the registers */
static bool
has_avx2(void)
{
	unsigned	eax,
				ebx,
				ecx,
				edx;

	/* Not every compiler's __builtin_cpu_supports knows of F16C */
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
}

/* The AVX-512 subsets of every server processor since Skylake */
static bool
has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") &&
		__builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vl");
}

#ifdef HART_BF16_KERNELS

#define AMX_BF16_BIT (1u << 22) /* of EDX of leaf 7 */
#define AMX_TILE_BIT (1u << 24)
#define AVX512_BF16_BIT (1u << 5)	/* of EAX of leaf 7, 1 */
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

/* AMX, and the system's leave to use its registers, which a process asks for once */
static bool
has_amx(void)
{
	static int	answer = -1;
	unsigned	eax,
				ebx,
				ecx,
				edx;

	if (answer < 0)
		answer = has_avx512() && __builtin_cpu_supports("avx512vbmi") &&
			__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
			(edx & (AMX_BF16_BIT | AMX_TILE_BIT)) == (AMX_BF16_BIT | AMX_TILE_BIT) &&
			__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & AVX512_BF16_BIT) != 0 &&
			syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
	return answer > 0;
}

#endif							/* HART_BF16_KERNELS */

#endif							/* HART_X86_KERNELS */

const HartKernels *
hart_find_kernels(const char *name)
{
	if (strcmp(name, "portable") == 0)
		return &hart_kernels_portable;
#ifdef HART_X86_KERNELS
	if (strcmp(name, "avx2") == 0 && has_avx2())
		return &hart_kernels_avx2;
#ifdef HART_BF16_KERNELS
	if (strcmp(name, "avx512") == 0 && has_avx512() && __builtin_cpu_supports("avx512vbmi"))
		return &hart_kernels_avx512vbmi;
#endif
	if (strcmp(name, "avx512") == 0 && has_avx512())
		return &hart_kernels_avx512;
#ifdef HART_BF16_KERNELS
	if (strcmp(name, "amx") == 0 && has_amx())
		return &hart_kernels_amx;
#endif
#endif
	return NULL;
}

bool
hart_select_kernels(const char *name)
{
	static const char *const best_first[] = {"amx", "avx512", "avx2", "portable"};
	const HartKernels *found = NULL;

	if (strcmp(name, "auto") == 0)
	{
		for (int i = 0; found == NULL; i++)
			found = hart_find_kernels(best_first[i]);
	}
	else
		found = hart_find_kernels(name);

	if (found == NULL)
		return false;
	hart_kernels = found;
	return true;
}
