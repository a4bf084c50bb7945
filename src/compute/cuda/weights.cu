#include "compute/cuda/kernel.cuh"
#include "compute/cuda/recording.cuh"
#include "compute/cuda/vector.cuh"

#include <stdlib.h>

/* One derived form of one parameter. */
struct derived_weights {
    const float *weight;
    enum weight_form form;
    enum compute_precision precision;
    int out, in, taps;
    void *values; /* GPU memory of its own */
    int stale;
    int asked_for; /* since the weights changed last, */
    int expected;  /* and before: it will be again */
};

struct weight_forms {
    struct derived_weights *entries;
    size_t count, capacity;
    int asked; /* for any of them since the weights changed last */
};

/* One entry of a launch, which derives many: blocks from first_block on. */
struct derivation {
    const float *weight;
    void *values;
    int form, out, in, taps;
    int in_tile; /* of a block */
    int first_block;
};

enum {
    derive_threads = 256,
    derive_warps = derive_threads / warp_size,
    derived_at_once = 64, /* so that they fit into a launch's parameters */
    tile_bytes = 32,      /* of neighbours along out: the least that memory writes at once */
    tile_row = 27 * 32,   /* (in, taps) of a tile, at most */
    together = 8,         /* of in, that a thread writes at once */
    across_threads = 4,   /* that write a row together */
};

struct derivations {
    int count;
    struct derivation list[derived_at_once];
};

static int in_tile_of(int taps)
{
    return taps == 1 ? 256 : taps <= 8 ? 64 : 32;
}

/* A block turns a few of out, with in_tile of in and all taps, around in shared memory: both sides are read
 * and written along their rows. */
