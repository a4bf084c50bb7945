/* What src/compute/cuda/kernel.cuh and tensor_core.cuh mean where there is no CUDA compiler: g++ compiles a
 * .cu file, and its kernels run on the processor, the same source line for line. Compute capability 8.0
 * and what warpgroup.cuh and box_copy.cuh have of 9.0, without clusters or cooperative groups; kernels that
 * call PTX or cuDNN themselves are not for it.
 *
 * Use it so (from the repository's root; x86-64 Linux, g++ 10 or later):
 *
 *     tests/cuda_on_host/build /tmp/try src/compute/cuda/gelu.cu && /tmp/try        (tests its operations)
 *     tests/cuda_on_host/build /tmp/try src/compute/cuda/gelu.cu try.cpp && /tmp/try
 *
 * the second of which is
 *
 *     gcc -std=gnu17 -O2 -D_GNU_SOURCE -DVOCO_NO_CPU -Isrc -Iinclude -c src/compute/{compute,host_memory}.c \
 *         src/compute/reference/[a-z]*.c src/base/error.c
 *     g++ -std=c++17 -O2 -g -D_GNU_SOURCE -Wno-unknown-pragmas -Isrc -Iinclude -Itests/cuda_on_host \
 *         -o /tmp/try *.o tests/cuda_on_host/cuda_on_host.cpp -x c++ \
 *         src/compute/cuda/gelu.cu try.cpp -lpthread
 *
 * where try.cpp is, say,
 *
 *     #include "open_cuda_on_host.h"
 *     int main()
 *     {
 *         struct compute c, reference;
 *         open_cuda_on_host(&c, PRECISION_FLOAT32);               // or PRECISION_BF16
 *         compute_open(&reference, "reference", 1, PRECISION_FLOAT32);
 *         float x[100], y[100], expected[100]; ...fill x...
 *         float *dx = (float *)c.allocate(&c, sizeof x), *dy = (float *)c.allocate(&c, sizeof y);
 *         c.to_device(&c, dx, x, sizeof x);                        // in bf16: c.activations_from_reals
 *         c.gelu_forward(&c, (activation *)dy, (activation *)dx, 100);
 *         c.to_host(&c, y, dy, sizeof y);
 *         reference.gelu_forward(&reference, as_activations(expected), as_activations(x), 100); ...compare...
 *     }
 *
 * Operations whose .cu file is not linked are NULL in c, but for activations_from_reals and its inverse,
 * which then are this folder's own. /tmp/try gelu 1e8 tests what has "gelu" in its name, in shapes of up to
 * 1e8 multiplications.
 *
 * What it watches over, ending the program with a message that names launch, block and thread:
 *   - barriers and warp functions that some thread never reaches, or reaches with another mask or another
 * function; values read from a lane that takes no part;
 *   - arrays of c->allocate and cuda_scratch end at a page that nobody may touch (their start is aligned to
 * 64; the bytes between are looked at for writes), and the host's side of an operation may not touch them at
 * all;
 *   - memory is full of NaNs (0xff) until it is written: arrays, scratch at each call, shared memory at each
 * block;
 *   - dynamic shared memory ends at such a page too (aligned to 128);
 *   - half the threads' copy_async happens at once, the other half's at copy_async_wait; in half the launches
 * boxes (copy_box) are there at once, in the others their places hold NaNs until a thread waits for them;
 *   - waits for copies that nobody asks for;
 *   - most leaves (leaves.cuh) are done as late as may be, some at once: what they still read
 * and others write too early gives other bits;
 *   - blocks, and threads between two barriers, run in an order that changes with each launch, forward or
 * backward: what depends on it gives other bits the second time. (CUDA_ON_HOST_ORDER=forward or backward
 * fixes it.)
 *   - vectors of 16 bytes that are not aligned (a segmentation fault); with -fsanitize=undefined, all others.
 * Not noticed: overruns of static shared arrays (-fsanitize=address does), races between atomics and plain
 * accesses, registers, bank conflicts, anything of speed. */
#ifndef CUDA_ON_HOST_H
#define CUDA_ON_HOST_H

#ifndef __cplusplus
#error "cuda_on_host.h is C++"
#endif

#include <functional>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- words before names ---- */

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
/* Kernels run on a thread of their own, whose thread-local memory is filled anew for each block. */
#ifdef __SANITIZE_ADDRESS__
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

#define dynamic_shared(type, name) type *name = reinterpret_cast<type *>(cuda_on_host::block_shared())

/* ---- vectors ---- */

#define CUDA_ON_HOST_VECTOR(name, element, count_, bytes)                                                    \
    struct __align__(bytes) name##count_{CUDA_ON_HOST_MEMBERS_##count_(element)};
