/* With tiles_on_host.h in the place of the instructions, every processor with AVX-512 has tiles: programs
 * with this file choose the kernels of amx there (--wrap=isa_choose), unless VOCO_ISA names lesser ones.
 * Elsewhere they have nothing to test and say so (77). */
#include "compute/cpu/isa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */
enum voco_status __real_isa_choose(enum isa *isa);
enum voco_status __wrap_isa_choose(enum isa *isa);
/* NOLINTEND(bugprone-reserved-identifier) */

static __attribute__((constructor)) void skip_without_avx512(void)
{
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl"))) {
        printf("skipped: this processor lacks AVX-512\n");
        exit(77);
    }
}

enum voco_status __wrap_isa_choose(enum isa *isa)
{
    const char *wanted = getenv("VOCO_ISA");
    if (wanted != NULL && *wanted != '\0' && strcmp(wanted, isa_name(ISA_AMX)) != 0) {
        return __real_isa_choose(isa);
    }
    *isa = ISA_AMX;
    return VOCO_OK;
}
