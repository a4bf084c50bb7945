#include "compute/cuda/conv_choice.cuh"

#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/measured.cuh"
#include "compute/cuda/own_conv3d.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum conv_method {
    METHOD_OWN,
    METHOD_CUDNN,
    METHOD_DIRECT,
};

static size_t input_space(const struct conv3d_shape *s)
{
    return (size_t)s->d * (size_t)s->h * (size_t)s->w;
}

/* What the convolution reads. */
static const activation *read_by(struct compute *c, const struct conv_call *call)
{
    const struct conv3d_shape *s = call->shape;
    if (call->norm == NULL || call->direction == CONV_INPUT_GRADIENT) {
        return call->inp;
    }
    cuda_instance_norm_apply(c, call->work, call->inp, call->norm, NULL, s->n, input_space(s),
                             s->in_channels);
    return call->work;
}

static void add_moments(struct compute *c, const struct conv_call *call)
{
    const struct conv3d_shape *s = call->shape;
    if (call->direction == CONV_FORWARD && call->mean != NULL) {
        cuda_instance_norm_moments(c, call->mean, call->rstd, call->written, s->n,
                                   conv3d_output_voxels(s) / (size_t)s->n, s->out_channels);
    }
}

/* What is left where the convolution knows nothing of the norm before it. */
static void finish_input_gradient(struct compute *c, const struct conv_call *call)
{
    const struct conv3d_shape *s = call->shape;
    if (call->direction == CONV_INPUT_GRADIENT && call->norm != NULL) {
        cuda_normed_input_gradient(c, call->written, call->inp, call->norm, s->n, input_space(s),
                                   s->in_channels);
    }
}

static void run_own(struct compute *c, const struct conv_call *call)
{
    switch (call->direction) {
    case CONV_FORWARD:
        own_conv3d_forward(c, call->written, call->inp, call->norm, call->weight, call->shape, call->mean,
                           call->rstd);
        break;
    case CONV_INPUT_GRADIENT:
        own_conv3d_input_gradient(c, call->written, call->dout, call->weight, call->shape, call->inp,
                                  call->norm);
        break;
    case CONV_WEIGHT_GRADIENT:
        own_conv3d_weight_gradient(c, call->dweight, call->dout, call->inp, call->norm, call->shape);
        break;
    }
}

static void run_direct(struct compute *c, const struct conv_call *call)
{
    const activation *read = read_by(c, call);
    switch (call->direction) {
    case CONV_FORWARD:
        if (call->mean != NULL && single_channel_bf16_fits(c, call->shape, call->written)) {
            single_channel_bf16_forward_with_moments(c, call->written, call->mean, call->rstd, read,
                                                     call->weight, call->shape);
        } else {
            direct_conv3d_forward(c, call->written, read, call->weight, call->bias, call->shape);
            add_moments(c, call);
        }
        break;
    case CONV_INPUT_GRADIENT:
        direct_conv3d_input_gradient(c, call->written, call->dout, call->weight, call->shape);
        finish_input_gradient(c, call);
        break;
    case CONV_WEIGHT_GRADIENT:
        direct_conv3d_weight_gradient(c, call->dweight, call->dout, read, call->shape);
        break;
    }
}

/* Vectors of 16 bytes are what all but the plain kernels read. */
static int aligned(const struct conv_call *call)
{
    const void *const pointers[] = {call->written, call->inp, call->dout, call->work};
    int good = 1;
    for (size_t k = 0; k < sizeof pointers / sizeof pointers[0]; k++) {
        good = good && (uintptr_t)pointers[k] % 16 == 0;
    }
    return good;
}

/* Only plain kernels add a bias, and what they do with one input channel is best. */
static int is_direct(const struct conv_call *call)
{
    return call->bias != NULL || !aligned(call) ||
           (single_channel_fits(call->shape) && call->direction != CONV_INPUT_GRADIENT);
}

static int environment_is(const char *variable, const char *value)
{
    const char *set = getenv(variable);
    return set != NULL && strcmp(set, value) == 0;
}

enum { ANY_WAY, ONLY_OWN, ONLY_CUDNN, ONLY_DIRECT };

