#include "case_list.h"

#include "tensors.h"

#include <stddef.h>

struct merging {
    int n, d, h, w, channels;
    enum patch_merging order;
};

static void merge(struct compute *c, const void *chosen, struct results *r)
{
    const struct merging *t = chosen;
    const size_t count = (size_t)t->n * t->d * t->h * t->w * t->channels;
    const size_t merged =
        (size_t)t->n * ((t->d + 1) / 2) * ((t->h + 1) / 2) * ((t->w + 1) / 2) * 8 * t->channels;
    activation *inp = given_activations(r, random_tensor(1, count, 1), count);
    activation *dout = given_activations(r, random_tensor(2, merged, 1), merged);
    activation *out = new_activations(r, "out", merged, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    c->patch_merge_forward(c, out, inp, t->order, t->n, t->d, t->h, t->w, t->channels);
    c->patch_merge_backward(c, dinp, dout, t->order, t->n, t->d, t->h, t->w, t->channels);
}

static int has_patch_merge(const struct compute *c)
{
    return c->patch_merge_forward != NULL && c->patch_merge_backward != NULL;
}

void list_patch_merge_cases(struct case_list *list)
{
    static const int grids[][5] = {{2, 5, 3, 7, 3},    {1, 1, 2, 9, 5}, {2, 24, 24, 24, 12},
                                   {3, 3, 3, 3, 96},   {2, 4, 5, 6, 8}, {3, 32, 32, 32, 48},
                                   {5, 16, 16, 16, 96}};
    enum { count = COUNT_OF(grids) * 3, first_large = 15 };
    static struct merging shapes[count];
    for (int i = 0; i < count; i++) {
        const int *g = grids[i / 3];
        shapes[i] = (struct merging){g[0], g[1], g[2], g[3], g[4], (enum patch_merging)(i % 3)};
        struct operation_case *it = append_case(list, "patch_merge", merge, &shapes[i],
                                                10.0 * g[0] * g[1] * g[2] * g[3] * g[4], i >= first_large);
        name_case(it, "patch_merge %d x (%d %d %d) x %d, order %d", g[0], g[1], g[2], g[3], g[4], i % 3);
        it->is_there = has_patch_merge;
    }
}
