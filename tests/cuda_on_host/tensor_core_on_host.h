/* The functions of src/compute/cuda/tensor_core.cuh, lane by lane as the PTX ISA has them. */
#ifndef TENSOR_CORE_ON_HOST_H
#define TENSOR_CORE_ON_HOST_H

namespace cuda_on_host
{

static inline float half_of(unsigned pair, int high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

static inline void require_whole_warp(unsigned mask, const char *what)
{
    if (mask != 0xffffffffu) {
        stop("%s without the whole warp: lanes %08x", what, mask);
    }
}

struct product {
    uint32_t a[4], b[2];
    float d[4];
};

/* Sums are taken in double and rounded once: the hardware's order is not documented. */
static inline void multiply_add(lane lanes[32], unsigned mask, const void *)
{
    float a[16][16], b[16][8], d[16][8];
    require_whole_warp(mask, "multiply_add_bf16");
    for (int l = 0; l < 32; l++) {
        const product *p = (const product *)lanes[l].given;
        const int g = l / 4, t = l % 4;
        for (int high = 0; high < 2; high++) {
            for (int r = 0; r < 4; r++) {
                a[g + 8 * (r & 1)][2 * t + high + 8 * (r >> 1)] = half_of(p->a[r], high);
            }
            for (int r = 0; r < 2; r++) {
                b[2 * t + high + 8 * r][g] = half_of(p->b[r], high);
                d[g + 8 * r][2 * t + high] = p->d[2 * r + high];
            }
        }
    }
    for (int i = 0; i < 16; i++) {
        double sums[8];
        for (int j = 0; j < 8; j++) {
            sums[j] = d[i][j];
        }
        for (int k = 0; k < 16; k++) {
            for (int j = 0; j < 8; j++) {
                sums[j] += (double)a[i][k] * (double)b[k][j];
            }
        }
        for (int j = 0; j < 8; j++) {
            d[i][j] = (float)sums[j];
        }
    }
    for (int l = 0; l < 32; l++) {
        float *taken = (float *)lanes[l].taken;
        for (int r = 0; r < 4; r++) {
            taken[r] = d[l / 4 + 8 * (r >> 1)][2 * (l % 4) + (r & 1)];
        }
    }
}

struct matrices {
    int count;
    bool transposed;
};

/* `given` of a lane is the address of a row of 8 elements. */
static inline void load(lane lanes[32], unsigned mask, const void *constants)
{
    const matrices *m = (const matrices *)constants;
    require_whole_warp(mask, "load_matrices");
    for (int l = 0; l < 8 * m->count; l++) {
        if ((uintptr_t)lanes[l].given % 16 != 0) {
            stop("load_matrices: the row of lane %d is not aligned to 16 bytes", l);
        }
        if (!in_shared_memory(lanes[l].given, 16)) {
            stop("load_matrices: the row of lane %d does not lie in shared memory", l);
        }
    }
    for (int l = 0; l < 32; l++) {
        for (int k = 0; k < m->count; k++) {
            unsigned pair = 0;
            for (int high = 0; high < 2; high++) {
                const int row = m->transposed ? 2 * (l % 4) + high : l / 4;
                const int column = m->transposed ? l / 4 : 2 * (l % 4) + high;
                pair |= (unsigned)((const uint16_t *)lanes[8 * k + row].given)[column] << (16 * high);
            }
            ((uint32_t *)lanes[l].taken)[k] = pair;
        }
    }
}

static inline void load(uint32_t *r, const void *row, int count, bool transposed)
{
    static const matrices kinds[2][2] = {{{2, false}, {2, true}}, {{4, false}, {4, true}}};
    of_warp(0xffffffffu, load, row, r, &kinds[count == 4][transposed]);
}

} // namespace cuda_on_host

static inline void multiply_add_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    cuda_on_host::product p;
    float result[4];
    memcpy(p.a, a, sizeof p.a);
    memcpy(p.b, b, sizeof p.b);
    memcpy(p.d, d, sizeof p.d);
    cuda_on_host::of_warp(0xffffffffu, cuda_on_host::multiply_add, &p, result);
    memcpy(d, result, sizeof result);
}

static inline void load_matrices(uint32_t r[4], const void *row)
{
    cuda_on_host::load(r, row, 4, false);
}

static inline void load_matrices_transposed(uint32_t r[4], const void *row)
{
    cuda_on_host::load(r, row, 4, true);
}

static inline void load_two_matrices(uint32_t r[2], const void *row)
{
    cuda_on_host::load(r, row, 2, false);
}

static inline void copy_async(void *to, const void *from, int valid)
{
    cuda_on_host::copy_later(to, from, valid);
}

static inline void copy_async_commit()
{
    cuda_on_host::end_group_of_copies();
}

template <int pending> static inline void copy_async_wait()
{
    cuda_on_host::wait_for_copies(pending);
}

#endif