static int wished_way(void)
{
    return environment_is("VOCO_CUDA_CONV", "own")      ? ONLY_OWN
           : environment_is("VOCO_CUDA_CONV", "cudnn")  ? ONLY_CUDNN
           : environment_is("VOCO_CUDA_CONV", "direct") ? ONLY_DIRECT
                                                        : ANY_WAY;
}

int conv_may_be_own(const struct compute *c, const struct conv3d_shape *s)
{
    const int way = wished_way();
    return (way == ANY_WAY || way == ONLY_OWN) && own_conv3d_fits(c, s);
}

#if !defined(__CUDACC__) && !defined(LIBRARIES_ON_HOST)

/* tests/cuda_on_host without its stand-in for cuDNN, and no time worth measuring. */
void convolve(struct compute *c, const struct conv_call *call)
{
    if (!is_direct(call) && conv_may_be_own(c, call->shape)) {
        run_own(c, call);
    } else {
        run_direct(c, call);
    }
}

#else

#include "compute/cuda/cudnn_plan.cuh"

struct conv_choice {
    struct measured_key key;
    enum conv_method method;
    struct cudnn_plan plan;
};

struct conv_choices {
    struct conv_choice *entries;
    size_t count, capacity;
};

/* 0 where cuDNN refuses, which is not yet c's status. */
static int run_cudnn(struct compute *c, const struct conv_call *call, const struct cudnn_plan *plan,
                     cudnnStatus_t *status)
{
    const struct conv3d_shape *s = call->shape;
    const int taps = conv3d_taps(s), adds = call->direction == CONV_WEIGHT_GRADIENT;
    const size_t count = (size_t)taps * (size_t)s->in_channels * (size_t)s->out_channels;
    const size_t gradient_bytes = adds ? cuda_aligned(count * sizeof(float)) : 0;
    const activation *read = read_by(c, call);
    const void *weights =
        adds ? NULL
             : cuda_weights(c, call->weight, WEIGHTS_OUT_TAP_IN, s->out_channels, s->in_channels, taps);
    char *scratch = (char *)cuda_scratch(c, gradient_bytes + plan->workspace);
    *status = CUDNN_STATUS_SUCCESS;
    if (c->status != VOCO_OK) {
        return 0;
    }
    struct cudnn *cudnn = cuda_state(c)->cudnn;
    *status = cudnn->set_stream(cudnn->handle, cuda_stream(c));
    if (*status != CUDNN_STATUS_SUCCESS) {
        return 0;
    }
    *status =
        cudnn_run_plan(cudnn, plan, call->direction == CONV_INPUT_GRADIENT ? call->written : read,
                       adds ? scratch : weights, call->direction == CONV_FORWARD ? call->written : call->dout,
                       plan->workspace > 0 ? scratch + gradient_bytes : NULL);
    if (*status != CUDNN_STATUS_SUCCESS) {
        return 0;
    }
    if (adds && plan->rounded) {
        cuda_add_rounded_weight_gradient(c, call->dweight, scratch, s->out_channels, s->in_channels, taps);
    } else if (adds) {
        cuda_add_weight_gradient(c, call->dweight, (const float *)scratch, s->out_channels, s->in_channels,
                                 taps);
    }
    add_moments(c, call);
    finish_input_gradient(c, call);
    return c->status == VOCO_OK;
}

static int run(struct compute *c, const struct conv_call *call, const struct conv_choice *choice,
               cudnnStatus_t *status)
{
    *status = CUDNN_STATUS_SUCCESS;
    switch (choice->method) {
    case METHOD_OWN:
        run_own(c, call);
        break;
    case METHOD_CUDNN:
        return run_cudnn(c, call, &choice->plan, status);
    case METHOD_DIRECT:
        run_direct(c, call);
        break;
    }
    return c->status == VOCO_OK;
}

/* ---- measuring ---- */

enum { most_candidates = 8, most_plans = 5 };

struct candidates {
    struct conv_choice of[most_candidates];
    float milliseconds[most_candidates]; /* negative: it does not work */
    int count;
};

static const char *const method_names[] = {"own", "cudnn", "direct"};

static void add_candidate(struct candidates *all, enum conv_method method, const struct cudnn_plan *plan)
{
    struct conv_choice *added = &all->of[all->count];
    all->milliseconds[all->count++] = -1;
    *added = conv_choice{};
    added->method = method;
    if (plan != NULL) {
        added->plan = *plan;
    }
}

