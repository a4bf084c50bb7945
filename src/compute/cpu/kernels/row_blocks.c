#include "compute/cpu/kernels/row_blocks.h"

enum { block_rows = 96 };

int KERNEL(cut_row_blocks)(struct compute *c, struct row_blocks *b, int n, size_t space, int channels,
                           int kinds, size_t more, void **behind)
{
    *b = (struct row_blocks){.n = n, .channels = channels, .space = space, .kinds = kinds};
    b->grid_blocks = (space + block_rows - 1) / block_rows;
    b->count = n * b->grid_blocks;
    const size_t sums = float_bytes(b->count * kinds * whole_channels(channels));
    const size_t rows = (b->count * sizeof(size_t) + 63) / 64 * 64;
    unsigned char *memory = c->status == VOCO_OK ? cpu_scratch(c, sums + rows + more) : NULL;
    if (memory == NULL) {
        return 0;
    }
    b->sums = (float *)memory;
    b->rows = (size_t *)(memory + sums);
    if (behind != NULL) {
        *behind = memory + sums + rows;
    }
    return 1;
}

void KERNEL(work_on_row_blocks)(struct compute *c, const struct row_blocks *b, block_work *work,
                                const void *pass)
{
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t index = 0; index < b->count; index++) {
        const size_t grid = index / b->grid_blocks, first = index % b->grid_blocks * block_rows;
        const size_t left = b->space - first;
        const struct row_block block = {.grid = grid,
                                        .first = grid * b->space + first,
                                        .rows = left < block_rows ? (int)left : block_rows,
                                        .sums = b->sums + index * b->kinds * whole_channels(b->channels)};
        b->rows[index] = block.rows;
        work(pass, &block);
    }
}

struct block_sums KERNEL(sums_of_grid)(const struct row_blocks *b, size_t grid, int first)
{
    const size_t whole = whole_channels(b->channels), block = grid * b->grid_blocks;
    return (struct block_sums){.sums = b->sums + (block * b->kinds + first) * whole,
                               .stride = b->kinds * whole,
                               .second = whole,
                               .rows = b->rows + block,
                               .blocks = b->grid_blocks,
                               .channels = b->channels};
}
