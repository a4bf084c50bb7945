/* The instructions of AMX as functions, so that the kernels written in them (src/compute/cpu/kernels/amx and
 * parts) run, and are tested, on every x86-64 processor with AVX-512. The kernels' files are compiled once
 * more, unchanged, with this one included before all else (-include), and for AVX-512 alone: what GCC and
 * Clang call _tile_... calls a function of tiles_on_host.c, and products of bf16 in vectors, which came with
 * AVX512_BF16, are made of what AVX-512 has.
 *
 * The numbers are those of the instructions (Intel 64 and IA-32 Architectures Software Developer's Manual,
 * volume 2): of a tile's products bit for bit, subnormal ones as zero; in vectors but for subnormal numbers,
 * which count here. Beside that, what the processor answers with a fault ends the program with a line that
 * names the instruction: tiles that are not configured or there are none of, a configuration that palette 1
 * does not allow, tiles whose shapes do not multiply. And as functions of a program they are seen by the
 * sanitizers, which real ones are not: they take no notice of what a tile is loaded from.
 *
 * Not seen here: what a compiler makes of the instructions themselves. GCC does not know that a load of a
 * tile reads memory (see before_tile_loads in tiles.h). */
#ifndef TILES_ON_HOST_H
#define TILES_ON_HOST_H

#include <immintrin.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): the compiler's own names take another meaning here */

/* What the kernels ask for before they use instructions; known once the compiler's own headers are read. */
#define __AMX_TILE__ 1
#define __AMX_BF16__ 1
#define __AVX512BF16__ 1

void tiles_on_host_configure(const void *configuration);
void tiles_on_host_release(void);
void tiles_on_host_zero(int tile);
void tiles_on_host_load(int tile, const void *from, long stride);
void tiles_on_host_store(int tile, void *to, long stride);
void tiles_on_host_multiply(int sums, int a, int b);

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(configuration) tiles_on_host_configure(configuration)
#define _tile_release() tiles_on_host_release()
#define _tile_zero(tile) tiles_on_host_zero(tile)
#define _tile_loadd(tile, from, stride) tiles_on_host_load(tile, from, (long)(stride))
#define _tile_stream_loadd(tile, from, stride) tiles_on_host_load(tile, from, (long)(stride))
#define _tile_stored(tile, to, stride) tiles_on_host_store(tile, to, (long)(stride))
#define _tile_dpbf16ps(sums, a, b) tiles_on_host_multiply(sums, a, b)

/* The upper half of each lane, where it is the number at odd places of a vector of bf16. */
static inline __m512 odd_places(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000U)));
}

static inline __m512 even_places(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

/* VDPBF16PS: two steps, each rounded, the odd one first. */
static inline __m512 add_pairs_on_host(__m512 sums, __m512i a, __m512i b)
{
    const __m512 odd = _mm512_fmadd_ps(odd_places(a), odd_places(b), sums);
    return _mm512_fmadd_ps(even_places(a), even_places(b), odd);
}

/* VCVTNEPS2BF16: to the nearest, halfway to the even one. */
static inline __m256i rounded_on_host(__m512 x)
{
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, last), _mm512_set1_epi32(0x7FFF));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 unordered = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, unordered, quiet), 16));
}

#define _mm512_dpbf16_ps(sums, a, b) add_pairs_on_host(sums, (__m512i)(a), (__m512i)(b))
#define _mm512_cvtneps_pbh(x) rounded_on_host(x)
#define _mm512_cvtne2ps_pbh(upper, lower)                                                                    \
    _mm512_inserti64x4(_mm512_castsi256_si512(rounded_on_host(lower)), rounded_on_host(upper), 1)

/* NOLINTEND(bugprone-reserved-identifier) */

#endif