static void add_cudnn_candidates(struct compute *c, const struct conv_call *call, struct candidates *all)
{
    const struct cudnn *cudnn = cuda_state(c)->cudnn;
    struct cudnn_plan plans[most_plans];
    const int count = cudnn_make_plans(cudnn, plans, most_plans, call->shape, call->direction, c->precision);
    for (int k = 0; k < count; k++) {
        add_candidate(all, METHOD_CUDNN, &plans[k]);
    }
}

static int memory_suffices(struct compute *c, const struct conv_choice *candidate)
{
    const size_t bytes = candidate->plan.workspace;
    return bytes <= cuda_state(c)->scratch_bytes || bytes <= c->free_memory(c) / 4;
}

/* Where plain kernels may beat cuDNN. */
static int direct_may_win(const struct compute *c, const struct conv3d_shape *s)
{
    return c->precision != PRECISION_BF16 || s->in_channels % 8 != 0 || s->out_channels % 8 != 0;
}

static void collect(struct compute *c, const struct conv_call *call, struct candidates *all)
{
    const int way = wished_way();
    if (conv_may_be_own(c, call->shape)) {
        add_candidate(all, METHOD_OWN, NULL);
    }
    if (way == ANY_WAY || way == ONLY_CUDNN || (way == ONLY_OWN && all->count == 0)) {
        add_cudnn_candidates(c, call, all);
    }
    if (all->count == 0 || (way == ANY_WAY && direct_may_win(c, call->shape))) {
        add_candidate(all, METHOD_DIRECT, NULL);
    }
}

/* Which candidate to take, or a negative number where none works: one that comes later must be faster by some
 * percent, so that chance seldom decides. */
static int fastest(struct compute *c, const struct conv_call *call, struct candidates *all)
{
    const struct conv3d_shape *s = call->shape;
    const size_t weights = (size_t)conv3d_taps(s) * (size_t)s->in_channels * (size_t)s->out_channels;
    struct conv_call trial = *call;
    int best = -1;
    if (call->direction == CONV_WEIGHT_GRADIENT) { /* what is added while measuring is nothing to keep */
        trial.dweight = (float *)c->allocate(c, weights * sizeof *trial.dweight);
    }
    for (int k = 0; k < all->count && c->status == VOCO_OK && (measuring_wanted() || best < 0); k++) {
        const struct conv_choice *candidate = &all->of[k];
        cudnnStatus_t status;
        if (memory_suffices(c, candidate)) {
            all->milliseconds[k] = measured_time(c, [&] { return run(c, &trial, candidate, &status); });
            if (measured_is_faster(all->milliseconds[k], best < 0 ? -1 : all->milliseconds[best])) {
                best = k;
            }
        }
        (void)cudaGetLastError(); /* what cuDNN refuses is no error of the next operation */
    }
    if (call->direction == CONV_WEIGHT_GRADIENT) {
        c->release(c, trial.dweight);
    }
    return best;
}

static void print_times(const struct compute *c, const struct conv_call *call, const struct candidates *all,
                        int best)
{
    static const char *const directions[] = {"forward", "input gradient", "weight gradient"};
    const struct conv3d_shape *s = call->shape;
    if (!measuring_is_verbose()) {
        return;
    }
    fprintf(stderr, "convolution %s %d x %d x %d x %d, %d -> %d, kernel %d, stride %d, %s%s:",
            directions[call->direction], s->n, s->d, s->h, s->w, s->in_channels, s->out_channels, s->kernel,
            s->stride, compute_precision_names[c->precision], call->norm != NULL ? ", normed" : "");
    for (int k = 0; k < all->count; k++) {
        fprintf(stderr, " %s%s %.3f", method_names[all->of[k].method], k == best ? "*" : "",
                (double)all->milliseconds[k]);
    }
    fprintf(stderr, " ms\n");
}

/* ---- what was chosen ---- */

