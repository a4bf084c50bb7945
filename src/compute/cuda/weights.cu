#include "compute/cuda/kernel.cuh"

#include <stdlib.h>

/* One derived form of one parameter. */
struct derived_weights {
    const float *weight;
    enum weight_form form;
    enum compute_precision precision;
    size_t count;
    void *values; /* GPU memory of its own */
    int stale;
};

struct weight_forms {
    struct derived_weights *entries;
    size_t count, capacity;
};

/* Where element `to` of the form comes from in (out, in, taps). */
static __device__ __forceinline__ size_t source_of(size_t to, int form, size_t out, size_t in, size_t taps)
{
    size_t o, i, t;
    switch (form) {
    case WEIGHTS_OUT_TAP_IN:
        i = to % in;
        t = to / in % taps;
        o = to / in / taps;
        break;
    case WEIGHTS_TAP_OUT_IN:
        i = to % in;
        o = to / in % out;
        t = to / in / out;
        break;
    case WEIGHTS_FLIPPED:
        o = to % out;
        i = to / out % in;
        t = taps - 1 - to / out / in;
        break;
    default:
        return to;
    }
    return (o * in + i) * taps + t;
}

template <typename T>
__global__ void derive(T *to, const float *weight, int form, int out, int in, int taps, size_t count)
{
    const size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (k < count) {
        to[k] = from_float<T>(weight[source_of(k, form, (size_t)out, (size_t)in, (size_t)taps)]);
    }
}

enum { most_taps = 27, columns = 64 };

/* A block turns (taps, 64 of in) of one of out around in shared memory, so that both sides are read and
 * written along their rows. */
template <typename T>
static __global__ void add_out_tap_in(float *dweight, const T *gradient, int in, int taps)
{
    __shared__ float tile[most_taps][columns + 1];
    const size_t out = blockIdx.y;
    const int first = (int)blockIdx.x * columns, width = min(columns, in - first);
    for (int k = (int)threadIdx.x; k < taps * columns; k += (int)blockDim.x) {
        const int tap = k / columns, i = k % columns;
        if (i < width) {
            tile[tap][i] =
                to_float(gradient[(out * (size_t)taps + (size_t)tap) * (size_t)in + (size_t)(first + i)]);
        }
    }
    __syncthreads();
    for (int k = (int)threadIdx.x; k < taps * width; k += (int)blockDim.x) {
        dweight[(out * (size_t)in + (size_t)first) * (size_t)taps + (size_t)k] += tile[k % taps][k / taps];
    }
}

static struct derived_weights *find(struct weight_forms *forms, const float *weight, enum weight_form form,
                                    enum compute_precision precision, size_t count)
{
    for (size_t k = 0; k < forms->count; k++) {
        struct derived_weights *entry = &forms->entries[k];
        if (entry->weight == weight && entry->form == form && entry->precision == precision &&
            entry->count == count) {
            return entry;
        }
    }
    return NULL;
}

static struct derived_weights *add_entry(struct compute *c, struct weight_forms *forms, size_t bytes)
{
    if (forms->count == forms->capacity) {
        const size_t capacity = forms->capacity > 0 ? 2 * forms->capacity : 64;
        struct derived_weights *entries =
            (struct derived_weights *)realloc(forms->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            compute_failed(c, VOCO_NO_MEMORY, "no memory for the list of weights");
            return NULL;
        }
        forms->entries = entries;
        forms->capacity = capacity;
    }
    struct derived_weights *entry = &forms->entries[forms->count];
    entry->values = c->allocate(c, bytes);
    forms->count += entry->values != NULL;
    return entry->values != NULL ? entry : NULL;
}

const void *cuda_weights(struct compute *c, const float *weight, enum weight_form form, int out, int in,
                         int taps)
{
    struct cuda_state *state = cuda_state(c);
    const size_t count = (size_t)out * (size_t)in * (size_t)taps;
    if (c->status != VOCO_OK || (form == WEIGHTS_PLAIN && c->precision == PRECISION_FLOAT32)) {
        return weight;
    }
    if (state->weights == NULL) {
        state->weights = (struct weight_forms *)calloc(1, sizeof *state->weights);
        if (state->weights == NULL) {
            compute_failed(c, VOCO_NO_MEMORY, "no memory for the list of weights");
            return NULL;
        }
    }
    struct derived_weights *entry = find(state->weights, weight, form, c->precision, count);
    if (entry == NULL) {
        entry = add_entry(c, state->weights, count * c->activation_size);
        if (entry == NULL) {
            return NULL;
        }
        entry->weight = weight;
        entry->form = form;
        entry->precision = c->precision;
        entry->count = count;
        entry->stale = 1;
    }
    if (entry->stale) {
        const dim3 grid((unsigned)divide_up(count, 256));
        if (c->precision == PRECISION_BF16) {
            launch(c, derive<bf16>, grid, dim3(256), 0, (bf16 *)entry->values, weight, (int)form, out, in,
                   taps, count);
        } else {
            launch(c, derive<float>, grid, dim3(256), 0, (float *)entry->values, weight, (int)form, out, in,
                   taps, count);
        }
        entry->stale = 0;
    }
    return entry->values;
}

void cuda_weights_changed(struct compute *c)
{
    struct weight_forms *forms = cuda_state(c)->weights;
    for (size_t k = 0; forms != NULL && k < forms->count; k++) {
        forms->entries[k].stale = 1;
    }
}

void cuda_weights_free(struct compute *c)
{
    struct weight_forms *forms = cuda_state(c)->weights;
    for (size_t k = 0; forms != NULL && k < forms->count; k++) {
        c->release(c, forms->entries[k].values);
    }
    if (forms != NULL) {
        free(forms->entries);
        free(forms);
    }
    cuda_state(c)->weights = NULL;
}

void cuda_add_weight_gradient(struct compute *c, float *dweight, const float *gradient, int out, int in,
                              int taps)
{
    launch(c, add_out_tap_in<float>, dim3((unsigned)divide_up((size_t)in, columns), (unsigned)out), dim3(256),
           0, dweight, gradient, in, taps);
}

void cuda_add_rounded_weight_gradient(struct compute *c, float *dweight, const void *gradient, int out,
                                      int in, int taps)
{
    launch(c, add_out_tap_in<bf16>, dim3((unsigned)divide_up((size_t)in, columns), (unsigned)out), dim3(256),
           0, dweight, (const bf16 *)gradient, in, taps);
}
