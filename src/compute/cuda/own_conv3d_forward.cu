/* Forward, and the input's gradient, of own_conv3d.cuh.
 *
 * A block has a column of the output, 16 x 16 voxels (h, w) by some planes, for `outs` output channels. It
 * walks along the column's input planes, of which it needs one at a time: with the weights of all taps in
 * shared memory, a plane's product with the 3 x `outs` columns of the taps (kd = 0, 1, 2; kh; kw) is what it
 * gives to the outputs of the next plane, of its own and of the one before. These three sums stay in
 * registers: one is begun, one is half done, one is finished and written, with each plane. While a plane is
 * multiplied, the next one is on its way.
 *
 * Half of a block's warps, four of them, has two squares of 8 x 8 voxels, each warp 16 voxels of either. On
 * Hopper own_conv3d_warpgroups.cu walks the same way, and has the sums in the same registers.
 */
#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/own_conv3d.cuh"
#include "compute/cuda/own_conv3d_warpgroups.cuh"

int own_conv3d_by_warps = 0;

/* Weights, two parts of planes, and mean and rstd of the output's channels. */
template <int ins, int outs> constexpr size_t shared_bytes()
{
    return (size_t)weight_tile<ins, outs>::bytes + 2 * (size_t)walk_part<ins, outs>::halo::bytes +
           outs * sizeof(float2);
}

/* sums += this part's product, `weights` those of its channels. */
template <int ins, int outs>
static __device__ __forceinline__ void multiply_by_warp(float (&sums)[squares][3 * outs / 2],
                                                        const unsigned char *plane,
                                                        const unsigned char *weights, const place &at)
{
    typedef walk_part<ins, outs> part;
    typedef typename part::halo halo;
    typedef weight_tile<ins, outs> tile;
    const int matrix = at.lane / 8, row = at.lane % 8;
    const unsigned char *a_row = plane + (at.tile_h + 2 * at.warp + matrix % 2) * halo::row_bytes + row * 16 +
                                 matrix / 2 * halo::group_bytes;
    const unsigned char *b_row = weights + matrix % 2 * tile::group_bytes + (matrix / 2 * 8 + row) * 16;
#pragma unroll 1
    for (int area = 0; area < kernel_area; area++) {
        const unsigned char *a_tap = a_row + area / 3 * halo::row_bytes + area % 3 * 16;
        const unsigned char *b_tap = b_row + area * tile::tap_bytes;
#pragma unroll
        for (int k = 0; k < part::channels / 16; k++) {
            uint32_t a[squares][4];
#pragma unroll
            for (int square = 0; square < squares; square++) {
                load_matrices(a[square], a_tap + 2 * k * halo::group_bytes + square * 8 * 16);
            }
#pragma unroll
            for (int pair = 0; pair < tile::columns / 16; pair++) {
                uint32_t b[4];
                load_matrices(b, b_tap + 2 * k * tile::group_bytes + pair * 256);
#pragma unroll
                for (int square = 0; square < squares; square++) {
                    multiply_add_bf16(&sums[square][8 * pair], a[square], &b[0]);
                    multiply_add_bf16(&sums[square][8 * pair + 4], a[square], &b[2]);
                }
            }
        }
    }
}