static struct measured_key key_of(const struct compute *c, const struct conv_call *call)
{
    const struct conv3d_shape *s = call->shape;
    static_assert(compute_precisions <= 4, "a precision has two bits");
    const size_t normed = call->norm != NULL;
    const size_t flags = (size_t)call->direction | (size_t)c->precision << 2 | normed << 4 |
                         (size_t)(call->mean != NULL) << 5 | (size_t)s->kernel << 6 |
                         (size_t)s->stride << 10 | (size_t)wished_way() << 14;
    return measured_key{{'c', (size_t)s->n, (size_t)s->d << 42 | (size_t)s->h << 21 | (size_t)s->w,
                         (size_t)s->in_channels, (size_t)s->out_channels, flags}};
}

static struct conv_choice *find(struct conv_choices *choices, const struct measured_key *key)
{
    for (size_t k = 0; k < choices->count; k++) {
        if (memcmp(&choices->entries[k].key, key, sizeof *key) == 0) {
            return &choices->entries[k];
        }
    }
    return NULL;
}

/* A place for one more, or NULL. */
static struct conv_choice *add_entry(struct conv_choices *choices)
{
    if (choices->count == choices->capacity) {
        const size_t capacity = choices->capacity > 0 ? 2 * choices->capacity : 64;
        struct conv_choice *entries =
            (struct conv_choice *)realloc(choices->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            return NULL;
        }
        choices->entries = entries;
        choices->capacity = capacity;
    }
    return &choices->entries[choices->count++];
}

/* What is in the process's memory of measurements is the candidate's place in the list, which is always the
 * same. */
static int best_of(struct compute *c, const struct conv_call *call, struct candidates *all,
                   const struct measured_key *key)
{
    const int known = measured_choice(key);
    if (known >= 0 && known < all->count) {
        return known;
    }
    if (all->count == 1 && all->of[0].method != METHOD_CUDNN) {
        return 0;
    }
    const int best = fastest(c, call, all);
    if (best >= 0 && c->status == VOCO_OK) {
        measured_remember(key, best);
    }
    print_times(c, call, all, best);
    return best;
}

static struct conv_choice *choose(struct compute *c, const struct conv_call *call,
                                  struct conv_choices *choices, const struct measured_key *key)
{
    struct candidates all = {};
    collect(c, call, &all);
    const int best = best_of(c, call, &all, key);
    struct conv_choice *entry = c->status == VOCO_OK ? add_entry(choices) : NULL;
    if (entry != NULL) {
        *entry = best >= 0 ? all.of[best] : conv_choice{};
        entry->method = best >= 0 ? entry->method : METHOD_DIRECT;
        entry->key = *key;
    } else {
        compute_failed(c, VOCO_NO_MEMORY, "no memory for the list of convolutions");
    }
    for (int k = 0; k < all.count; k++) {
        if (entry == NULL || k != best) {
            cudnn_free_plan(cuda_state(c)->cudnn, &all.of[k].plan);
        }
    }
    return entry;
}

void convolve(struct compute *c, const struct conv_call *call)
{
    struct cudnn *cudnn = cuda_state(c)->cudnn;
    cudnnStatus_t status;
    if (c->status != VOCO_OK) {
        return;
    }
    if (is_direct(call)) {
        run_direct(c, call);
        return;
    }
    if (cudnn->choices == NULL) {
        cudnn->choices = (struct conv_choices *)calloc(1, sizeof *cudnn->choices);
    }
    if (cudnn->choices == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "no memory for the list of convolutions");
        return;
    }
    const struct measured_key key = key_of(c, call);
    const struct conv_choice *choice = find(cudnn->choices, &key);
    if (choice == NULL && cuda_may_do(c, "planning a convolution")) {
        choice = choose(c, call, cudnn->choices, &key);
    }
    if (choice != NULL && !run(c, call, choice, &status) && c->status == VOCO_OK) {
        char message[160];
        snprintf(message, sizeof message, "a convolution of cuDNN: %s", cudnn->error_string(status));
        compute_failed(c, VOCO_UNSUPPORTED, message);
    }
}

void conv_choices_free(struct cudnn *cudnn)
{
    struct conv_choices *choices = cudnn->choices;
    for (size_t k = 0; choices != NULL && k < choices->count; k++) {
        cudnn_free_plan(cudnn, &choices->entries[k].plan);
    }
    if (choices != NULL) {
        free(choices->entries);
        free(choices);
    }
    cudnn->choices = NULL;
}

#endif
