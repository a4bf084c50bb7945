#include "compute/cpu/kernels/attention_pieces.h"

#include "compute/cpu/kernels/attention_sums.h"

/* Windows along an axis that are cut alike. */
struct axis_kind {
    int first, count;      /* windows */
    struct axis_places at; /* of the first one */
};

enum { most_kinds = 3 }; /* all windows but the last two are of one region and without padding */

static int cut_alike(const struct axis_places *a, const struct axis_places *b, int window)
{
    for (int t = 0; t < window; t++) {
        if ((a->place[t] < 0) != (b->place[t] < 0) ||
            a->region[t] - a->region[0] != b->region[t] - b->region[0]) {
            return 0;
        }
    }
    return 1;
}

static int kinds_along(struct axis_kind kinds[most_kinds], int extent, int window, int shift)
{
    const int windows = windows_along(extent, window);
    int count = 0;
    for (int index = windows > most_kinds ? windows - most_kinds : 0; index < windows; index++) {
        struct axis_kind kind = {.first = index, .count = 1};
        kind.at = KERNEL(places_along)(extent, window, shift, index * window);
        if (count == 0) { /* and all before it */
            kind.count += index;
            kind.first = 0;
        }
        if (count > 0 && cut_alike(&kind.at, &kinds[count - 1].at, window)) {
            kinds[count - 1].count++;
        } else {
            kinds[count++] = kind;
        }
    }
    return count;
}

/* The tokens of a window, by their numbers in it. */
struct window_tokens {
    int count, regions;
    unsigned char padding[window_tokens_max];
    unsigned char region[window_tokens_max]; /* 0 .. regions - 1 */
};

static void list_tokens(struct window_tokens *tokens, const struct axis_places *const axes[3],
                        const struct attention_shape *s)
{
    int number[regions_of_all], t = 0;
    memset(number, -1, sizeof number);
    tokens->regions = 0;
    for (int z = 0; z < s->window[0]; z++) {
        for (int y = 0; y < s->window[1]; y++) {
            for (int x = 0; x < s->window[2]; x++, t++) {
                const int region = (axes[0]->region[z] * 3 + axes[1]->region[y]) * 3 + axes[2]->region[x];
                if (number[region] < 0) {
                    number[region] = tokens->regions++;
                }
                tokens->region[t] = (unsigned char)number[region];
                tokens->padding[t] = axes[0]->place[z] < 0 || axes[1]->place[y] < 0 || axes[2]->place[x] < 0;
            }
        }
    }
    tokens->count = t;
}

static int rounded_up_to(int count, int unit)
{
    return (count + unit - 1) / unit * unit;
}

/* Adds a token to the last run from `begin` on, or as a new one. */
static void append_to_runs(struct token_run *runs, int begin, int *end, int slot, int token)
{
    const int offset = offset_in_table(token);
    struct token_run *last = &runs[*end - 1];
    if (*end > begin && last->count < relative_table_window && offset == last->offset + last->count) {
        last->count++;
        last->lanes |= (uint8_t)(1U << (token % relative_table_window));
        return;
    }
    runs[(*end)++] = (struct token_run){.slot = (int16_t)slot,
                                        .line = (int16_t)line_of_keys(token),
                                        .place = (int8_t)(token % relative_table_window),
                                        .lanes = (uint8_t)(1U << (token % relative_table_window)),
                                        .count = 1,
                                        .offset = offset};
}

static void append_key(struct window_pattern *p, struct piece *piece, int token, int kind, int region)
{
    const int slot = piece->first_key + piece->tokens++;
    p->kind[slot] = (unsigned char)kind;
    p->token[slot] = (int16_t)token;
    p->region[slot] = region;
    if (token != no_token) {
        append_to_runs(p->runs, piece->run, &piece->run_end, slot, token);
    }
    if (kind == REAL_TOKEN) {
        p->key[piece->first_query + piece->queries++] = (int16_t)slot;
    }
}

static void sort_by_place(struct window_pattern *p, const struct piece *piece)
{
    int16_t *to = p->by_place + piece->first_query;
    for (int place = 0; place < relative_table_window; place++) {
        for (int slot = piece->first_query; slot < piece->first_query + piece->queries; slot++) {
            if (p->token[p->key[slot]] % relative_table_window == place) {
                *to++ = (int16_t)slot;
            }
        }
    }
}