template <int ins, int outs, epilogue what>
static __global__ void __launch_bounds__(block_threads, 1) walk_column(const walk w)
{
    typedef walk_part<ins, outs> part;
    typedef typename part::halo halo;
    dynamic_shared(unsigned char, shared);
    unsigned char *weights = shared, *planes = shared + weight_tile<ins, outs>::bytes;
    float2 *behind_norm = (float2 *)(planes + 2 * halo::bytes);
    const place at((int)threadIdx.x / 128);
    const walk_share its(w, (int)blockIdx.x);
    const int sample = its.sample, h0 = its.h0, w0 = its.w0, first = its.first, last = its.last;
    const int first_out = (int)blockIdx.y * outs;
    const int begin = its.begin, end = its.end;
    const size_t plane_elements = (size_t)w.h * w.w * ins;
    volume_plane next = {w.inp + ((size_t)sample * w.d + begin) * plane_elements, w.h, w.w, ins};
    tile_norm norm = w.norm;
    if (is_through_norm(what)) {
        norm.mean = NULL;
        if ((int)threadIdx.x < outs) {
            const size_t moment = (size_t)sample * w.out_channels + first_out + threadIdx.x;
            behind_norm[threadIdx.x] = make_float2(w.behind_norm.mean[moment], w.behind_norm.rstd[moment]);
        }
    } else if (norm.mean != NULL) {
        norm.mean += (size_t)sample * ins;
        norm.rstd += (size_t)sample * ins;
    }
    float sums[squares][3 * outs / 2];
    moment_sums<outs> moments;
    values_behind<outs> behind;
#pragma unroll
    for (int k = 0; k < 3 * outs / 2; k++) {
        sums[0][k] = sums[1][k] = 0;
    }
    moments.clear();

    copy_weights<ins, outs, block_threads>(weights, w.weights, first_out, w.out_channels);
    copy_plane<halo, block_threads, 1>(planes, next, h0 - 1, w0 - 1);
    copy_async_commit();
    copy_async_wait<0>();
    if (norm.mean != NULL) {
        normalise_plane<halo, block_threads, 1>(planes, next, h0 - 1, w0 - 1, norm);
    }
    __syncthreads();
#pragma unroll 1
    for (int step = begin * part::parts; step < end * part::parts; step++) {
        const int p = step / part::parts, half = step % part::parts;
        const int more = step + 1 < end * part::parts, finished = half + 1 == part::parts;
        const unsigned char *current = planes + (step - begin * part::parts) % 2 * halo::bytes;
        unsigned char *other = planes + (step - begin * part::parts + 1) % 2 * halo::bytes;
        const unsigned char *its_weights =
            weights + half * (part::channels / 8 * weight_tile<ins, outs>::group_bytes);
        next.first += finished ? plane_elements - (ins - part::channels) : (size_t)part::channels;
        if (more) {
            copy_plane<halo, block_threads, 1>(other, next, h0 - 1, w0 - 1);
            copy_async_commit();
        }
        multiply_by_warp<ins, outs>(sums, current, its_weights, at);
        if (is_through_norm(what) && finished && p - 1 >= first) {
            behind.load(w, sample, p - 1, h0 + at.tile_h, w0, first_out, at);
        }
        copy_async_wait<0>();
        if (more && norm.mean != NULL) {
            const int coming = finished ? 0 : (half + 1) * part::channels;
            const tile_norm its_norm = {norm.mean + coming, norm.rstd + coming, norm.slope};
            normalise_plane<halo, block_threads, 1>(other, next, h0 - 1, w0 - 1, its_norm);
        }
#pragma unroll
        for (int square = 0; square < squares; square++) {
            if (!finished) {
                continue;
            }
            if (p - 1 >= first) {
                finish_square<outs, what>(w, &sums[square][outs], moments, behind, sample, p - 1,
                                          h0 + at.tile_h, w0 + 8 * square, first_out, behind_norm, at);
                if (is_through_norm(what) && square + 1 < squares) {
                    behind.load(w, sample, p - 1, h0 + at.tile_h, w0 + 8 * (square + 1), first_out, at);
                }
            }
            step_forward<outs>(sums[square], (float)blockDim.z);
        }
        __syncthreads();
    }
    if (end == last) { /* there is no plane behind the last one to finish it */
#pragma unroll
        for (int square = 0; square < squares; square++) {
            if (is_through_norm(what)) {
                behind.load(w, sample, last - 1, h0 + at.tile_h, w0 + 8 * square, first_out, at);
            }
            finish_square<outs, what>(w, &sums[square][outs], moments, behind, sample, last - 1,
                                      h0 + at.tile_h, w0 + 8 * square, first_out, behind_norm, at);
        }
    }
    if (what != ONLY_WRITE) {
        moments.put((float *)planes, (int)threadIdx.x / warp_size);
        __syncthreads();
        moments.gather(w.sums + ((size_t)its.part * w.out_channels + first_out) * 2, (float *)planes,
                       block_threads / warp_size, (int)threadIdx.x);
    }
}

template <int ins, int outs> static void launch_walk(struct compute *c, const struct walk &w, dim3 grid)
{
    const size_t shared = shared_bytes<ins, outs>();
    void (*kernel)(struct walk) = w.behind != NULL && w.kept != NULL
                                      ? walk_column<ins, outs, THROUGH_NORM_KEPT>
                                  : w.behind != NULL ? walk_column<ins, outs, THROUGH_NORM>
                                  : w.sums != NULL   ? walk_column<ins, outs, SUM_MOMENTS>
                                                     : walk_column<ins, outs, ONLY_WRITE>;
    launch(c, kernel, grid, dim3(block_threads), shared, w);
}

