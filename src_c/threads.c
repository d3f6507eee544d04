/*
 * threads.c
 *		A small pool of threads inside one process.
 *
 * One job at a time.  Its whole state that threads race on is two words: `gate`
 * (is there a job, how many may join, how many are inside) and `next_piece`.  A
 * thread may join only while the gate is open, and the caller, once no piece is
 * left, closes it and waits for those inside only.  So a thread that was too
 * slow to wake up costs the caller nothing, which matters when the machine has
 * more to do than cores.
 *
 * Decoding a token makes hundreds of short calls in a row.  Threads therefore
 * spin for a moment before they sleep, and then find the next job without a
 * system call.
 */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define SPIN_NANOSECONDS 40000
#define POLL_NANOSECONDS 5000000	/* how often a sleeping caller asks for cancel */
#define STACK_BYTES (1024 * 1024)

/* A job's gate: generation in the high half, then these */
#define GATE_OPEN			UINT64_C(0x80000000)
#define GATE_LIMIT_SHIFT	16
#define GATE_LIMIT(gate)	((int) (((gate) >> GATE_LIMIT_SHIFT) & 0xff))
#define GATE_INSIDE(gate)	((int) ((gate) & 0xffff))
#define GATE_GENERATION(gate) ((uint32_t) ((gate) >> 32))

/* A place to sleep until a condition on atomics holds */
typedef struct Sleeper
{
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	atomic_bool asleep;
} Sleeper;

typedef struct Worker
{
	pthread_t	thread;
	Sleeper		sleeper;
	int			number;
	uint32_t	generation;		/* of the last job it has seen */
} Worker;

/* The current job; written while the gate is closed and nobody is inside */
static struct
{
	HartTask	task;
	void	   *arg;
	size_t		n;
	size_t		grain;
	size_t		n_pieces;
} job;

static _Atomic uint64_t gate;
static atomic_size_t next_piece;
static atomic_bool stopping;	/* the current job was cancelled */
static atomic_bool quitting;	/* the pool is shutting down */

static Worker workers[HART_MAX_THREADS];	/* number 0, the caller, is unused */
static int	n_workers = 0;
static bool creation_failed = false;
static Sleeper caller;
static bool initialized = false;
static _Thread_local bool inside_task = false;

bool		(*hart_cancel_pending) (void) = NULL;

static inline void
cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

static int64_t
now_nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
init_sleeper(Sleeper *sleeper)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&sleeper->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&sleeper->cond, &attr);
	pthread_condattr_destroy(&attr);
	atomic_store(&sleeper->asleep, false);
}

/* Spin for a moment; false if the condition still does not hold */
static bool
spin_until(bool (*condition) (const void *), const void *arg)
{
	int64_t		deadline = now_nanoseconds() + SPIN_NANOSECONDS;

	do
	{
		for (int i = 0; i < 16; i++)
		{
			if (condition(arg))
				return true;
			cpu_relax();
		}
	} while (now_nanoseconds() < deadline);
	return condition(arg);
}

/*
 * Sleep until the condition holds, or for some nanoseconds if not 0.
 *
 * No wake-up is lost: the sleeper sets `asleep` and then looks at the condition,
 * the waker changes the condition and then looks at `asleep`, all sequentially
 * consistent, so at least one of them sees the other; and the mutex keeps the
 * waker's signal out of the gap before the wait.
 */
static void
sleep_until(Sleeper *sleeper, bool (*condition) (const void *), const void *arg,
			int64_t nanoseconds)
{
	struct timespec deadline;
	int64_t		end = now_nanoseconds() + nanoseconds;

	deadline.tv_sec = (time_t) (end / 1000000000);
	deadline.tv_nsec = (long) (end % 1000000000);

	pthread_mutex_lock(&sleeper->mutex);
	atomic_store(&sleeper->asleep, true);
	while (!condition(arg))
	{
		if (nanoseconds == 0)
			pthread_cond_wait(&sleeper->cond, &sleeper->mutex);
		else if (pthread_cond_timedwait(&sleeper->cond, &sleeper->mutex,
										&deadline) == ETIMEDOUT)
			break;
	}
	atomic_store(&sleeper->asleep, false);
	pthread_mutex_unlock(&sleeper->mutex);
}

/* Wake the sleeper, if it sleeps, after its condition was made true */
static void
wake(Sleeper *sleeper)
{
	if (atomic_load(&sleeper->asleep))
	{
		pthread_mutex_lock(&sleeper->mutex);
		pthread_cond_signal(&sleeper->cond);
		pthread_mutex_unlock(&sleeper->mutex);
	}
}

/* Claim the next piece and run it; false if there is none */
static bool
run_piece(int worker)
{
	size_t		piece;
	size_t		begin;
	size_t		left;

	/* The plain load first: counting up for ever could wrap around */
	if (atomic_load_explicit(&next_piece, memory_order_relaxed) >= job.n_pieces)
		return false;
	piece = atomic_fetch_add_explicit(&next_piece, 1, memory_order_relaxed);
	if (piece >= job.n_pieces)
		return false;

	begin = piece * job.grain;
	left = job.n - begin;
	inside_task = true;
	job.task(job.arg, begin, begin + (left < job.grain ? left : job.grain),
			 worker);
	inside_task = false;
	return true;
}

/* Is there a job for this worker that it has not seen, or is it to quit? */
static bool
worker_wanted(const void *arg)
{
	const Worker *worker = arg;
	uint64_t	now = atomic_load(&gate);

	return atomic_load(&quitting) ||
		((now & GATE_OPEN) != 0 && worker->number < GATE_LIMIT(now) &&
		 worker->generation != GATE_GENERATION(now));
}