/* Slots behind the last token and query, and where the bias lies. */
static void close_piece(struct window_pattern *p, struct piece *piece, const struct attention_sizes *sizes)
{
    const int query_slots = rounded_up_to(piece->queries, sizes->query_unit);
    piece->keys = rounded_up_to(piece->tokens, block_keys);
    for (int slot = piece->first_key + piece->tokens; slot < piece->first_key + piece->keys; slot++) {
        p->kind[slot] = ABSENT_TOKEN;
        p->token[slot] = no_token;
        p->region[slot] = 0;
    }
    for (int k = piece->queries; k < query_slots; k++) {
        p->key[piece->first_query + k] = no_token;
    }
    piece->bias = p->bias_length;
    piece->bias_row = sizes->bias_in_blocks ? block_keys : piece->keys;
    piece->bias_block = sizes->bias_in_blocks ? query_slots * block_keys : block_keys;
    p->bias_length += query_slots * piece->keys;
    p->key_slots += piece->keys;
    p->query_slots += query_slots;
}

/* One slot for the padding of a region, if there is any. */
static void sum_padding(struct window_pattern *p, struct piece *piece, const struct window_tokens *tokens,
                        int region)
{
    const int first = p->summed > 0 ? p->padding[p->summed - 1].run_end : 0;
    struct summed_padding padding = {piece->first_key + piece->tokens, first, first};
    for (int t = 0; t < tokens->count; t++) {
        if (tokens->padding[t] && tokens->region[t] == region) {
            append_to_runs(p->padded_runs, padding.run, &padding.run_end, padding.slot, t);
        }
    }
    if (padding.run_end > padding.run) {
        append_key(p, piece, no_token, PADDING, region);
        p->padding[p->summed++] = padding;
    }
}

/* The piece of regions from .. to - 1; none without real tokens. */
static void append_piece(struct window_pattern *p, const struct window_tokens *tokens, int from, int to,
                         const struct attention_sizes *sizes)
{
    const int run = p->pieces > 0 ? p->piece[p->pieces - 1].run_end : 0;
    struct piece piece = {.first_query = p->query_slots,
                          .first_key = p->key_slots,
                          .run = run,
                          .run_end = run,
                          .padding = p->summed};
    for (int t = 0; t < tokens->count; t++) {
        if (tokens->region[t] < from || tokens->region[t] >= to) {
            continue;
        }
        if (p->is_whole || !tokens->padding[t]) {
            append_key(p, &piece, t, tokens->padding[t] ? PADDING : REAL_TOKEN, tokens->region[t]);
        }
    }
    if (piece.queries == 0) {
        return;
    }
    for (int region = from; region < to && !p->is_whole; region++) {
        sum_padding(p, &piece, tokens, region);
    }
    piece.padding_end = p->summed;
    sort_by_place(p, &piece);
    close_piece(p, &piece, sizes);
    p->piece[p->pieces++] = piece;
}

static void make_pattern(struct window_pattern *pattern, const struct axis_places *const axes[3], int whole,
                         const struct attention_shape *s, const struct attention_sizes *sizes)
{
    struct window_tokens tokens;
    list_tokens(&tokens, axes, s);
    pattern->pieces = pattern->query_slots = pattern->key_slots = pattern->bias_length = pattern->summed = 0;
    pattern->regions = tokens.regions;
    pattern->is_whole = whole;
    const int together = whole || !sizes->regions_apart ? tokens.regions : 1;
    for (int region = 0; region < tokens.regions; region += together) {
        append_piece(pattern, &tokens, region, region + together, sizes);
    }
}

void KERNEL(find_patterns)(struct window_patterns *patterns, const struct attention_shape *s,
                           const struct attention_sizes *sizes)
{
    struct axis_kind d[most_kinds], h[most_kinds], w[most_kinds];
    const int of_d = kinds_along(d, s->d, s->window[0], s->shift[0]);
    const int of_h = kinds_along(h, s->h, s->window[1], s->shift[1]);
    const int of_w = kinds_along(w, s->w, s->window[2], s->shift[2]);
    patterns->windows = sizes->windows / s->n;
    patterns->count = of_d * of_h * of_w;
    for (int k = 0; k < patterns->count; k++) {
        struct window_pattern *pattern = &patterns->pattern[k];
        const struct axis_kind *const kinds[3] = {&d[k / of_w / of_h], &h[k / of_w % of_h], &w[k % of_w]};
        const struct axis_places *const axes[3] = {&kinds[0]->at, &kinds[1]->at, &kinds[2]->at};
        for (int axis = 0; axis < 3; axis++) {
            pattern->first[axis] = kinds[axis]->first;
            pattern->count[axis] = kinds[axis]->count;
        }
        make_pattern(pattern, axes, 0, s, sizes);
    }
}

void KERNEL(whole_pattern)(struct window_pattern *whole, const struct window_pattern *pattern,
                           const struct attention_shape *s, const struct attention_sizes *sizes)
{
    const int extent[3] = {s->d, s->h, s->w};
    struct axis_places at[3];
    for (int axis = 0; axis < 3; axis++) {
        at[axis] = KERNEL(places_along)(extent[axis], s->window[axis], s->shift[axis],
                                        pattern->first[axis] * s->window[axis]);
    }
    const struct axis_places *const axes[3] = {&at[0], &at[1], &at[2]};
    make_pattern(whole, axes, 1, s, sizes);
}

