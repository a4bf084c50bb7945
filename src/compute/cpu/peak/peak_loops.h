/* Loops that do nothing but keep the machine busy, one build per instruction set. */
#ifndef COMPUTE_CPU_PEAK_PEAK_LOOPS_H
#define COMPUTE_CPU_PEAK_PEAK_LOOPS_H

#include "compute/cpu/isa.h"

#include <stddef.h>

struct peak_loops {
    /* `rounds` rounds of multiply-adds on one thread, all in registers; returns what they come to, so that no
     * compiler leaves them out. */
    float (*float32)(size_t rounds);
    double float32_flops; /* floating-point operations of a round */
    /* The same for products of bfloat16 summed in float32; NULL where the build has no instruction for that.
     * The processor must have it. */
    float (*bf16)(size_t rounds);
    double bf16_flops;
    /* a = b + scale c, the triad of STREAM (J. McCalpin, IEEE TCCA Newsletter, December 1995), on one thread.
     */
    void (*triad)(float *a, const float *b, const float *c, float scale, size_t count);
};

/* The builds. */
struct peak_loops peak_loops_portable(void);
struct peak_loops peak_loops_avx2(void);
struct peak_loops peak_loops_avx512(void);

/* bf16 in tiles: the loop of the amx build, and what a round of it comes to. */
float tile_products(size_t rounds);
extern const double tile_products_flops;

/* What a processor of this instruction set can run (in machine_peak.c). */
struct peak_loops peak_loops_of(enum isa isa);

#endif
