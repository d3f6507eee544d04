/*
 * threads_test.c
 *		The thread pool: every piece once, cancel, growth, failure, fork.
 */
#include "threads.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#define MAX_ITEMS 5000

static bool refuse_threads = false;

/* The linker puts this in place of pthread_create */
extern int	__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
								  void *(*start) (void *), void *arg);
extern int	__real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
								  void *(*start) (void *), void *arg);

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
					  void *(*start) (void *), void *arg)
{
	if (refuse_threads)
		return EAGAIN;
	return __real_pthread_create(thread, attr, start, arg);
}

/* What a task sees and does; the items are not atomic, so races would show */
typedef struct Run
{
	int			threads;
	size_t		n;
	size_t		grain;
	int			times[MAX_ITEMS];
	long		sums[HART_MAX_THREADS];
	atomic_bool busy[HART_MAX_THREADS];
	atomic_bool wrong;
} Run;

static void
count_items(void *arg, size_t begin, size_t end, int worker)
{
	Run		   *run = arg;

	if (begin >= end || end > run->n || end - begin > run->grain ||
		begin % run->grain != 0 || worker < 0 || worker >= run->threads ||
		atomic_exchange(&run->busy[worker], true))
	{
		atomic_store(&run->wrong, true);
		return;
	}
	for (size_t i = begin; i < end; i++)
	{
		run->times[i]++;
		run->sums[worker] += (long) i;
	}
	atomic_store(&run->busy[worker], false);
}

/* One call; true if every item was done once */
static bool
run_once(Run *run, int threads, size_t n, size_t grain)
{
	long		sum = 0;

	memset(run, 0, sizeof(*run));
	run->threads = threads < 1 ? 1 : threads;
	run->n = n;
	run->grain = grain == 0 ? 1 : grain;
	if (!hart_parallel_for(threads, n, grain, count_items, run) || run->wrong)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		if (run->times[i] != 1)
			return false;
	}
	for (int i = 0; i < HART_MAX_THREADS; i++)
		sum += run->sums[i];
	return sum == (long) n * ((long) n - 1) / 2;
}

static Run	shared_run;

static void
test_sums(void)
{
	static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, MAX_ITEMS};
	static const size_t grains[] = {0, 1, 3, 64, 4999, SIZE_MAX};

	for (int threads = -1; threads <= 8; threads++)
	{
		bool		right = true;

		for (int i = 0; i < 8; i++)
		{
			for (int j = 0; j < 6; j++)
			{
				if (!run_once(&shared_run, threads, sizes[i], grains[j]))
					right = false;
			}
		}
		ok(right, "%d threads do every item once", threads);
	}
}

static void
test_many_calls(void)
{
	bool		right = true;

	for (int i = 0; i < 10000; i++)
	{
		if (!run_once(&shared_run, 2 + i % 3, 8, 1))
			right = false;
	}
	ok(right, "10000 tiny calls in a row");

	/* Pauses long and short, around the moment when threads go to sleep */
	right = true;
	for (int i = 0; i < 2000; i++)
	{
		usleep((useconds_t) (random_bits() % 120));
		if (!run_once(&shared_run, 2 + i % 3, 8, 1))
			right = false;
	}
	ok(right, "2000 tiny calls with pauses between them");
}

static void
add_one(void *arg, size_t begin, size_t end, int worker)
{
	(void) worker;
	atomic_fetch_add((atomic_size_t *) arg, end - begin);
}

/* Takes part in a nested call, from any thread */
static void
nest(void *arg, size_t begin, size_t end, int worker)
{
	(void) worker;
	for (size_t i = begin; i < end; i++)
		hart_parallel_for(8, 100, 7, add_one, arg);
}

static void
test_nesting(void)
{
	atomic_size_t total = 0;

	ok(hart_parallel_for(4, 50, 1, nest, &total) && total == 5000,
	   "calls from inside tasks do all their items");
	ok(run_once(&shared_run, 4, 1000, 1), "and the pool still works");
}

static void
test_growth(void)
{
	hart_pool_shutdown();
	ok(hart_pool_size() == 0, "no threads after a shutdown");
	ok(run_once(&shared_run, 1, 100, 1) && hart_pool_size() == 0,
	   "one thread needs no pool");
	ok(run_once(&shared_run, 2, 100, 1) && hart_pool_size() == 1,
	   "the first call makes threads");
	ok(run_once(&shared_run, 6, 100, 1) && hart_pool_size() == 5,
	   "a call that asks for more makes more");
	ok(run_once(&shared_run, 3, 100, 1) && hart_pool_size() == 5,
	   "a call that asks for fewer keeps them");
	ok(run_once(&shared_run, 1000, MAX_ITEMS, 1) &&
	   hart_pool_size() == HART_MAX_THREADS - 1, "there is an upper limit");
	hart_pool_shutdown();
	hart_pool_shutdown();
	ok(hart_pool_size() == 0, "a second shutdown does nothing");

	refuse_threads = true;
	ok(run_once(&shared_run, 4, 1000, 3) && hart_pool_size() == 0,
	   "without threads the caller does the work");
	refuse_threads = false;
	hart_pool_shutdown();
	ok(run_once(&shared_run, 4, 1000, 3) && hart_pool_size() == 3,
	   "after a shutdown threads are tried again");
}

