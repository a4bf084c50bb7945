/* What src/compute/cuda/warpgroup.cuh means where there is no CUDA compiler: operands are read from the
 * block's shared memory as their descriptors say, each thread computing its own part of the product when it
 * is asked for. */
#ifndef WARPGROUP_ON_HOST_H
#define WARPGROUP_ON_HOST_H

static inline uint32_t shared_address(const void *p)
{
    return (uint32_t)((const unsigned char *)p - cuda_on_host::block_shared());
}

static inline void show_to_warpgroup_products()
{
}

static inline void end_of_stretch(int)
{
}

template <int count> static inline void pin(float (&)[count])
{
}

static inline void begin_warpgroup_products()
{
}

template <int count> static inline void begin_warpgroup_products(float (&)[count])
{
}

static inline void keep_until_here(uint32_t (&)[4])
{
}

static inline void commit_warpgroup_products()
{
}

template <int pending> static inline void wait_for_warpgroup_products()
{
}

template <int pending, int count> static inline void wait_for_warpgroup_products(float (&)[count])
{
}

static inline uint64_t not_ahead(uint64_t x)
{
    return x;
}

static inline float shared_element(uint32_t at)
{
    const unsigned char *element = cuda_on_host::block_shared() + at;
    if (!cuda_on_host::in_shared_memory(element, 2)) {
        cuda_on_host::stop("an operand reaches beyond shared memory");
    }
    return to_float(*(const bf16 *)element);
}

/* Element (row, k) of the operand; `transposed`: a row's 8 neighbours lie along rows. */
static inline float operand_element(uint64_t operand, int row, int k, bool transposed)
{
    const uint32_t start = (uint32_t)(operand & 0x3fff) * 16,
                   k_apart = (uint32_t)(operand >> 16 & 0x3fff) * 16;
    const uint32_t rows_apart = (uint32_t)(operand >> 32 & 0x3fff) * 16;
    const uint32_t within = (uint32_t)(transposed ? k % 8 * 16 + row % 8 * 2 : row % 8 * 16 + k % 8 * 2);
    if (operand >> 62 == 3 && transposed) { /* sixteens of rows: see boxed_operand_at */
        const uint32_t at = start + (uint32_t)(row / 16) * k_apart + (uint32_t)(k / 8) * rows_apart +
                            (uint32_t)(k % 8 * 32 + row % 16 * 2);
        return shared_element(at ^ (at >> 3 & 16));
    }
    if (operand >> 46 != 0) {
        cuda_on_host::stop("an operand of a kind that is not emulated");
    }
    return shared_element(start + (uint32_t)(row / 8) * rows_apart + (uint32_t)(k / 8) * k_apart + within);
}

template <int registers> static inline void keep_registers()
{
}

template <int registers> static inline void ask_for_registers()
{
}

template <int count>
static inline void multiply_operands(float (&d)[count], uint64_t a, uint64_t b, bool transposed)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32 % 4;
    float left[2][16];
    for (int half = 0; half < 2; half++) {
        for (int k = 0; k < 16; k++) {
            left[half][k] = operand_element(a, 16 * warp + lane / 4 + 8 * half, k, false);
        }
    }
    for (int e = 0; e < count; e++) {
        const int column = 8 * (e / 4) + 2 * (lane % 4) + e % 2;
        for (int k = 0; k < 16; k++) {
            d[e] += left[e / 2 % 2][k] * operand_element(b, column, k, transposed);
        }
    }
}

template <int count>
static inline void warpgroup_multiply(float (&d)[count], uint64_t a, uint64_t b, int add = 1)
{
    for (int e = 0; e < count && !add; e++) {
        d[e] = 0;
    }
    multiply_operands(d, a, b, false);
}

template <int count>
static inline void warpgroup_multiply_transposed(float (&d)[count], uint64_t a, uint64_t b, int add)
{
    for (int e = 0; e < count && !add; e++) {
        d[e] = 0;
    }
    multiply_operands(d, a, b, true);
}

template <int count>
static inline void multiply_registers(float (&d)[count], const uint32_t (&a)[4], uint64_t b, bool transposed)
{
    for (int tile = 0; tile < count / 4; tile++) {
        const int lane = (int)threadIdx.x % 32, column = 8 * tile + lane / 4, k = 2 * (lane % 4);
        uint32_t right[2];
        for (int half = 0; half < 2; half++) {
            right[half] = pack_bf16(operand_element(b, column, k + 8 * half, transposed),
                                    operand_element(b, column, k + 8 * half + 1, transposed));
        }
        multiply_add_bf16(&d[4 * tile], a, right);
    }
}

template <int count>
static inline void warpgroup_multiply(float (&d)[count], const uint32_t (&a)[4], uint64_t b, int add)
{
    for (int e = 0; e < count && !add; e++) {
        d[e] = 0;
    }
    multiply_registers(d, a, b, false);
}

template <int count>
static inline void warpgroup_multiply_transposed(float (&d)[count], const uint32_t (&a)[4], uint64_t b)
{
    multiply_registers(d, a, b, true);
}

#endif
