/* Read bandwidth of memory: threads sum their parts of a buffer, and each pass over it is timed.
 *
 * usage: bandwidth THREADS MEBIBYTES PASSES     prints GB/s of each pass, one a line */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MAX_THREADS 64

typedef uint64_t vector __attribute__((vector_size(64)));

static vector *buffer;
static size_t n_vectors;
static int	n_threads;
static int	n_passes;
static pthread_barrier_t barrier;
static volatile uint64_t sink;

/* Sum a range with eight independent accumulators. */
static uint64_t
sum(const vector *from, const vector *to)
{
	vector		a[8] = {{0}};
	uint64_t	total = 0;

	for (; from + 8 <= to; from += 8)
		for (int i = 0; i < 8; i++)
			a[i] += from[i];
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 8; j++)
			total += a[i][j];
	return total;
}

/* One thread's part of every pass. */
static void *
work(void *arg)
{
	size_t		part = (size_t) (intptr_t) arg;
	const vector *from = buffer + n_vectors * part / n_threads;
	const vector *to = buffer + n_vectors * (part + 1) / n_threads;

	for (int pass = 0; pass < n_passes; pass++)
	{
		pthread_barrier_wait(&barrier);
		sink += sum(from, to);
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

int
main(int argc, char **argv)
{
	pthread_t	threads[MAX_THREADS];
	size_t		bytes;

	n_threads = argc == 4 ? atoi(argv[1]) : 0;
	bytes = argc == 4 ? (size_t) atol(argv[2]) << 20 : 0;
	n_passes = argc == 4 ? atoi(argv[3]) : 0;
	if (n_threads < 1 || n_threads > MAX_THREADS || bytes == 0 || n_passes < 1)
	{
		fprintf(stderr, "usage: bandwidth THREADS MEBIBYTES PASSES\n");
		return 2;
	}

	buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
	{
		perror("mmap");
		return 1;
	}
	/* without huge pages the figure would be that of the page tables, too */
	madvise(buffer, bytes, MADV_HUGEPAGE);
	memset(buffer, 1, bytes);
	n_vectors = bytes / sizeof(vector);

	pthread_barrier_init(&barrier, NULL, n_threads + 1);
	for (int i = 0; i < n_threads; i++)
		pthread_create(&threads[i], NULL, work, (void *) (intptr_t) i);
	for (int pass = 0; pass < n_passes; pass++)
	{
		double		start = seconds();

		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		printf("%.3f\n", bytes / (seconds() - start) / 1e9);
	}
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
