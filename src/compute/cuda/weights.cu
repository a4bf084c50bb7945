#include "compute/cuda/kernel.cuh"
#include "compute/cuda/recording.cuh"
#include "compute/cuda/weight_layouts.cuh"

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

/* Whether what is written has 8 neighbours everywhere, and what is read 4. */
static int has_strips(const struct derived_weights *entry)
{
    const size_t row = (size_t)entry->in * (size_t)entry->taps;
    const int aligned = (uintptr_t)entry->weight % 16 == 0 && (uintptr_t)entry->values % 16 == 0;
    return aligned && entry->taps <= most_taps &&
           (entry->form == WEIGHTS_PLAIN     ? (size_t)entry->out * row % 8 == 0
            : entry->form == WEIGHTS_FLIPPED ? entry->out % 8 == 0 && row % 4 == 0
                                             : entry->in % 8 == 0);
}

static size_t strip_blocks(const struct derived_weights *entry)
{
    const size_t row = (size_t)entry->in * (size_t)entry->taps, out = (size_t)entry->out;
    return entry->form == WEIGHTS_PLAIN ? divide_up(out * row, plain_block)
           : entry->form == WEIGHTS_FLIPPED
               ? divide_up(out, strips_across * strip_rows) * divide_up(row, flip_columns)
               : divide_up(out * (size_t)entry->in, tap_strips * strip_rows);
}

static size_t tile_blocks(const struct derived_weights *entry, size_t element)
{
    return divide_up((size_t)entry->out, tile_bytes / element) *
           divide_up((size_t)entry->in, (size_t)in_tile_of(entry->taps));
}

/* Entries that one launch derives, and its blocks. */
struct derivation_list {
    void (*kernel)(derivations);
    struct derivations all;
    size_t blocks;
};

static void launch_derivations(struct compute *c, struct derivation_list *list)
{
    launch(c, list->kernel, dim3((unsigned)list->blocks), dim3(derive_threads), 0, list->all);
    list->all.count = 0;
    list->blocks = 0;
}

static void add_derivation(struct compute *c, struct derivation_list *list,
                           const struct derived_weights *entry, size_t blocks)
{
    struct derivation *d = &list->all.list[list->all.count++];
    d->weight = entry->weight;
    d->values = entry->values;
    d->form = (int)entry->form;
    d->out = entry->out;
    d->in = entry->in;
    d->taps = entry->taps;
    d->in_tile = in_tile_of(entry->taps);
    d->first_block = (int)list->blocks;
    list->blocks += blocks;
    if (list->all.count == derived_at_once) {
        launch_derivations(c, list);
    }
}

/* `wanted`, and with it what is stale and was asked for after the last change: launches are few. */
static void derive_stale(struct compute *c, struct weight_forms *forms, const struct derived_weights *wanted)
{
    const int bf16_too = c->precision == PRECISION_BF16;
    struct derivation_list strips = {}, tiles = {};
    strips.kernel = bf16_too ? derive_strips<bf16> : derive_strips<float>;
    tiles.kernel = bf16_too ? derive<bf16> : derive<float>;
    for (size_t k = 0; k < forms->count; k++) {
        struct derived_weights *entry = &forms->entries[k];
        if (!entry->stale || entry->precision != c->precision || (entry != wanted && !entry->expected)) {
            continue;
        }
        if (has_strips(entry)) {
            add_derivation(c, &strips, entry, strip_blocks(entry));
        } else {
            add_derivation(c, &tiles, entry, tile_blocks(entry, c->activation_size));
        }
        entry->stale = 0;
    }
    launch_derivations(c, &strips);
    launch_derivations(c, &tiles);
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

template <typename T>
static void add_weight_gradient(struct compute *c, float *dweight, const T *gradient, int out, int in,
                                int taps)
{
    if (in % strip_rows == 0 && taps <= most_taps && all_aligned(dweight, gradient)) {
        const size_t strips = (size_t)out * (size_t)in / strip_rows;
        launch(c, add_strips<T>, dim3((unsigned)divide_up(strips, tap_strips)), dim3(derive_threads), 0,
               dweight, gradient, out, in, taps);
    } else {
        launch(c, add_out_tap_in<T>, dim3((unsigned)divide_up((size_t)in, columns), (unsigned)out), dim3(256),
               0, dweight, gradient, in, taps);
    }
}

void cuda_add_weight_gradient(struct compute *c, float *dweight, const float *gradient, int out, int in,
                              int taps)
{
    add_weight_gradient(c, dweight, gradient, out, in, taps);
}

void cuda_add_rounded_weight_gradient(struct compute *c, float *dweight, const void *gradient, int out,
                                      int in, int taps)
{
    add_weight_gradient(c, dweight, (const bf16 *)gradient, out, in, taps);
}
