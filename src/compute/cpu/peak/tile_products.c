#include "compute/cpu/kernels/amx/tiles.h"
#include "compute/cpu/peak/peak_loops.h"

#include <string.h>

enum { sums = 4, flops_per_product = 2 };

const double tile_products_flops = (double)flops_per_product * sums * tile_rows * tile_columns * tile_depth;

float tile_products(size_t rounds)
{
    uint16_t factors[tile_rows * tile_depth];
    float result[tile_rows * tile_columns];
    memset(factors, 0x3C, sizeof factors); /* 0x3C3C is 0.0115 */
    configure_tiles(tile_depth);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, factors, tile_row_bytes);
    _tile_loadd(6, factors, tile_row_bytes);
    for (size_t round = 0; round < rounds; round++) {
        _tile_dpbf16ps(0, 6, 4);
        _tile_dpbf16ps(1, 6, 4);
        _tile_dpbf16ps(2, 6, 4);
        _tile_dpbf16ps(3, 6, 4);
    }
    _tile_stored(0, result, tile_row_bytes);
    _tile_release();
    return result[0];
}
