/* The tiles of AMX: eight registers of 16 rows of 64 bytes. _tile_dpbf16ps(c, a, b) adds to c (rows, columns)
 * of floats the product of a (rows, depth) and b, both of bf16, where b lies as pairs along the depth: (depth
 * / 2, columns, 2). This folder is compiled for amx alone.
 *
 * A thread configures the tiles before it uses them and releases them when it is done: what a configuration
 * holds is the thread's own, but oneDNN, which works on the same threads, loads its own. */
#ifndef COMPUTE_CPU_KERNELS_AMX_TILES_H
#define COMPUTE_CPU_KERNELS_AMX_TILES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { tile_count = 8, tile_rows = 16, tile_columns = 16, tile_depth = 32, tile_row_bytes = 64 };

/* As LDTILECFG reads it (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2). */
struct tile_configuration {
    uint8_t palette, first_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Tiles 0 .. 3 for sums; 4 and 5 for b and 6 and 7 for a, of this depth, an even one up to tile_depth. */
static inline void configure_tiles(int depth)
{
    struct tile_configuration configuration;
    memset(&configuration, 0, sizeof configuration);
    configuration.palette = 1;
    for (int k = 0; k < tile_count; k++) {
        configuration.row_bytes[k] = (uint16_t)(k >= 6 ? 2 * depth : tile_row_bytes);
        configuration.rows[k] = (uint8_t)(k == 4 || k == 5 ? depth / 2 : tile_rows);
    }
    /* Compilers take the instruction for one that reads less than it does. */
    __asm__ volatile("" : : "r"(&configuration) : "memory");
    _tile_loadconfig(&configuration);
}

/* Stores that tiles are loaded from are done before: the compiler's intrinsics do not say what they read. */
static inline __attribute__((always_inline)) void before_tile_loads(void)
{
    __asm__ volatile("" ::: "memory");
}

static inline __attribute__((always_inline)) void zero_sums(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

#endif
