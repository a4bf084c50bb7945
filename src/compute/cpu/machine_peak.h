/* What the machine can do at best, measured: the yardstick for what operations achieve. Median of repeated
 * short runs, with the widest vectors that compute/cpu/isa.h chooses, on all threads at once. What other
 * programs do at the same time takes from it. */
#ifndef COMPUTE_CPU_MACHINE_PEAK_H
#define COMPUTE_CPU_MACHINE_PEAK_H

#include "voco/status.h"

struct machine_peak {
    int threads;
    const char *isa;         /* of the vectors: as isa_name has it; of a GPU its name */
    double float32_flops;    /* FLOP/s of multiply-adds in registers, two operations each; of a GPU those of a
                                large matrix product */
    double bf16_flops;       /* FLOP/s of AVX512_BF16's products, summed in float32; 0 where there is no such
                                instruction. Matrix units (AMX) are not measured. Of a GPU those of a large matrix
                                product of random numbers */
    double tf32_flops;       /* FLOP/s of a GPU's large product of floats that are rounded to TF32; else 0 */
    double bytes_per_second; /* to and from memory: a = b + s c on arrays far larger than the caches, as
                                STREAM counts, 12 bytes an element */
};

/* threads 0: as compute_open takes them. Takes one to three seconds, and 192 to 512 MiB of memory for so
 * long. VOCO_NO_MEMORY, or what isa_choose returns. */
enum voco_status machine_peak_measure(struct machine_peak *peak, int threads);

#endif
