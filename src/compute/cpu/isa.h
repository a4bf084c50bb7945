/* Which of the builds of kernels/ the processor runs. */
#ifndef COMPUTE_CPU_ISA_H
#define COMPUTE_CPU_ISA_H

#include "voco/status.h"

enum isa { ISA_PORTABLE, ISA_AVX2, ISA_AVX512, ISA_AVX512BF16, ISA_AMX, isa_count };

/* "portable", "avx2", "avx512", "avx512bf16": AVX-512 with products of bf16, "amx": and matrix
 * products of bf16 in tiles */
const char *isa_name(enum isa isa);

/* The best one that this processor and this build have; the environment variable VOCO_ISA names a lesser one.
 * VOCO_BAD_INPUT when it names none or one that the processor lacks. */
enum voco_status isa_choose(enum isa *isa);

#endif
