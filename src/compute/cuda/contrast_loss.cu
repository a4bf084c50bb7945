#include "compute/cuda/kernel.cuh"

/* Everything in double. A pair of rows becomes three numbers: first its cosine and the two norms, then, once
 * the volume's entropies are known, what its gradient takes of either row. A volume has (S, K) pairs of a
 * random crop with a base for intra, for inter and for inter's targets, and (K, K) of its bases, of which
 * those above the diagonal are used. */
enum { intra_pairs, inter_pairs, target_pairs, base_pairs };
enum { cosine, norm_a, norm_b };   /* of a pair, and then: */
enum { across, along_a, along_b }; /* da += across b - along_a a, db += across a - along_b b */
enum { measure_threads = 128, score_threads = 128, gradient_threads = 128 };

static const double least_norms_product = 1e-8;
static const double smallest = 1e-6; /* the epsilon of the entropies */

struct contrast {
    contrast_shape shape;
    const float *z, *t;
    double *pairs; /* (V, 3 S K + K K, 3) */
};

static HOST_DEVICE __forceinline__ int entries_of(const contrast_shape &shape)
{
    return shape.crops * shape.bases;
}

static HOST_DEVICE __forceinline__ int pairs_of(const contrast_shape &shape)
{
    return 3 * entries_of(shape) + shape.bases * shape.bases;
}

static __device__ __forceinline__ double *pair_at(const contrast &x, int volume, int kind, int entry)
{
    const size_t pair = (size_t)volume * pairs_of(x.shape) + kind * entries_of(x.shape) + entry;
    return x.pairs + 3 * pair;
}

static __device__ __forceinline__ const float *random_row(const contrast &x, const float *rows, int volume,
                                                          int crop)
{
    return rows + ((size_t)volume * x.shape.crops + crop) * x.shape.width;
}

static __device__ __forceinline__ const float *base_row(const contrast &x, const float *rows, int volume,
                                                        int base)
{
    const size_t row = (size_t)x.shape.volumes * x.shape.crops + (size_t)volume * x.shape.bases + base;
    return rows + row * x.shape.width;
}

/* A comparison that NaN passes unchanged. */
static __device__ __forceinline__ double at_least(double value, double least)
{
    return value < least ? least : value;
}

/* A warp for each pair of a volume. */
static __global__ void measure_pairs(contrast x)
{
    const int volume = (int)blockIdx.x, lane = (int)threadIdx.x % warp_size;
    const int pair = (int)(blockIdx.y * (measure_threads / warp_size) + threadIdx.x / warp_size);
    const int entries = entries_of(x.shape), bases = x.shape.bases;
    if (pair >= pairs_of(x.shape)) {
        return;
    }
    const int kind = pair < base_pairs * entries ? pair / entries : (int)base_pairs;
    const int entry = pair - kind * entries, first = entry / bases, second = entry % bases;
    const int other = kind == inter_pairs || kind == target_pairs ? (volume + 1) % x.shape.volumes : volume;
    const float *a = kind == base_pairs ? base_row(x, x.z, volume, first)
                                        : random_row(x, kind == target_pairs ? x.t : x.z, volume, first);
    const float *b = base_row(x, kind == intra_pairs || kind == target_pairs ? x.t : x.z, other, second);
    double aa = 0, bb = 0, ab = 0;
    for (int d = lane; d < x.shape.width; d += warp_size) {
        const double of_a = a[d], of_b = b[d];
        aa += of_a * of_a;
        bb += of_b * of_b;
        ab += of_a * of_b;
    }
    aa = sqrt(warp_sum(aa));
    bb = sqrt(warp_sum(bb));
    ab = warp_sum(ab);
    if (lane == 0) {
        double *measures = pair_at(x, volume, kind, entry);
        measures[cosine] = ab / at_least(aa * bb, least_norms_product);
        measures[norm_a] = aa;
        measures[norm_b] = bb;
    }
}

/* The sum over the block, in every thread, always in the same order. */
static __device__ double sum_over_block(double x)
{
    __shared__ double of_warps[score_threads / warp_size];
    x = warp_sum(x);
    __syncthreads(); /* what was there before is read */
    if (threadIdx.x % warp_size == 0) {
        of_warps[threadIdx.x / warp_size] = x;
    }
    __syncthreads();
    double sum = 0;
    for (int warp = 0; warp < score_threads / warp_size; warp++) {
        sum += of_warps[warp];
    }
    return sum;
}

/* From a pair's measures to its gradient: `slope` times that of its cosine, where that is positive. */
static __device__ void set_gradient(double *pair, double slope)
{
    const double cos = pair[cosine], a = pair[norm_a], b = pair[norm_b];
    const double product = a * b;
    const bool passes = cos > 0, clamped = product < least_norms_product;
    pair[across] = passes ? slope / at_least(product, least_norms_product) : 0;
    pair[along_a] = passes && !clamped ? slope * cos / (a * a) : 0;
    pair[along_b] = passes && !clamped ? slope * cos / (b * b) : 0;
}

/* ce of voco.md section 3 of a volume's similarities and `labels`, or, where that is NULL, the teacher's
 * opinion; the whole block calls it. */
