/*
 * settings.c
 *	  The settings (GUCs) of the extension.
 */
#include "hartonomous.h"

#include <limits.h>
#include <sched.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "bf16.h"
#include "kernels.h"
#include "prefix_store.h"
#include "q8.h"
#include "settings.h"
#include "threads.h"

typedef enum
{
	KERNEL_AUTO, KERNEL_PORTABLE, KERNEL_AVX2, KERNEL_AVX512, KERNEL_AMX
} KernelChoice;

static const struct config_enum_entry kernel_options[] = {
	{"auto", KERNEL_AUTO, false},
	{"portable", KERNEL_PORTABLE, false},
	{"avx2", KERNEL_AVX2, false},
	{"avx512", KERNEL_AVX512, false},
	{"amx", KERNEL_AMX, false},
	{NULL, 0, false}
};

static const char *const kernel_names[] = {"auto", "portable", "avx2", "avx512", "amx"};

/* Activations of which a rounding is not to be seen in what a model says: they keep 17 bits */
#define DEFAULT_TERMS 2

/* The numbers are those of terms, see bf16.h */
static const struct config_enum_entry activation_options[] = {
	{"float32", HART_BF16_MAX_TERMS, false},
	{"bf16x2", 2, false},
	{"bf16", 1, false},
	{NULL, 0, false}
};

int			hart_pin_percent = 75;
int			hart_prefix_cache = 64;
int			hart_kv_cache_limit = 1024;

typedef enum
{
	TILES_AUTO, TILES_PLAIN
} TileEncoding;

static const struct config_enum_entry tile_encoding_options[] = {
	{"auto", TILES_AUTO, false},
	{"plain", TILES_PLAIN, false},
	{NULL, 0, false}
};

static int	threads = 0;
static int	tile_encoding = TILES_AUTO;
static int	kernel = KERNEL_AUTO;
static int	activations = DEFAULT_TERMS;
static int	activation_terms = DEFAULT_TERMS;	/* what activations says, while it is being set */
static int	choice_tokens = -1;
static char *default_model = NULL;
static char *model_directory = NULL;
static char *geometry_python = NULL;

/* Ensure this CPU has the instructions */
static bool
check_kernel(int *newval, void **extra, GucSource source)
{
	if (*newval == KERNEL_AUTO || hart_find_kernels(kernel_names[*newval]) != NULL)
		return true;
	GUC_check_errdetail("This CPU or this build has no %s instructions.", kernel_names[*newval]);
	GUC_check_errhint("Use auto, which takes the best there is.");
	return false;
}

static void
assign_kernel(int newval, void *extra)
{
	hart_select_kernels(kernel_names[newval]);
	hart_q8_select_kernels(hart_kernels->name);
	hart_bf16_select_kernels(hart_kernels->name, activation_terms == 1);
}

static void
assign_activations(int newval, void *extra)
{
	activation_terms = newval;
	hart_bf16_select_kernels(hart_kernels->name, activation_terms == 1);
}

int
hart_activation_terms(void)
{
	return activation_terms;
}

int
hart_arithmetic(void)
{
	int			set = KERNEL_PORTABLE;

	while (strcmp(kernel_names[set], hart_kernels->name) != 0)
		set++;
	return HART_BF16_MAX_TERMS * set + (hart_bf16_kernels != NULL ? HART_BF16_MAX_TERMS - activation_terms : 0);
}

/* What no longer fits goes at once */
static void
assign_prefix_cache(int newval, void *extra)
{
	hart_prefix_trim(newval);
}

/* Workers stop between two pieces of work when the session is to be interrupted and CHECK_FOR_INTERRUPTS would act on it. */
static bool
interrupt_pending(void)
{
	return InterruptPending && InterruptHoldoffCount == 0 && CritSectionCount == 0 && QueryCancelHoldoffCount == 0;
}

void
hart_run_parallel(size_t n, size_t grain, HartTask task, void *arg)
{
	while (!hart_parallel_for(hart_n_threads(), n, grain, task, arg))
		CHECK_FOR_INTERRUPTS();
}

/* Cores this process may use */
static int
count_cores(void)
{
#ifdef CPU_COUNT
	cpu_set_t	set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return CPU_COUNT(&set);
#endif
	return (int) sysconf(_SC_NPROCESSORS_ONLN);
}

int
hart_n_threads(void)
{
	static int	cores = 0;

	if (cores == 0)
		cores = Max(1, Min(count_cores(), HART_MAX_THREADS));
	return threads == 0 ? cores : threads;
}

void
hart_settings_init(void)
{
	hart_cancel_pending = interrupt_pending;
	hart_select_kernels("auto");
	hart_q8_select_kernels(hart_kernels->name);
	hart_bf16_select_kernels(hart_kernels->name, activation_terms == 1);

	DefineCustomStringVariable("hart.model",
							   "Name of the model that functions use when none is named.",
							   NULL, &default_model, NULL,
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("hart.model_directory",
							   "Folder of the server where relative paths of ingest_model and export_model start.",
							   "Empty means the data directory.", &model_directory, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("hart.geometry_python",
							   "Python interpreter with the package umap-learn, which hart.learn_geometry runs.",
							   "Empty means the one that the server's own Python belongs to.", &geometry_python, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hart.threads",
							"Number of threads that one session computes with.",
							"0 means every core that the server process may use.", &threads,
							0, 0, HART_MAX_THREADS,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("hart.kernel",
							 "Instruction set of the vector kernels.",
							 NULL, &kernel,
							 KERNEL_AUTO, kernel_options,
							 PGC_USERSET, 0, check_kernel, assign_kernel, NULL);
	DefineCustomEnumVariable("hart.activations",
							 "What is multiplied with bf16 weights: activations as they are, or as the sum of two bf16 numbers, or rounded to one.",
							 "Two are for processors with AMX, one for these and AMD's with AVX512-BF16; on others activations stay float32.", &activations,
							 DEFAULT_TERMS, activation_options,
							 PGC_USERSET, 0, NULL, assign_activations, NULL);
	DefineCustomIntVariable("hart.pin_percent",
							"Largest share of shared_buffers that one running model pins, in percent.",
							"A model of more pages than that is read tile by tile, which is slower.", &hart_pin_percent,
							75, 0, 90,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hart.prefix_cache",
							"Memory for keys and values of earlier prompts of the session.",
							"A prompt that begins like an earlier one takes up from there. 0 turns that off.", &hart_prefix_cache,
							64, 0, MAX_KILOBYTES / 1024,
							PGC_USERSET, GUC_UNIT_MB, NULL, assign_prefix_cache, NULL);
	DefineCustomIntVariable("hart.kv_cache_limit",
							"Largest memory for keys and values of one session.",
							"Running contexts and remembered prompts together; the prompts make way.", &hart_kv_cache_limit,
							1024, 1, MAX_KILOBYTES / 1024,
							PGC_USERSET, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("hart.choice_tokens",
							"Most tokens that a search among choices runs before it is content with a likely one.",
							"0 means as many as the certain answer takes, -1 as many as suit the size of the model.", &choice_tokens,
							-1, -1, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("hart.tile_encoding",
							 "How hart.ingest_model stores weights.",
							 "auto packs each tensor that can be packed without loss; plain keeps the bytes of the checkpoint.", &tile_encoding,
							 TILES_AUTO, tile_encoding_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved("hart");
#else
	EmitWarningsOnPlaceholders("hart");
#endif
}
