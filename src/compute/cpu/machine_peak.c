#include "compute/cpu/machine_peak.h"

#include "base/clock.h"
#include "base/error.h"
#include "compute/cpu/peak/peak_loops.h"

#include <omp.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

enum { repetitions = 15, triad_arrays = 3 };
static const double run_seconds =
    0.015; /* long enough to start threads in, short enough to fit between interruptions */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double values[repetitions])
{
    qsort(values, repetitions, sizeof *values, compare);
    return values[repetitions / 2];
}

struct peak_loops peak_loops_of(enum isa isa)
{
#ifdef VOCO_X86_KERNELS
    if (isa >= ISA_AVX512) {
        struct peak_loops loops = peak_loops_avx512();
        loops.bf16 = isa >= ISA_AVX512BF16 ? loops.bf16 : NULL;
        if (isa >= ISA_AMX) {
            loops.bf16 = tile_products;
            loops.bf16_flops = tile_products_flops;
        }
        return loops;
    }
    if (isa == ISA_AVX2) {
        return peak_loops_avx2();
    }
#else
    (void)isa;
#endif
    return peak_loops_portable();
}

/* Seconds that all threads take for so many rounds each. */
static double time_rounds(float (*loop)(size_t rounds), size_t rounds, int threads)
{
    volatile float sink = 0;
    double began = 0;
#pragma omp parallel num_threads(threads)
    {
#pragma omp barrier
#pragma omp master
        began = seconds_now();
        const float result = loop(rounds);
#pragma omp critical
        sink = sink + result;
    }
    return seconds_now() - began;
}

static double measure_flops(float (*loop)(size_t rounds), double flops_per_round, int threads)
{
    size_t rounds = 1024;
    while (time_rounds(loop, rounds, threads) < run_seconds) {
        rounds *= 2;
    }
    double rates[repetitions];
    for (int k = 0; k < repetitions; k++) {
        rates[k] = flops_per_round * (double)rounds * threads / time_rounds(loop, rounds, threads);
    }
    return median(rates);
}

/* Floats of one array: together four times the last cache, within bounds, since the cache of a virtual
 * machine's host can be ten times its share. */
static size_t triad_count(void)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t least = (size_t)192 << 20, most = (size_t)512 << 20,
                 wanted = cache > 0 ? 4 * (size_t)cache : 0;
    const size_t bytes = wanted < least ? least : wanted > most ? most : wanted;
    return bytes / triad_arrays / sizeof(float);
}

static double time_triad(const struct peak_loops *loops, float *arrays, size_t count, int threads)
{
    float *a = arrays, *b = a + count, *c = b + count;
    const double began = seconds_now();
#pragma omp parallel num_threads(threads)
    {
        const size_t parts = (size_t)omp_get_num_threads(), part = (size_t)omp_get_thread_num();
        const size_t first = count * part / parts, end = count * (part + 1) / parts;
        loops->triad(a + first, b + first, c + first, 3.0F, end - first);
    }
    return seconds_now() - began;
}

static enum voco_status measure_memory(double *bytes_per_second, const struct peak_loops *loops, int threads)
{
    const size_t count = triad_count();
    float *arrays = malloc(triad_arrays * count * sizeof *arrays);
    if (arrays == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory to measure the memory's speed: %zu MiB",
                    triad_arrays * count * sizeof *arrays >> 20);
    }
    /* Each thread touches its own share first, so that it lies near it. */
#pragma omp parallel num_threads(threads)
    {
        const size_t parts = (size_t)omp_get_num_threads(), part = (size_t)omp_get_thread_num();
        const size_t first = count * part / parts, end = count * (part + 1) / parts;
        for (int k = 0; k < triad_arrays; k++) {
            for (size_t i = first; i < end; i++) {
                arrays[(size_t)k * count + i] = (float)(k + 1);
            }
        }
    }
    double rates[repetitions];
    for (int k = 0; k < repetitions; k++) {
        rates[k] =
            (double)(triad_arrays * count * sizeof *arrays) / time_triad(loops, arrays, count, threads);
    }
    *bytes_per_second = median(rates);
    free(arrays);
    return VOCO_OK;
}

enum voco_status machine_peak_measure(struct machine_peak *peak, int threads)
{
    enum isa isa;
    *peak = (struct machine_peak){0};
    const enum voco_status status = isa_choose(&isa);
    if (status != VOCO_OK) {
        return status;
    }
    const int count = threads > 0 ? threads : omp_get_max_threads();
    peak->threads = count;
    const struct peak_loops loops = peak_loops_of(isa);
    peak->isa = isa_name(isa);
    peak->float32_flops = measure_flops(loops.float32, loops.float32_flops, count);
    peak->bf16_flops = loops.bf16 != NULL ? measure_flops(loops.bf16, loops.bf16_flops, count) : 0;
    return measure_memory(&peak->bytes_per_second, &loops, count);
}
