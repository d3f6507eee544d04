/*
 * tap.h
 *		Test results in the Test Anything Protocol, random numbers, and memory
 *		that traps when a test reads beside it.
 */
#ifndef HART_TAP_H
#define HART_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int	tap_tests = 0;
static int	tap_failures = 0;

/* Report one test */
__attribute__((format(printf, 2, 3), unused))
static bool
ok(bool passed, const char *format,...)
{
	va_list		args;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_tests);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	tap_failures += !passed;
	return passed;
}

/* Print the plan; the result is the program's exit status */
__attribute__((unused))
static int
tap_done(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures != 0;
}

/* The same numbers every time (xorshift64*, S. Vigna) */
__attribute__((unused))
static uint64_t
random_bits(void)
{
	static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Uniform in [-1, 1) */
__attribute__((unused))
static double
random_unit(void)
{
	return (double) (random_bits() >> 11) * 0x1p-52 - 1.0;
}

/*
 * Memory between two pages that cannot be touched.  It ends exactly at the
 * second one; with at_start it begins exactly after the first.
 */
__attribute__((unused))
static void *
guarded_memory(size_t bytes, bool at_start)
{
	size_t		page = (size_t) sysconf(_SC_PAGESIZE);
	size_t		middle = (bytes + page - 1) / page * page;
	char	   *memory = mmap(NULL, middle + 2 * page, PROT_READ | PROT_WRITE,
							  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED ||
		mprotect(memory, page, PROT_NONE) != 0 ||
		mprotect(memory + page + middle, page, PROT_NONE) != 0)
	{
		perror("Bail out! no memory");
		exit(1);
	}
	return memory + page + (at_start ? 0 : middle - bytes);
}

#endif							/* HART_TAP_H */
