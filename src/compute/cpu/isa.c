#include "compute/cpu/isa.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#ifdef VOCO_X86_KERNELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

const char *isa_name(enum isa isa)
{
    static const char *const names[isa_count] = {"portable", "avx2", "avx512", "avx512bf16", "amx"};
    return names[isa];
}

#ifdef VOCO_X86_KERNELS
/* Whether the processor has tiles with products of bf16, and the system lets this process use them. Tiles are
 * 8 KiB of registers that Linux saves only for processes that have asked for it (Documentation/arch/x86/
 * xstate.rst). */
static int has_tiles(void)
{
    enum { bit_amx_bf16 = 1 << 22, bit_amx_tile = 1 << 24, request_permission = 0x1023, tile_data = 18 };
    unsigned eax, ebx, ecx, edx;
    const unsigned wanted = bit_amx_bf16 | bit_amx_tile;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & wanted) == wanted &&
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#endif

static int has(enum isa isa)
{
#ifdef VOCO_X86_KERNELS
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                     __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (isa == ISA_AMX) {
        return has(ISA_AVX512BF16) && has_tiles();
    }
    if (isa == ISA_AVX512BF16) {
        return has(ISA_AVX512) && __builtin_cpu_supports("avx512bf16");
    }
    if (isa == ISA_AVX512) {
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
    }
    if (isa == ISA_AVX2) {
        return avx2;
    }
#endif
    return isa == ISA_PORTABLE;
}

enum voco_status isa_choose(enum isa *isa)
{
    const char *wanted = getenv("VOCO_ISA");
    for (int k = isa_count - 1; k >= 0; k--) {
        const int named = wanted == NULL || *wanted == '\0' || strcmp(wanted, isa_name(k)) == 0;
        if (named && has(k)) {
            *isa = k;
            return VOCO_OK;
        }
    }
    return fail(VOCO_BAD_INPUT,
                "VOCO_ISA=%s: not one of portable, avx2, avx512, avx512bf16, amx that this processor has",
                wanted);
}
