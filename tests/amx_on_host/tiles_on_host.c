#include "tiles_on_host.h"

#include "compute/cpu/kernels/amx/tiles.h"

#include <stdio.h>
#include <stdlib.h>

/* Of each thread, as the registers are. A tile's bytes beyond its rows and columns are zero. */
struct tiles {
    int configured;
    struct tile_configuration configuration;
    _Alignas(64) unsigned char tile[tile_count][tile_rows][tile_row_bytes];
};
static _Thread_local struct tiles tiles;

static _Noreturn void fault(const char *instruction, const char *reason, int tile)
{
    fprintf(stderr, "%s: fault: %s (tile %d)\n", instruction, reason, tile);
    abort();
}

static int rows_of(int tile)
{
    return tiles.configuration.rows[tile];
}

static int bytes_of(int tile)
{
    return tiles.configuration.row_bytes[tile];
}

static void require_tile(const char *instruction, int tile)
{
    if (!tiles.configured) {
        fault(instruction, "tiles are not configured", tile);
    }
    if (tile < 0 || tile >= tile_count) {
        fault(instruction, "there is no such tile", tile);
    }
    if (rows_of(tile) == 0) {
        fault(instruction, "this tile is not configured", tile);
    }
}

/* ---- LDTILECFG, TILERELEASE ---- */

static void require_palette_1(const struct tile_configuration *c)
{
    enum { fields = 16 };
    const char *name = "ldtilecfg";
    for (size_t k = 0; k < sizeof c->reserved; k++) {
        if (c->reserved[k] != 0) {
            fault(name, "a reserved byte is not zero", -1);
        }
    }
    for (int k = 0; k < fields; k++) {
        if (c->rows[k] > tile_rows || c->row_bytes[k] > tile_row_bytes) {
            fault(name, "more rows or columns than palette 1 has", k);
        }
        if ((c->rows[k] == 0) != (c->row_bytes[k] == 0)) {
            fault(name, "rows without columns, or columns without rows", k);
        }
        if (k >= tile_count && c->rows[k] != 0) {
            fault(name, "palette 1 has no such tile", k);
        }
    }
    if (c->first_row != 0) { /* where an interrupted instruction goes on; no kernel has a use for it */
        fault(name, "a first row", -1);
    }
}

void tiles_on_host_configure(const void *configuration)
{
    struct tile_configuration wanted;
    memcpy(&wanted, configuration, sizeof wanted);
    if (wanted.palette != 1) {
        fault("ldtilecfg", "not palette 1", -1);
    }
    require_palette_1(&wanted);
    memset(&tiles, 0, sizeof tiles);
    tiles.configuration = wanted;
    tiles.configured = 1;
}

void tiles_on_host_release(void)
{
    memset(&tiles, 0, sizeof tiles);
}

/* ---- TILEZERO, TILELOADD, TILESTORED ---- */

void tiles_on_host_zero(int tile)
{
    require_tile("tilezero", tile);
    memset(tiles.tile[tile], 0, sizeof tiles.tile[tile]);
}

void tiles_on_host_load(int tile, const void *from, long stride)
{
    require_tile("tileloadd", tile);
    const int bytes = bytes_of(tile);
    const unsigned char *row = from;
    memset(tiles.tile[tile], 0, sizeof tiles.tile[tile]);
    for (int r = 0; r < rows_of(tile); r++, row += stride) {
        memcpy(tiles.tile[tile][r], row, bytes);
    }
}

void tiles_on_host_store(int tile, void *to, long stride)
{
    require_tile("tilestored", tile);
    const int bytes = bytes_of(tile);
    unsigned char *row = to;
    for (int r = 0; r < rows_of(tile); r++, row += stride) {
        memcpy(row, tiles.tile[tile][r], bytes);
    }
}

/* ---- TDPBF16PS ---- */

/* A row of sums: products at even and at odd places are summed apart, one fused multiply-add a step, and both
 * are added to what was there last. */
static __m512 row_products(__m512 sums, const unsigned char *a, int steps, const __m512 even[tile_rows],
                           const __m512 odd[tile_rows])
{
    __m512 at_even = _mm512_setzero_ps(), at_odd = _mm512_setzero_ps();
    for (int k = 0; k < steps; k++) {
        int32_t pair;
        memcpy(&pair, a + k * sizeof pair, sizeof pair);
        const __m512i pairs = _mm512_set1_epi32(pair);
        at_even = _mm512_fmadd_ps(even_places(pairs), even[k], at_even);
        at_odd = _mm512_fmadd_ps(odd_places(pairs), odd[k], at_odd);
    }
    return _mm512_add_ps(sums, _mm512_add_ps(at_even, at_odd));
}

static __attribute__((noinline)) void multiply(int sums, int a, int b)
{
    __m512 even[tile_rows], odd[tile_rows];
    const int steps = rows_of(b);
    for (int k = 0; k < steps; k++) {
        const __m512i pairs = _mm512_loadu_si512(tiles.tile[b][k]);
        even[k] = even_places(pairs);
        odd[k] = odd_places(pairs);
    }
    for (int r = 0; r < rows_of(sums); r++) {
        float *row = (float *)tiles.tile[sums][r];
        _mm512_storeu_ps(row, row_products(_mm512_loadu_ps(row), tiles.tile[a][r], steps, even, odd));
    }
}

void tiles_on_host_multiply(int sums, int a, int b)
{
    enum { zero_for_subnormal = 0x8040, masked = 0x1F80, to_nearest = 0 };
    const char *name = "tdpbf16ps";
    require_tile(name, sums);
    require_tile(name, a);
    require_tile(name, b);
    if (sums == a || sums == b || a == b) {
        fault(name, "a tile that is named twice", sums);
    }
    if (bytes_of(sums) % 4 != 0 || bytes_of(a) % 4 != 0 || bytes_of(b) % 4 != 0) {
        fault(name, "half an element", sums);
    }
    if (rows_of(sums) != rows_of(a) || bytes_of(sums) != bytes_of(b) || bytes_of(a) / 4 != rows_of(b)) {
        fault(name, "shapes that do not multiply", sums);
    }
    const unsigned before = _mm_getcsr();
    _mm_setcsr(zero_for_subnormal | masked | to_nearest); /* whatever the thread's own rounding is */
    multiply(sums, a, b);
    _mm_setcsr(before);
}