template <typename T>
static __global__ void __launch_bounds__(derive_threads) derive(const __grid_constant__ derivations all)
{
    enum { out_tile = tile_bytes / (int)sizeof(T), pitch = tile_row + 8 / (int)sizeof(T) + 1 };
    __shared__ T tile[out_tile][pitch];
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    int low = 0, high = all.count; /* the last entry that begins at this block or before */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (all.list[middle].first_block <= (int)blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const derivation &d = all.list[low];
    const int block = (int)blockIdx.x - d.first_block, across = (d.in + d.in_tile - 1) / d.in_tile;
    const int first_out = block / across * out_tile, first_in = block % across * d.in_tile;
    const int outs = min(out_tile, d.out - first_out), ins = min(d.in_tile, d.in - first_in);
    const int taps = d.taps, form = d.form, row = ins * taps;
    T *values = (T *)d.values;
    for (int o = warp; o < outs; o += derive_warps) {
        const size_t from = ((size_t)(first_out + o) * d.in + first_in) * taps;
#pragma unroll 9
        for (int k = lane; k < row; k += warp_size) {
            const T value = from_float<T>(d.weight[from + k]);
            if (form == WEIGHTS_PLAIN) {
                values[from + k] = value;
            } else {
                tile[o][k] = value;
            }
        }
    }
    __syncthreads();
    if (form == WEIGHTS_FLIPPED) { /* neighbours along out */
        const int o = lane % out_tile;
        for (int k = warp * (warp_size / out_tile) + lane / out_tile; k < row;
             k += derive_warps * (warp_size / out_tile)) {
            const size_t tap = taps - 1 - k % taps, i = first_in + k / taps;
            if (o < outs) {
                values[(tap * d.in + i) * d.out + first_out + o] = tile[o][k];
            }
        }
    } else if (form != WEIGHTS_PLAIN) { /* along in */
        const int by_eight = d.in % together == 0, step = by_eight ? (int)across_threads : (int)warp_size;
        for (int k = (int)threadIdx.x / step; k < outs * taps; k += derive_threads / step) {
            const int o = k / taps, tap = k % taps;
            const size_t to = form == WEIGHTS_OUT_TAP_IN ? (size_t)(first_out + o) * taps + tap
                                                         : (size_t)tap * d.out + first_out + o;
            T *own = values + to * d.in + first_in;
            if (by_eight) {
                for (int i = lane % across_threads * together; i < ins; i += across_threads * together) {
                    vector<T, together> v;
#pragma unroll
                    for (int j = 0; j < together; j++) {
                        v.value[j] = tile[o][(i + j) * taps + tap];
                    }
                    store_vector(own + i, v);
                }
            } else {
                for (int i = lane; i < ins; i += warp_size) {
                    own[i] = tile[o][i * taps + tap];
                }
            }
        }
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

static struct derived_weights *find(struct weight_forms *forms, const struct derived_weights *wanted)
{
    for (size_t k = 0; k < forms->count; k++) {
        struct derived_weights *entry = &forms->entries[k];
        if (entry->weight == wanted->weight && entry->form == wanted->form &&
            entry->precision == wanted->precision && entry->out == wanted->out && entry->in == wanted->in &&
            entry->taps == wanted->taps) {
            return entry;
        }
    }
    return NULL;
}

static struct derived_weights *add_entry(struct compute *c, struct weight_forms *forms,
                                         const struct derived_weights *wanted)
{
    const size_t count = (size_t)wanted->out * (size_t)wanted->in * (size_t)wanted->taps;
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
    *entry = *wanted;
    entry->values = c->allocate(c, count * c->activation_size);
    forms->count += entry->values != NULL;
    return entry->values != NULL ? entry : NULL;
}

static int blocks_of(const struct derived_weights *entry, size_t element)
{
    const size_t outs = divide_up((size_t)entry->out, tile_bytes / element);
    return (int)(outs * divide_up((size_t)entry->in, (size_t)in_tile_of(entry->taps)));
}

static void launch_derivations(struct compute *c, const struct derivations *all, int blocks)
{
    if (c->precision == PRECISION_BF16) {
        launch(c, derive<bf16>, dim3((unsigned)blocks), dim3(derive_threads), 0, *all);
    } else {
        launch(c, derive<float>, dim3((unsigned)blocks), dim3(derive_threads), 0, *all);
    }
}

/* `wanted`, and with it what is stale and was asked for after the last change: launches are few. */
static void derive_stale(struct compute *c, struct weight_forms *forms, const struct derived_weights *wanted)
{
    struct derivations all = {};
    int blocks = 0;
    for (size_t k = 0; k < forms->count; k++) {
        struct derived_weights *entry = &forms->entries[k];
        if (!entry->stale || entry->precision != c->precision || (entry != wanted && !entry->expected)) {
            continue;
        }
        struct derivation *d = &all.list[all.count];
        d->weight = entry->weight;
        d->values = entry->values;
        d->form = (int)entry->form;
        d->out = entry->out;
        d->in = entry->in;
        d->taps = entry->taps;
        d->in_tile = in_tile_of(entry->taps);
        d->first_block = blocks;
        blocks += blocks_of(entry, c->activation_size);
        entry->stale = 0;
        if (++all.count == derived_at_once) {
            launch_derivations(c, &all, blocks);
            all.count = blocks = 0;
        }
    }
    if (all.count > 0) {
        launch_derivations(c, &all, blocks);
    }
}

static void ask_for(struct compute *c, struct weight_forms *forms, struct derived_weights *entry)
{
    entry->asked_for = forms->asked = 1;
    if (entry->stale) {
        derive_stale(c, forms, entry);
    }
}

/* That a recording reads this entry. */
static void keep_form(struct compute *c, struct recording *recording, size_t number)
{
    for (size_t k = 0; k < recording->form_count; k++) {
        if (recording->forms[k] == number) {
            return;
        }
    }
    if (recording->form_count == recording->form_capacity) {
        const size_t capacity = recording->form_capacity > 0 ? 2 * recording->form_capacity : 64;
        size_t *forms = (size_t *)realloc(recording->forms, capacity * sizeof *forms);
        if (forms == NULL) {
            compute_failed(c, VOCO_NO_MEMORY, "no memory for a recording");
            return;
        }
        recording->forms = forms;
        recording->form_capacity = capacity;
    }
    recording->forms[recording->form_count++] = number;
}

const void *cuda_weights(struct compute *c, const float *weight, enum weight_form form, int out, int in,
                         int taps)
{
    struct cuda_state *state = cuda_state(c);
    if (c->status != VOCO_OK || (form == WEIGHTS_PLAIN && c->precision != PRECISION_BF16)) {
        return weight;
    }
    if (state->weights == NULL) {
        state->weights = (struct weight_forms *)calloc(1, sizeof *state->weights);
        if (state->weights == NULL) {
            compute_failed(c, VOCO_NO_MEMORY, "no memory for the list of weights");
            return NULL;
        }
    }
    const struct derived_weights wanted = {weight, form, c->precision, out, in, taps, NULL, 1, 0, 0};
    struct derived_weights *entry = find(state->weights, &wanted);
    if (entry == NULL) {
        entry = add_entry(c, state->weights, &wanted);
        if (entry == NULL) {
            return NULL;
        }
    }
    if (state->recording != NULL) {
        keep_form(c, state->recording, (size_t)(entry - state->weights->entries));
    } else {
        ask_for(c, state->weights, entry);
    }
    return entry->values;
}

void cuda_weights_ask_again(struct compute *c, const struct recording *recording)
{
    struct weight_forms *forms = cuda_state(c)->weights;
    for (size_t k = 0; k < recording->form_count; k++) {
        forms->entries[recording->forms[k]].expected = 1; /* with the first of them */
    }
    for (size_t k = 0; k < recording->form_count; k++) {
        struct derived_weights *entry = &forms->entries[recording->forms[k]];
        ask_for(entry->precision == c->precision ? c : c->full, forms, entry);
    }
}

/* The second of two changes with nothing asked for between them tells nothing of what will be. */
void cuda_weights_changed(struct compute *c)
{
    struct weight_forms *forms = cuda_state(c)->weights;
    if (!cuda_may_do(c, "a change of parameters")) {
        return;
    }
    for (size_t k = 0; forms != NULL && k < forms->count; k++) {
        struct derived_weights *entry = &forms->entries[k];
        entry->stale = 1;
        entry->expected = forms->asked ? entry->asked_for : entry->expected;
        entry->asked_for = 0;
    }
    if (forms != NULL) {
        forms->asked = 0;
    }
}

void cuda_weights_may_be_gone(struct compute *c)
{
    struct weight_forms *forms = cuda_state(c)->weights;
    for (size_t k = 0; forms != NULL && k < forms->count; k++) {
        forms->entries[k].asked_for = forms->entries[k].expected = 0;
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
