/*
 * threads.h
 *		A small pool of threads inside one process.
 *
 * The threads touch raw memory only.  They run with every signal blocked, so
 * that the process's handlers always run in the thread that owns it, and the
 * calling thread alone watches for a request to stop.
 */
#ifndef HART_THREADS_H
#define HART_THREADS_H

#include <stdbool.h>
#include <stddef.h>

/* Most threads that work on one call, the calling thread included */
#define HART_MAX_THREADS 64

/*
 * Work on items [begin, end).  worker is 0 for the calling thread and less
 * than the number of threads asked for, and no two threads have the same: an
 * index into per-thread scratch.  A task must return; it must not longjmp.
 */
typedef void (*HartTask) (void *arg, size_t begin, size_t end, int worker);

/*
 * Run the task on pieces of at most grain items, in parallel, until all n items
 * are done.  A piece always begins at a multiple of grain, whatever the number
 * of threads; which thread takes which piece is not fixed.  When threads cannot
 * be had the calling thread and those there are do the work.  A call from
 * inside a task runs in the thread that makes it, as worker 0.  Outside tasks
 * only one thread of the process may use the pool.
 *
 * Returns false if hart_cancel_pending said true: then some pieces may not have
 * run.  Either way no thread is inside the task any more.
 */
extern bool hart_parallel_for(int threads, size_t n, size_t grain,
							  HartTask task, void *arg);

/*
 * Asked by the thread that called hart_parallel_for, before each of its pieces
 * and while it waits for the others; may be NULL.  It must return.
 */
extern bool (*hart_cancel_pending) (void);

/* Threads in the pool, the calling thread not counted */
extern int	hart_pool_size(void);

/* Stop and join all threads; the next hart_parallel_for makes new ones */
extern void hart_pool_shutdown(void);

#endif							/* HART_THREADS_H */