#define CUDA_ON_HOST_MEMBERS_1(element) element x;
#define CUDA_ON_HOST_MEMBERS_2(element) element x, y;
#define CUDA_ON_HOST_MEMBERS_3(element) element x, y, z;
#define CUDA_ON_HOST_MEMBERS_4(element) element x, y, z, w;
#define CUDA_ON_HOST_VECTORS(name, element)                                                                  \
    CUDA_ON_HOST_VECTOR(name, element, 1, sizeof(element))                                                   \
    CUDA_ON_HOST_VECTOR(name, element, 2, 2 * sizeof(element))                                               \
    CUDA_ON_HOST_VECTOR(name, element, 3, sizeof(element))                                                   \
    CUDA_ON_HOST_VECTOR(name, element, 4, (sizeof(element) > 4 ? 16 : 4 * sizeof(element)))                  \
    static inline name##1 make_##name##1(element x)                                                          \
    {                                                                                                        \
        return name##1 {x};                                                                                  \
    }                                                                                                        \
    static inline name##2 make_##name##2(element x, element y)                                               \
    {                                                                                                        \
        return name##2 {x, y};                                                                               \
    }                                                                                                        \
    static inline name##3 make_##name##3(element x, element y, element z)                                    \
    {                                                                                                        \
        return name##3 {x, y, z};                                                                            \
    }                                                                                                        \
    static inline name##4 make_##name##4(element x, element y, element z, element w)                         \
    {                                                                                                        \
        return name##4 {x, y, z, w};                                                                         \
    }
CUDA_ON_HOST_VECTORS(char, signed char)
CUDA_ON_HOST_VECTORS(uchar, unsigned char)
CUDA_ON_HOST_VECTORS(short, short)
CUDA_ON_HOST_VECTORS(ushort, unsigned short)
CUDA_ON_HOST_VECTORS(int, int)
CUDA_ON_HOST_VECTORS(uint, unsigned)
CUDA_ON_HOST_VECTORS(longlong, long long)
CUDA_ON_HOST_VECTORS(ulonglong, unsigned long long)
CUDA_ON_HOST_VECTORS(float, float)
CUDA_ON_HOST_VECTORS(double, double)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

/* ---- the machine ---- */

namespace cuda_on_host
{

/* What one lane brings to a function of the warp, and takes from it. */
struct lane {
    const void *given;
    void *taken;
};

/* Computes what each lane of `mask` takes. Lanes that have ended are not in `mask`. */
typedef void (*warp_function)(lane lanes[32], unsigned mask, const void *constants);

/* Waits for all lanes of `mask` that have not ended to call the same function, which one of them then runs.
 */
void of_warp(unsigned mask, warp_function function, const void *given, void *taken,
             const void *constants = nullptr);

/* Waits for all threads of the block; the sum over them of `count`. */
int of_block(int count);

unsigned char *block_shared();

[[noreturn]] void stop(const char *format, ...) __attribute__((format(printf, 1, 2)));

void run(struct compute *c, const char *launch, dim3 grid, dim3 block, size_t shared, void (*thread)(void *),
         void *argument);

/* Does it, or keeps it: where operations are recorded, or where it is of a leaf that is put off. */
void ask(struct compute *c, const std::function<void()> &work);

int in_shared_memory(const void *address, size_t bytes);

/* Barriers of named_barrier.cuh, 1 to 15: so many threads come to one, of which some wait for the others. */
void named_arrive(int barrier, int threads);
void named_wait(int barrier, int threads);

/* Barriers of box_copy.cuh, 8 bytes of shared memory each: `arrivals` threads arrive, and copies of so many
 * bytes are done. */
void barrier_make(void *barrier, int arrivals);
void barrier_arrive(void *barrier, int bytes);
void barrier_wait(void *barrier, int parity);
void barrier_copy(void *barrier, void *to, int bytes, const std::function<void()> &copy);

void copy_later(void *to, const void *from, int valid);
void end_group_of_copies();
void wait_for_copies(int pending);

} // namespace cuda_on_host

static inline void __syncthreads()
{
    cuda_on_host::of_block(0);
}

static inline int __syncthreads_count(int predicate)
{
    return cuda_on_host::of_block(predicate != 0);
}

static inline int __syncthreads_or(int predicate)
{
    return cuda_on_host::of_block(predicate != 0) > 0;
}

static inline int __syncthreads_and(int predicate)
{
    return cuda_on_host::of_block(predicate == 0) == 0;
}

static inline void __threadfence()
{
}

static inline void __threadfence_block()
{
}

/* ---- functions of a warp ---- */