/* Join the open job; false if it is not open, or not for this worker */
static bool
enter_job(Worker *worker)
{
	uint64_t	now = atomic_load(&gate);

	while ((now & GATE_OPEN) != 0 && worker->number < GATE_LIMIT(now))
	{
		if (atomic_compare_exchange_weak(&gate, &now, now + 1))
		{
			worker->generation = GATE_GENERATION(now);
			return true;
		}
	}
	return false;
}

static void *
worker_main(void *arg)
{
	Worker	   *worker = arg;

	for (;;)
	{
		if (!spin_until(worker_wanted, worker))
			sleep_until(&worker->sleeper, worker_wanted, worker, 0);
		if (atomic_load(&quitting))
			return NULL;
		if (!enter_job(worker))
			continue;

		while (!atomic_load_explicit(&stopping, memory_order_relaxed) &&
			   run_piece(worker->number))
			;

		/* The last to leave a closed job tells the caller */
		if ((atomic_fetch_sub(&gate, 1) & (GATE_OPEN | 0xffff)) == 1)
			wake(&caller);
	}
}

/* In a forked child there are no threads, whatever the variables say */
static void
forget_pool(void)
{
	n_workers = 0;
	creation_failed = false;
	atomic_store(&gate, 0);
	atomic_store(&quitting, false);
	init_sleeper(&caller);
}

/* Try to have as many workers as wanted; all their signals are blocked */
static void
grow_pool(int wanted)
{
	sigset_t	all;
	sigset_t	saved;
	pthread_attr_t attr;

	if (!initialized)
	{
		init_sleeper(&caller);
		pthread_atfork(NULL, NULL, forget_pool);
		initialized = true;
	}

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);

	while (n_workers < wanted && !creation_failed)
	{
		Worker	   *worker = &workers[n_workers + 1];

		memset(worker, 0, sizeof(*worker));
		init_sleeper(&worker->sleeper);
		worker->number = n_workers + 1;
		worker->generation = GATE_GENERATION(atomic_load(&gate));
		if (pthread_create(&worker->thread, &attr, worker_main, worker) == 0)
			n_workers++;
		else
			creation_failed = true;
	}

	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

/* Has everybody left the job? */
static bool
job_empty(const void *arg)
{
	(void) arg;
	return GATE_INSIDE(atomic_load(&gate)) == 0;
}

static bool
cancelled(void)
{
	return hart_cancel_pending != NULL && hart_cancel_pending();
}

/* Do all pieces in this thread; a nested call leaves polling to the outer one */
static bool
run_alone(size_t n, size_t grain, HartTask task, void *arg)
{
	for (size_t begin = 0; begin < n;)
	{
		size_t		length = n - begin < grain ? n - begin : grain;

		if (!inside_task && cancelled())
			return false;
		task(arg, begin, begin + length, 0);
		begin += length;
	}
	return true;
}

bool
hart_parallel_for(int threads, size_t n, size_t grain, HartTask task, void *arg)
{
	uint64_t	generation;
	size_t		n_pieces;
	bool		stop = false;

	if (grain == 0)
		grain = 1;
	n_pieces = n / grain + (n % grain != 0);
	if (threads > HART_MAX_THREADS)
		threads = HART_MAX_THREADS;
	if (threads > 1 && (size_t) threads > n_pieces)
		threads = (int) n_pieces;

	if (threads > n_workers + 1 && !inside_task && !creation_failed)
		grow_pool(threads - 1);
	if (threads > n_workers + 1)
		threads = n_workers + 1;
	if (threads <= 1 || inside_task)
		return run_alone(n, grain, task, arg);

	job.task = task;
	job.arg = arg;
	job.n = n;
	job.grain = grain;
	job.n_pieces = n_pieces;
	atomic_store_explicit(&next_piece, 0, memory_order_relaxed);
	atomic_store_explicit(&stopping, false, memory_order_relaxed);

	/* Open the gate: from here on workers read all of the above */
	generation = GATE_GENERATION(atomic_load(&gate)) + UINT64_C(1);
	atomic_store(&gate, generation << 32 | GATE_OPEN |
				 (uint64_t) threads << GATE_LIMIT_SHIFT);
	for (int i = 1; i < threads; i++)
		wake(&workers[i].sleeper);

	do
	{
		stop = cancelled();
	} while (!stop && run_piece(0));

	/* Close the gate, then wait for those inside */
	if (stop)
		atomic_store(&stopping, true);
	atomic_fetch_and(&gate, ~GATE_OPEN);
	if (!job_empty(NULL) && !spin_until(job_empty, NULL))
	{
		while (!job_empty(NULL))
		{
			if (!stop && cancelled())
			{
				stop = true;
				atomic_store(&stopping, true);
			}
			sleep_until(&caller, job_empty, NULL, POLL_NANOSECONDS);
		}
	}
	return !stop;
}

int
hart_pool_size(void)
{
	return n_workers;
}

void
hart_pool_shutdown(void)
{
	atomic_store(&quitting, true);
	for (int i = 1; i <= n_workers; i++)
		wake(&workers[i].sleeper);
	for (int i = 1; i <= n_workers; i++)
	{
		pthread_join(workers[i].thread, NULL);
		pthread_cond_destroy(&workers[i].sleeper.cond);
		pthread_mutex_destroy(&workers[i].sleeper.mutex);
	}
	n_workers = 0;
	creation_failed = false;
	atomic_store(&quitting, false);
}
