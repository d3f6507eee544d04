/*
 * settings.h
 *	  The settings (GUCs) of the extension that C code reads.
 */
#ifndef HART_SETTINGS_H
#define HART_SETTINGS_H

#include "threads.h"

/* elements a piece of what does little with each: less does not pay for waking a thread */
#define HART_PIECE_ELEMENTS 32768

extern int	hart_pin_percent;		/* largest share of shared_buffers that one context pins, percent */

extern int	hart_prefix_cache;		/* memory of prompts that the session remembers, MB */

extern int	hart_kv_cache_limit;	/* memory of all keys and values of the session, MB */

/* terms that activations are split in for products with bf16 weights (hart.activations): 1 where they are rounded to bf16 */
extern int	hart_activation_terms(void);

/* what decides the bits of a result: the set of kernels and whether activations are rounded; never 0 */
extern int	hart_arithmetic(void);

/* number of threads to compute with, at least 1 (hart.threads, where 0 means every core this process may use) */
extern int	hart_n_threads(void);

/*
 * hart_parallel_for with the threads of the settings. Acts on interrupts; one that
 * does not end the query starts the work anew, so a task must give the same result
 * when it is run twice.
 */
extern void hart_run_parallel(size_t n, size_t grain, HartTask task, void *arg);

#endif							/* HART_SETTINGS_H */