static int by_warpgroups(const struct compute *c)
{
    return !own_conv3d_by_warps && own_conv3d_walks_by_warpgroups(c);
}

static tile_norm tile_norm_of(const struct norm_activation *norm)
{
    const tile_norm none = {NULL, NULL, 1};
    return norm != NULL ? tile_norm{norm->mean, norm->rstd, norm->slope} : none;
}

static int slice_of(int ins, int outs)
{
    return ins == 48 && outs % 48 == 0 ? 48 : ins == 96 && outs % 32 == 0 ? 32 : 16;
}

/* How to cut the columns of a slice of the output's channels: as many rounds of whole ones as are best, and
 * the rest into segments, so that the multiprocessors that there are for the slice are done at about the same
 * time. */
static void choose_segments(struct walk *w, int columns, int multiprocessors)
{
    const int overhead = 1; /* planes that beginning a segment is worth */
    size_t best_cost = (size_t)-1;
    for (int left = 0; left < 4 && left <= columns / multiprocessors; left++) {
        const int rounds = columns / multiprocessors - left, rest = columns - rounds * multiprocessors;
        for (int segments = 1; segments <= w->d; segments++) {
            const int planes = (int)divide_up((size_t)w->d, (size_t)segments);
            const size_t more = divide_up((size_t)rest * segments, (size_t)multiprocessors);
            const size_t cost = (size_t)rounds * (size_t)(w->d + overhead) +
                                more * (size_t)(planes + (segments > 1 ? 2 : 0) + overhead);
            if ((int)divide_up((size_t)w->d, (size_t)planes) == segments && cost < best_cost) {
                best_cost = cost;
                w->whole = rounds * multiprocessors;
                w->segments = segments;
                w->planes_per_segment = planes;
            }
        }
    }
}

/* The walk over inp (.., ins) for an output (.., outs), with no sums. */
static struct walk plan_walk(const struct compute *c, int ins, int outs, const struct conv3d_shape *shape)
{
    struct walk w = {};
    w.d = shape->d;
    w.h = shape->h;
    w.w = shape->w;
    w.out_channels = outs;
    w.tiles = (int)(divide_up((size_t)shape->h, tile_edge) * divide_up((size_t)shape->w, tile_edge));
    choose_segments(&w, shape->n * w.tiles,
                    max(1, cuda_state(c)->multiprocessors / (outs / slice_of(ins, outs))));
    return w;
}

static int parts_of(const struct compute *c, const struct walk &w)
{
    return w.tiles * w.segments * (by_warpgroups(c) ? (int)own_conv3d_warpgroups : 1);
}

static size_t sums_bytes(const struct compute *c, const struct walk &w, int n)
{
    return (size_t)n * parts_of(c, w) * w.out_channels * 2 * sizeof(float);
}

/* out (.., out channels) = convolution of inp (.., ins) with weights (taps, out channels, ins). */
static void convolve(struct compute *c, const struct walk &w, int ins, int n)
{
    const int slice = slice_of(ins, w.out_channels), columns = n * w.tiles;
    const int shares = w.whole + (columns - w.whole) * w.segments;
    const dim3 grid((unsigned)shares, (unsigned)(w.out_channels / slice));
    if (w.sums != NULL && w.whole > 0 && w.segments > 1) { /* those of segments that there are not */
        cuda_fill_zero(c, w.sums, sums_bytes(c, w, n));
    }
    if (by_warpgroups(c)) {
        own_conv3d_walk_by_warpgroups(c, w, ins, slice, n, shares);
    } else {
        with_walk_channels(ins, slice, [&](auto channels) {
            launch_walk<decltype(channels)::ins, decltype(channels)::outs>(c, w, grid);
        });
    }
}

static void finish(struct compute *c, const struct walk &w, int n, float *mean, float *rstd,
                   float *mean_product)
{
    conv3d_finish_sums(c, mean, rstd, mean_product, w.sums, parts_of(c, w), n, (size_t)w.d * w.h * w.w,
                       w.out_channels);
}

static int channels_fit(const struct compute *c, int ins, int outs)
{
    const size_t shared = cuda_state(c)->shared_per_block;
    if (outs % 16 != 0) {
        return 0;
    }
    switch (ins) {
    case 16:
        return shared >= shared_bytes<16, 16>();
    case 48:
        return shared >= (outs % 48 == 0 ? shared_bytes<48, 48>() : shared_bytes<48, 16>());
    case 96:
        return shared >= (outs % 32 == 0 ? shared_bytes<96, 32>() : shared_bytes<96, 16>());
    default:
        return 0;
    }
}