static atomic_bool worker_blocks_signals;

static void
look_at_signals(void *arg, size_t begin, size_t end, int worker)
{
	sigset_t	mask;

	(void) arg;
	(void) begin;
	(void) end;
	if (worker == 0)
	{
		usleep(2000);
		return;
	}
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	for (int signal = 1; signal < 32; signal++)
	{
		if (signal != SIGKILL && signal != SIGSTOP &&
			!sigismember(&mask, signal))
			return;
	}
	atomic_store(&worker_blocks_signals, true);
}

static void
test_signals(void)
{
	sigset_t	mask;

	/* A worker might not wake up in time to get a piece; then try again */
	for (int i = 0; i < 1000 && !worker_blocks_signals; i++)
		hart_parallel_for(2, 2, 1, look_at_signals, NULL);
	ok(worker_blocks_signals, "workers block all signals");
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	ok(!sigismember(&mask, SIGTERM) && !sigismember(&mask, SIGINT) &&
	   !sigismember(&mask, SIGUSR1), "the calling thread's signals are as before");
}

static pthread_t owner;
static int	polls = 0;
static int	polls_until_cancel = 0;
static bool polled_elsewhere = false;

static bool
cancel_after_polls(void)
{
	if (!pthread_equal(pthread_self(), owner))
		polled_elsewhere = true;
	return ++polls > polls_until_cancel;
}

static void
add_slowly(void *arg, size_t begin, size_t end, int worker)
{
	usleep(200);
	add_one(arg, begin, end, worker);
}

/* The caller's pieces are nothing, so that it soon waits for a long one */
static void
keep_caller_waiting(void *arg, size_t begin, size_t end, int worker)
{
	if (worker > 0)
		usleep(100000);
	else
		usleep(1000);
	add_one(arg, begin, end, worker);
}

static void
test_cancel(void)
{
	hart_cancel_pending = cancel_after_polls;
	owner = pthread_self();

	for (int threads = 1; threads <= 4; threads++)
	{
		atomic_size_t done = 0;
		size_t		after;

		polls = 0;
		polls_until_cancel = 3;
		ok(!hart_parallel_for(threads, 10000, 1, add_slowly, &done),
		   "a cancelled call with %d threads returns false", threads);
		after = done;
		ok(after >= 3 && after < 10000, "it did a part of the work");
		usleep(2000);
		ok(done == after, "and nothing goes on after it returned");

		polls = 0;
		polls_until_cancel = 1000000;
		ok(run_once(&shared_run, threads, 1000, 1), "the next call is complete");
	}

	polls = 0;
	polls_until_cancel = 0;
	{
		atomic_size_t done = 0;

		ok(!hart_parallel_for(1, 10, 1, add_one, &done) && done == 0,
		   "nothing is done when cancel is already pending");
	}

	/* Two pieces: cancel comes while the caller waits for the other's */
	{
		bool		seen = false;

		for (int i = 0; i < 20 && !seen; i++)
		{
			atomic_size_t done = 0;

			polls = 0;
			polls_until_cancel = 3;
			seen = !hart_parallel_for(2, 2, 1, keep_caller_waiting, &done) &&
				done == 2;
		}
		ok(seen, "cancel is noticed while the caller waits");
	}
	ok(!polled_elsewhere, "only the calling thread asks about cancel");
	hart_cancel_pending = NULL;
}

/* ThreadSanitizer allows no threads after fork */
#ifndef __SANITIZE_THREAD__
static void
test_fork(void)
{
	pid_t		child;
	int			status = 1;

	ok(run_once(&shared_run, 4, 1000, 1), "a pool before fork");
	child = fork();
	if (child == 0)
	{
		bool		right = hart_pool_size() == 0 &&
			run_once(&shared_run, 4, 1000, 1) && hart_pool_size() == 3;

		hart_pool_shutdown();
		_exit(right ? 0 : 1);
	}
	waitpid(child, &status, 0);
	ok(status == 0, "a forked child makes its own pool");
	ok(run_once(&shared_run, 4, 1000, 1), "and the parent's still works");
}
#endif

int
main(void)
{
	test_sums();
	test_many_calls();
	test_nesting();
	test_growth();
	test_signals();
	test_cancel();
#ifndef __SANITIZE_THREAD__
	test_fork();
#endif
	hart_pool_shutdown();
	return tap_done();
}
