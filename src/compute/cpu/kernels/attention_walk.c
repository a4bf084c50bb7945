#include "compute/cpu/kernels/attention_walk.h"

/* Gradients lie behind the biases. */
static size_t lay_out_biases(struct attention_walk *w, unsigned char *memory, const struct attention_sizes *z)
{
    /* A piece of n queries has n keys, or one more, rounded up to blocks. */
    const size_t rows = z->tokens + (size_t)most_pieces * z->query_unit;
    const size_t more = 8; /* copies of lines are that much too long */
    const size_t pieces = (rows * (z->tokens + block_keys) + more) * sizeof(float);
    const size_t whole = ((size_t)(z->tokens + z->query_unit) * z->keys + more) * sizeof(float);
    const struct array_place places[] = {
        {&w->in_pieces.bias, pieces},
        {&w->whole.bias, whole},
        {&w->in_pieces.dbias, pieces},
        {&w->whole.dbias, whole},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

unsigned char *KERNEL(attention_walk_memory)(struct compute *c, struct attention_inputs *in,
                                             const float *qkv_bias, size_t own, size_t *bytes, int threads)
{
    struct attention_walk measured;
    struct window_patterns *patterns;
    activation *constant_rows;
    const size_t length = 3 * (size_t)in->sizes->channels;
    const struct array_place shared[] = {{&constant_rows, 2 * length * sizeof *constant_rows},
                                         {&patterns, sizeof *patterns}};
    const size_t shared_bytes = lay_out_arrays(shared, 2, NULL);
    *bytes = own + lay_out_biases(&measured, NULL, in->sizes);
    unsigned char *memory = cpu_scratch(c, shared_bytes + threads * *bytes);
    if (memory == NULL) {
        return NULL;
    }
    lay_out_arrays(shared, 2, memory);
    activations_of(constant_rows, qkv_bias, length);
    memset(constant_rows + length, 0, length * sizeof *constant_rows);
    KERNEL(find_patterns)(patterns, in->shape, in->sizes);
    in->constant_rows = constant_rows;
    in->patterns = patterns;
    return memory + shared_bytes;
}

void KERNEL(begin_walk)(struct attention_walk *w, const struct attention_inputs *in,
                        struct attention_sums *sums, void *memory, int part, int parts)
{
    w->in = in;
    w->sums = sums;
    w->at = KERNEL(first_piece_task)(part, parts, in->patterns, in->sizes);
    w->end = KERNEL(first_piece_task)(part + 1, parts, in->patterns, in->sizes);
    w->in_pieces = w->whole = (struct pattern_bias){NULL};
    lay_out_biases(w, memory, in->sizes);
    if (sums == NULL) {
        w->in_pieces.dbias = w->whole.dbias = NULL;
    }
    w->table.head = -1;
    w->whole_of = NULL;
    w->ahead = NULL;
}

static void end_biases(struct attention_walk *w)
{
    KERNEL(end_bias)(&w->in_pieces, w->sums, &w->table);
    KERNEL(end_bias)(&w->whole, w->sums, &w->table);
}

static void take_head(struct attention_walk *w, int head)
{
    end_biases(w);
    if (w->sums != NULL) {
        KERNEL(end_attention_head)(w->sums);
        w->sums->head = head;
    }
    KERNEL(read_head_table)(&w->table, w->in->bias_table, head, w->in->sizes);
}

static void cut(struct cut_window *to, const struct window_pattern *pattern, const struct piece_task *task,
                const struct attention_inputs *in)
{
    KERNEL(cut_pieces)(to, pattern, task, in->qkv, in->constant_rows, in->shape);
}

/* The sum of the squares of a head's channels. */
static float square_of(const activation *row, int head_dim)
{
    quad squares = {0};
    int d = 0;
    for (; d + 4 <= head_dim; d += 4) {
        const quad x = load_activation_quad(row + d);
        squares += x * x;
    }
    float sum = (squares[0] + squares[2]) + (squares[1] + squares[3]);
    for (; d < head_dim; d++) {
        sum += float_of(row[d]) * float_of(row[d]);
    }
    return sum;
}

/* The larger one, or NaN where there is one. */
static inline float larger_or_nan(float a, float b)
{
    return b <= a ? a : b != b || a == a ? b : a;
}

/* Whether tokens of other regions count for nothing: no score, times log2(e), is larger than 55 in magnitude,
 * so that masked ones are below 2^(2 55 - 144) of the others, and all 342 of them below 2^-25. NaN says no.
 */
static int scores_are_small(const struct attention_walk *w)
{
    const float most = 55;
    const struct attention_sizes *z = w->in->sizes;
    const struct cut_window *c = w->cut;
    const size_t first = (size_t)w->task.head * z->head_dim;
    float key = 0, query = 0;
    for (int t = 0; t < c->pattern->key_slots; t++) {
        if (c->pattern->kind[t] != ABSENT_TOKEN) {
            key = larger_or_nan(key, square_of(c->qkv[t] + z->channels + first, z->head_dim));
        }
        if (c->pattern->kind[t] == REAL_TOKEN) {
            query = larger_or_nan(query, square_of(c->qkv[t] + first, z->head_dim));
        }
    }
    const float rest = (most - w->table.magnitude) / log2_of_e; /* |q| |k| / sqrt(head_dim) is at most that */
    return rest > 0 && query * key <= rest * rest * (float)z->head_dim;
}

/* Whether pieces give what the whole window does. */
static int pieces_suffice(const struct attention_walk *w)
{
    const struct window_pattern *p = w->cut->pattern;
    const int masked = p->regions > 1 && w->in->sizes->regions_apart;
    return (p->summed == 0 || w->table.padding_can_be_summed) && (!masked || scores_are_small(w));
}

/* Takes the window at work as a whole, with its mask. */
static void take_whole(struct attention_walk *w)
{
    const struct attention_inputs *in = w->in;
    if (w->whole_of != w->task.pattern) {
        KERNEL(end_bias)(&w->whole, w->sums, &w->table);
        KERNEL(whole_pattern)(&w->whole_pattern, w->task.pattern, in->shape, in->sizes);
        KERNEL(lay_out_masks)(&w->whole_masks, &w->whole_pattern);
        w->whole_of = w->task.pattern;
    }
    if (w->whole.pattern == NULL) {
        KERNEL(prepare_bias)(&w->whole, &w->whole_pattern, &w->table, in->sizes);
    }
    cut(&w->whole_cut, &w->whole_pattern, &w->task, in);
    w->cut = &w->whole_cut;
    w->bias = &w->whole;
    w->masks = w->whole_pattern.regions > 1 ? &w->whole_masks : NULL;
}

static void walk_to(struct attention_walk *w, size_t task)
{
    const struct attention_inputs *in = w->in;
    struct cut_window *here = &w->cuts[task % 2], *next = &w->cuts[(task + 1) % 2];
    if (w->ahead == NULL) {
        w->next = KERNEL(piece_task)(task, in->patterns, in->sizes);
        cut(here, w->next.pattern, &w->next, in);
    }
    w->task = w->next;
    if (w->task.head != w->table.head) {
        take_head(w, w->task.head);
    }
    if (w->task.pattern != w->in_pieces.pattern) {
        KERNEL(end_bias)(&w->in_pieces, w->sums, &w->table);
        KERNEL(prepare_bias)(&w->in_pieces, w->task.pattern, &w->table, in->sizes);
    }
    w->cut = w->ahead = here;
    w->bias = &w->in_pieces;
    w->masks = NULL;
    if (task + 1 < w->end) {
        w->next = KERNEL(piece_task)(task + 1, in->patterns, in->sizes);
        cut(next, w->next.pattern, &w->next, in);
        w->ahead = next;
    }
    if (here->pattern->pieces > 0 && !pieces_suffice(w)) {
        take_whole(w);
    }
}

int KERNEL(next_window)(struct attention_walk *w)
{
    while (w->at < w->end) {
        walk_to(w, w->at++);
        if (w->cut->pattern->pieces > 0) {
            return 1;
        }
    }
    end_biases(w);
    if (w->sums != NULL) {
        KERNEL(end_attention_head)(w->sums);
    }
    return 0;
}