int own_conv3d_fits(const struct compute *c, const struct conv3d_shape *shape)
{
    const long long blocks = (long long)shape->n * shape->d *
                             (long long)divide_up((size_t)shape->h, tile_edge) *
                             (long long)divide_up((size_t)shape->w, tile_edge);
    return c->precision == PRECISION_BF16 && shape->kernel == 3 && shape->stride == 1 && blocks < 1 << 30 &&
           channels_fit(c, shape->in_channels, shape->out_channels) &&
           channels_fit(c, shape->out_channels, shape->in_channels);
}

void own_conv3d_forward(struct compute *c, activation *out, const activation *inp,
                        const struct norm_activation *norm, const float *weight,
                        const struct conv3d_shape *shape, float *mean, float *rstd)
{
    const int ins = shape->in_channels, outs = shape->out_channels;
    if (c->status != VOCO_OK) {
        return;
    }
    struct walk w = plan_walk(c, ins, outs, shape);
    w.out = (bf16 *)out;
    w.inp = (const bf16 *)inp;
    w.norm = tile_norm_of(norm);
    w.weights = (const bf16 *)cuda_weights(c, weight, WEIGHTS_TAP_OUT_IN, outs, ins, kernel_taps);
    if (mean != NULL) {
        w.sums = (float *)cuda_scratch(c, sums_bytes(c, w, shape->n));
    }
    convolve(c, w, ins, shape->n);
    if (mean != NULL) {
        finish(c, w, shape->n, mean, rstd, NULL);
    }
}

/* Of the gradient of what the convolution reads. */
static struct walk plan_gradient(struct compute *c, activation *dinp, const activation *dout,
                                 const float *weight, const struct conv3d_shape *shape)
{
    const int ins = shape->in_channels, outs = shape->out_channels;
    struct walk w = plan_walk(c, outs, ins, shape);
    w.out = (bf16 *)dinp;
    w.inp = (const bf16 *)dout;
    w.norm = tile_norm_of(NULL);
    w.weights = (const bf16 *)cuda_weights(c, weight, WEIGHTS_FLIPPED, outs, ins, kernel_taps);
    return w;
}

size_t own_conv3d_norm_gradient_scratch(const struct compute *c, const struct conv3d_shape *shape)
{
    return sums_bytes(c, plan_walk(c, shape->out_channels, shape->in_channels, shape), shape->n);
}

void own_conv3d_norm_gradient(struct compute *c, activation *dnorm, float *dnorm_mean, float *dnorm_xhat_mean,
                              const activation *dout, const float *weight, const struct conv3d_shape *shape,
                              const activation *inp, const struct norm_activation *norm, activation *kept,
                              void *scratch)
{
    struct walk w = plan_gradient(c, dnorm, dout, weight, shape);
    w.sums = (float *)scratch;
    w.kept = (bf16 *)kept;
    w.behind = (const bf16 *)inp;
    w.behind_norm = tile_norm_of(norm);
    convolve(c, w, shape->out_channels, shape->n);
    finish(c, w, shape->n, dnorm_mean, NULL, dnorm_xhat_mean);
}

void own_conv3d_input_gradient(struct compute *c, activation *dinp, const activation *dout,
                               const float *weight, const struct conv3d_shape *shape, const activation *inp,
                               const struct norm_activation *norm, activation *kept)
{
    const int ins = shape->in_channels;
    const size_t moments = cuda_aligned((size_t)shape->n * ins * sizeof(float));
    if (c->status != VOCO_OK) {
        return;
    }
    if (norm == NULL) {
        convolve(c, plan_gradient(c, dinp, dout, weight, shape), shape->out_channels, shape->n);
        return;
    }
    char *scratch = (char *)cuda_scratch(c, 2 * moments + own_conv3d_norm_gradient_scratch(c, shape));
    float *g_mean = (float *)scratch, *g_xhat_mean = (float *)(scratch + moments);
    own_conv3d_norm_gradient(c, dinp, g_mean, g_xhat_mean, dout, weight, shape, inp, norm, kept,
                             scratch + 2 * moments);
    cuda_normed_input_gradient_result(c, dinp, inp, norm, g_mean, g_xhat_mean, shape->n,
                                      (size_t)shape->d * shape->h * shape->w, ins);
}