static __device__ double score_entropy(const contrast &x, int kind, const float *labels)
{
    const int volume = (int)blockIdx.x, entries = entries_of(x.shape);
    double sum_y = 0, zeros = 0, value = 0;
    const auto target = [&](int e) {
        return labels != NULL ? (double)labels[e] : at_least(pair_at(x, volume, target_pairs, e)[cosine], 0);
    };
    for (int e = (int)threadIdx.x; e < entries; e += score_threads) {
        sum_y += target(e);
        zeros += target(e) == 0;
    }
    sum_y = smallest + sum_over_block(sum_y);
    zeros = smallest + sum_over_block(zeros);
    for (int e = (int)threadIdx.x; e < entries; e += score_threads) {
        double *pair = pair_at(x, volume, kind, e);
        const double y = target(e), s = at_least(pair[cosine], 0);
        const double likeness = 1 - fabs(y - s) + smallest;
        const double side = s > y ? 1 : s < y ? -1 : 0;
        double slope = y * side / (likeness * sum_y);
        value -= y * log(likeness) / sum_y;
        if (y == 0) {
            const double apart = 1 - s + smallest;
            value -= log(apart) / zeros;
            slope += 1 / (apart * zeros);
        }
        set_gradient(pair, slope / x.shape.volumes);
    }
    return sum_over_block(value);
}

static __device__ double score_bases(const contrast &x)
{
    const int volume = (int)blockIdx.x, bases = x.shape.bases;
    const double count = 0.5 * bases * (bases - 1.0);
    double value = 0;
    for (int e = (int)threadIdx.x; e < bases * bases; e += score_threads) {
        if (e / bases < e % bases) {
            double *pair = pair_at(x, volume, base_pairs, e);
            const double cos = at_least(pair[cosine], 0);
            value += cos * cos / count;
            set_gradient(pair, 2 * cos / (count * x.shape.volumes));
        }
    }
    return sum_over_block(value);
}

/* A block for each volume. */
static __global__ void score_volumes(contrast x, double *terms, float *similarity, const float *labels)
{
    const size_t volume = blockIdx.x;
    const int entries = entries_of(x.shape);
    for (int e = (int)threadIdx.x; e < entries; e += score_threads) {
        similarity[volume * entries + e] =
            (float)at_least(pair_at(x, (int)volume, intra_pairs, e)[cosine], 0);
    }
    const double intra = score_entropy(x, intra_pairs, labels + volume * entries);
    const double inter = score_entropy(x, inter_pairs, NULL);
    const double reg = score_bases(x);
    if (threadIdx.x == 0) {
        terms[volume * contrast_terms + CONTRAST_INTRA] = intra;
        terms[volume * contrast_terms + CONTRAST_INTER] = inter;
        terms[volume * contrast_terms + CONTRAST_REG] = reg;
    }
}

/* What reaches column d of a random crop of the student, but what lies along the row itself. */
static __device__ double of_random_crop(const contrast &x, double *along, int volume, int crop, int d)
{
    const int next = (volume + 1) % x.shape.volumes;
    double sum = 0;
    for (int k = 0; k < x.shape.bases; k++) {
        const int entry = crop * x.shape.bases + k;
        const double *intra = pair_at(x, volume, intra_pairs, entry);
        const double *inter = pair_at(x, volume, inter_pairs, entry);
        sum += intra[across] * base_row(x, x.t, volume, k)[d] + inter[across] * base_row(x, x.z, next, k)[d];
        *along += intra[along_a] + inter[along_a];
    }
    return sum;
}

static __device__ double of_base(const contrast &x, double *along, int volume, int base, int d)
{
    const int bases = x.shape.bases, before = (volume + x.shape.volumes - 1) % x.shape.volumes;
    double sum = 0;
    for (int s = 0; s < x.shape.crops; s++) {
        const double *inter = pair_at(x, before, inter_pairs, s * bases + base);
        sum += inter[across] * random_row(x, x.z, before, s)[d];
        *along += inter[along_b];
    }
    for (int b = base + 1; b < bases; b++) {
        const double *reg = pair_at(x, volume, base_pairs, base * bases + b);
        sum += reg[across] * base_row(x, x.z, volume, b)[d];
        *along += reg[along_a];
    }
    return sum;
}

/* A thread for each element of dz. */
static __global__ void gather_gradient(contrast x, float *dz)
{
    const int row = (int)blockIdx.x, d = (int)(blockIdx.y * gradient_threads + threadIdx.x);
    const int randoms = x.shape.volumes * x.shape.crops;
    if (d >= x.shape.width) {
        return;
    }
    const size_t element = (size_t)row * x.shape.width + d;
    double along = 0;
    const double sum = row < randoms ? of_random_crop(x, &along, row / x.shape.crops, row % x.shape.crops, d)
                                     : of_base(x, &along, (row - randoms) / x.shape.bases,
                                               (row - randoms) % x.shape.bases, d);
    dz[element] = (float)(sum - along * x.z[element]);
}

void cuda_contrast_loss(struct compute *c, double *terms, float *dz, float *similarity, const float *z,
                        const float *t, const float *labels, double *work, const struct contrast_shape *shape)
{
    const contrast x = {*shape, z, t, work};
    const unsigned volumes = (unsigned)shape->volumes;
    const unsigned rows = volumes * (unsigned)(shape->crops + shape->bases);
    const size_t warps = measure_threads / warp_size;
    launch(c, measure_pairs, dim3(volumes, (unsigned)divide_up((size_t)pairs_of(*shape), warps)),
           dim3(measure_threads), 0, x);
    launch(c, score_volumes, dim3(volumes), dim3(score_threads), 0, x, terms, similarity, labels);
    launch(c, gather_gradient, dim3(rows, (unsigned)divide_up((size_t)shape->width, gradient_threads)),
           dim3(gradient_threads), 0, x, dz);
}
