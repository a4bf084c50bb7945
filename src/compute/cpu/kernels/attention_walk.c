#include "compute/cpu/kernels/attention_walk.h"

/* Gradients lie behind the biases. */
static size_t lay_out_biases(struct attention_walk *w, unsigned char *memory, const struct attention_sizes *z)
{
    /* A piece of n queries has n keys, or one more, rounded up to blocks. */
    const size_t pieces = (size_t)most_query_slots * (z->tokens + block_keys) * sizeof(float);
    const size_t whole = (size_t)(z->tokens + query_tile) * z->keys * sizeof(float);
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
    activation *constant_rows;
    const size_t of_patterns = (sizeof(struct window_patterns) + 63) / 64 * 64;
    *bytes = own + lay_out_biases(&measured, NULL, in->sizes);
    unsigned char *memory =
        KERNEL(attention_memory)(c, &constant_rows, qkv_bias, of_patterns + threads * *bytes, in->sizes);
    if (memory == NULL) {
        return NULL;
    }
    struct window_patterns *patterns = (struct window_patterns *)memory;
    KERNEL(find_patterns)(patterns, in->shape, in->sizes);
    in->constant_rows = constant_rows;
    in->patterns = patterns;
    return memory + of_patterns;
}

void KERNEL(begin_walk)(struct attention_walk *w, const struct attention_inputs *in,
                        struct attention_sums *sums, void *memory)
{
    w->in = in;
    w->sums = sums;
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
    float *dbias = w->sums != NULL ? w->sums->dbias : NULL;
    KERNEL(end_bias)(&w->in_pieces, dbias, &w->table, w->in->sizes);
    KERNEL(end_bias)(&w->whole, dbias, &w->table, w->in->sizes);
}

static void take_head(struct attention_walk *w, int head)
{
    end_biases(w);
    if (w->sums != NULL) {
        KERNEL(end_attention_head)(w->sums, w->in->sizes);
        w->sums->head = head;
    }
    KERNEL(read_head_table)(&w->table, w->in->bias_table, head, w->in->sizes);
}

static void cut(struct cut_window *to, const struct window_pattern *pattern, const struct piece_task *task,
                const struct attention_inputs *in)
{
    KERNEL(cut_pieces)(to, pattern, task, in->qkv, in->constant_rows, in->shape);
}

void KERNEL(walk_to)(struct attention_walk *w, size_t task, size_t end)
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
        KERNEL(end_bias)(&w->in_pieces, w->sums != NULL ? w->sums->dbias : NULL, &w->table, in->sizes);
        KERNEL(prepare_bias)(&w->in_pieces, w->task.pattern, &w->table);
    }
    w->cut = w->ahead = here;
    w->bias = &w->in_pieces;
    w->masks = NULL;
    if (task + 1 < end) {
        w->next = KERNEL(piece_task)(task + 1, in->patterns, in->sizes);
        cut(next, w->next.pattern, &w->next, in);
        w->ahead = next;
    }
}

void KERNEL(take_whole)(struct attention_walk *w)
{
    const struct attention_inputs *in = w->in;
    if (w->whole_of != w->task.pattern) {
        KERNEL(end_bias)(&w->whole, w->sums != NULL ? w->sums->dbias : NULL, &w->table, in->sizes);
        KERNEL(whole_pattern)(&w->whole_pattern, w->task.pattern, in->shape, in->sizes);
        KERNEL(lay_out_masks)(&w->whole_masks, &w->whole_pattern);
        w->whole_of = w->task.pattern;
    }
    if (w->whole.pattern == NULL) {
        KERNEL(prepare_bias)(&w->whole, &w->whole_pattern, &w->table);
    }
    cut(&w->whole_cut, &w->whole_pattern, &w->task, in);
    w->cut = &w->whole_cut;
    w->bias = &w->whole;
    w->masks = w->whole_pattern.regions > 1 ? &w->whole_masks : NULL;
}

void KERNEL(end_walk)(struct attention_walk *w)
{
    end_biases(w);
    if (w->sums != NULL) {
        KERNEL(end_attention_head)(w->sums, w->in->sizes);
    }
}