namespace cuda_on_host
{

static inline void meet(lane[32], unsigned, const void *)
{
}

struct shuffled {
    unsigned char value[8];
    int source; /* lane */
    int valid;  /* 0: the lane keeps its own value */
};

static inline void exchange(lane lanes[32], unsigned mask, const void *)
{
    for (int l = 0; l < 32; l++) {
        if (mask >> l & 1) {
            const shuffled *own = (const shuffled *)lanes[l].given;
            if (!(mask >> own->source & 1)) {
                stop("lane %d shuffles from lane %d, which takes no part (mask %08x)", l, own->source, mask);
            }
            memcpy(lanes[l].taken, ((const shuffled *)lanes[own->source].given)->value, 8);
        }
    }
}

static inline void vote(lane lanes[32], unsigned mask, const void *)
{
    unsigned votes = 0;
    for (int l = 0; l < 32; l++) {
        votes |= mask >> l & 1 ? (unsigned)(*(const int *)lanes[l].given != 0) << l : 0;
    }
    for (int l = 0; l < 32; l++) {
        if (mask >> l & 1) {
            *(unsigned *)lanes[l].taken = votes;
        }
    }
}

int own_lane();

template <typename T> static inline T shuffle(unsigned mask, T value, int source, int width)
{
    static_assert(sizeof(T) <= 8, "at most 8 bytes are shuffled");
    if (width <= 0 || width > 32 || (width & (width - 1)) != 0) {
        stop("a shuffle of width %d", width);
    }
    shuffled given = {};
    unsigned char taken[8];
    T result;
    memcpy(given.value, &value, sizeof value);
    given.source = source;
    of_warp(mask, exchange, &given, taken);
    memcpy(&result, taken, sizeof result);
    return result;
}

} // namespace cuda_on_host

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    cuda_on_host::of_warp(mask, cuda_on_host::meet, nullptr, nullptr);
}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32)
{
    const int first = cuda_on_host::own_lane() & ~(width - 1);
    return cuda_on_host::shuffle(mask, value, first + (source & (width - 1)), width);
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32)
{
    const int own = cuda_on_host::own_lane(), source = own ^ bits;
    const int last = (own & ~(width - 1)) + width - 1;
    return cuda_on_host::shuffle(mask, value, source <= last ? source : own, width);
}

template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
    const int own = cuda_on_host::own_lane(), last = (own & ~(width - 1)) + width - 1;
    return cuda_on_host::shuffle(mask, value, own + (int)delta <= last ? own + (int)delta : own, width);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
    const int own = cuda_on_host::own_lane(), first = own & ~(width - 1);
    return cuda_on_host::shuffle(mask, value, own - (int)delta >= first ? own - (int)delta : own, width);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    unsigned votes;
    cuda_on_host::of_warp(mask, cuda_on_host::vote, &predicate, &votes);
    return votes;
}

static inline int __any_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}

static inline int __all_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, !predicate) == 0;
}

/* ---- atomics: threads take turns at barriers only, so that plain ones are atomic ---- */

template <typename T, typename V> static inline T atomicAdd(T *to, V value)
{
    const T before = *to;
    *to = before + (T)value;
    return before;
}

template <typename T, typename V> static inline T atomicMax(T *to, V value)
{
    const T before = *to;
    *to = before < (T)value ? (T)value : before;
    return before;
}

template <typename T, typename V> static inline T atomicMin(T *to, V value)
{
    const T before = *to;
    *to = (T)value < before ? (T)value : before;
    return before;
}

template <typename T, typename V> static inline T atomicExch(T *to, V value)
{
    const T before = *to;
    *to = (T)value;
    return before;
}

template <typename T, typename V> static inline T atomicOr(T *to, V value)
{
    const T before = *to;
    *to = before | (T)value;
    return before;
}

static inline unsigned atomicInc(unsigned *to, unsigned last)
{
    const unsigned before = *to;
    *to = before >= last ? 0 : before + 1;
    return before;
}

template <typename T> static inline T atomicCAS(T *to, T expected, T value)
{
    const T before = *to;
    *to = before == expected ? value : before;
    return before;
}

/* ---- memory, past caches ---- */

template <typename T> static inline T __ldg(const T *from)
{
    return *from;
}

template <typename T> static inline T __ldcs(const T *from)
{
    return *from;
}

template <typename T> static inline T __ldcg(const T *from)
{
    return *from;
}

template <typename T> static inline void __stcs(T *to, T value)
{
    *to = value;
}

template <typename T> static inline void __stcg(T *to, T value)
{
    *to = value;
}

/* ---- launches ---- */

template <typename... Parameters, typename... Arguments>
static void launch_on_host(const char *name, struct compute *c, void (*kernel)(Parameters...), dim3 grid,
                           dim3 block, size_t shared, Arguments... arguments)
{
    auto thread = [=] { kernel(Parameters(arguments)...); };
    cuda_on_host::ask(c, [=]() mutable {
        cuda_on_host::run(
            c, name, grid, block, shared, [](void *argument) { (*(decltype(thread) *)argument)(); }, &thread);
    });
}

/* A macro, so that messages can say what was launched. */
#define launch(...) launch_on_host(#__VA_ARGS__, __VA_ARGS__)

#include "numbers_on_host.h"
#include "tensor_core_on_host.h"

#endif