static size_t windows_of(const struct window_pattern *p)
{
    return (size_t)p->count[0] * p->count[1] * p->count[2];
}

struct piece_task KERNEL(piece_task)(size_t task, const struct window_patterns *patterns,
                                     const struct attention_sizes *z)
{
    const size_t before = task / (z->group * z->heads) * z->group; /* windows of earlier groups */
    const size_t left = z->windows - before, windows = left < z->group ? left : z->group;
    const size_t samples = windows / patterns->windows;
    size_t within = task - before * z->heads;
    const int head = (int)(within / windows);
    const struct window_pattern *pattern = patterns->pattern;
    within %= windows;
    for (; within >= samples * windows_of(pattern); pattern++) {
        within -= samples * windows_of(pattern);
    }
    const size_t sample = within / windows_of(pattern);
    within %= windows_of(pattern);
    return (struct piece_task){
        .head = head,
        .sample = (int)(before / patterns->windows + sample),
        .pattern = pattern,
        .window = {pattern->first[0] + (int)(within / pattern->count[2] / pattern->count[1]),
                   pattern->first[1] + (int)(within / pattern->count[2] % pattern->count[1]),
                   pattern->first[2] + (int)(within % pattern->count[2])}};
}

/* Of a window: scores, and as many for each token as gathering and writing takes. */
static double work_of(const struct window_pattern *p)
{
    const double each = 32;
    double work = 1;
    for (int k = 0; k < p->pieces; k++) {
        work += (double)p->piece[k].queries * (p->piece[k].keys + each);
    }
    return work;
}

size_t KERNEL(first_piece_task)(int part, int parts, const struct window_patterns *patterns,
                                const struct attention_sizes *z)
{
    const size_t samples = z->windows / patterns->windows;
    if (part == parts) {
        return z->windows * z->heads;
    }
    double of_sample = 0;
    for (int k = 0; k < patterns->count; k++) {
        of_sample += work_of(&patterns->pattern[k]) * (double)windows_of(&patterns->pattern[k]);
    }
    double left = of_sample * (double)samples * z->heads * part / parts; /* work before the task */
    size_t task = 0;
    for (size_t first = 0; first < z->windows; first += z->group) {
        const size_t windows = z->windows - first < z->group ? z->windows - first : z->group;
        const size_t in_group = windows / patterns->windows;
        const double of_head = of_sample * (double)in_group;
        if (left >= of_head * z->heads) {
            left -= of_head * z->heads;
            task += windows * z->heads;
            continue;
        }
        const size_t heads = (size_t)(left / of_head);
        left -= of_head * (double)heads;
        task += windows * heads;
        for (int k = 0; k < patterns->count; k++) {
            const struct window_pattern *p = &patterns->pattern[k];
            const size_t tasks = in_group * windows_of(p);
            const double of_window = work_of(p);
            if (left < of_window * (double)tasks) {
                return task + (size_t)(left / of_window);
            }
            left -= of_window * (double)tasks;
            task += tasks;
        }
        return task;
    }
    return z->windows * z->heads;
}

void KERNEL(cut_pieces)(struct cut_window *cut, const struct window_pattern *pattern,
                        const struct piece_task *task, const activation *qkv, const activation *constant_rows,
                        const struct attention_shape *s)
{
    const size_t length = 3 * (size_t)s->heads * s->head_dim;
    struct axis_places at[3];
    at[0] = KERNEL(places_along)(s->d, s->window[0], s->shift[0], task->window[0] * s->window[0]);
    at[1] = KERNEL(places_along)(s->h, s->window[1], s->shift[1], task->window[1] * s->window[1]);
    at[2] = KERNEL(places_along)(s->w, s->window[2], s->shift[2], task->window[2] * s->window[2]);
    size_t row[window_tokens_max];
    int t = 0;
    for (int z = 0; z < s->window[0]; z++) {
        for (int y = 0; y < s->window[1]; y++) {
            const size_t first =
                (((size_t)task->sample * s->d + at[0].place[z]) * s->h + at[1].place[y]) * s->w;
            for (int x = 0; x < s->window[2]; x++) {
                row[t++] = first + at[2].place[x]; /* of padding: not looked at */
            }
        }
    }
    cut->pattern = pattern;
    for (int slot = 0; slot < pattern->key_slots; slot++) {
        if (pattern->kind[slot] == REAL_TOKEN) {
            cut->row[slot] = row[pattern->token[slot]];
            cut->qkv[slot] = qkv + cut->row[slot] * length;
        } else {
            cut->qkv[slot] = constant_rows + (pattern->kind[slot] == PADDING ? 0 : length);
        }
    }
}
