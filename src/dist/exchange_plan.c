#include "dist/exchange_plan.h"

#include <stdlib.h>

/* ---- lists ---- */

/* Room for one more; `items` as it was where there is no memory. */
static void *grown(void *items, int count, int *room, size_t size)
{
    if (count < *room) {
        return items;
    }
    void *more = realloc(items, (size_t)(*room * 2 + 8) * size);
    *room = more != NULL ? *room * 2 + 8 : *room;
    return more != NULL ? more : items;
}

static int add_transfer(struct transfer_list *list, const struct transfer *transfer)
{
    list->items = grown(list->items, list->count, &list->room, sizeof *list->items);
    if (list->count == list->room) {
        return 0;
    }
    list->items[list->count++] = *transfer;
    return 1;
}

static int add_sum(struct sum_list *list, const struct planned_sum *sum)
{
    list->items = grown(list->items, list->count, &list->room, sizeof *list->items);
    if (list->count == list->room) {
        return 0;
    }
    list->items[list->count++] = *sum;
    return 1;
}

static void empty(struct exchange_stage *stage)
{
    stage->sends.count = stage->receives.count = stage->sums.count = 0;
}

static void free_stage(struct exchange_stage *stage)
{
    free(stage->sends.items);
    free(stage->receives.items);
    free(stage->sums.items);
}

/* ---- whose is what ---- */

/* What `rank` adds up of the slice of `owner`: all of it, where that is the rank itself. On another node the
 * slices of a node are shared out by place: its p slices are cut at every m-th part of all of them, for m
 * ranks. Returns the number of elements. */
static size_t part_of_slice(size_t *first, const struct node_layout *l, int rank, int owner, size_t count)
{
    const size_t whole = node_layout_slice(first, l, owner, count);
    if (l->node[rank] == l->node[owner]) {
        return rank == owner ? whole : 0;
    }
    const int m = node_layout_members(l, l->node[rank]), p = node_layout_members(l, l->node[owner]);
    const int share = l->place[rank] * p, slice = l->place[owner] * m; /* in m-th parts of a slice */
    const int begin = share > slice ? share : slice;
    const int end = share + p < slice + m ? share + p : slice + m;
    if (begin >= end) {
        return 0;
    }
    const size_t from = part_begin(whole, begin - slice, m);
    *first += from;
    return part_begin(whole, end - slice, m) - from;
}

/* The next stretch of the array that `rank` adds up: it begins in slice *slice or later, and goes on over
 * slices as long as it touches; *slice becomes the one after it. Returns the number of elements; 0: no more.
 */
static size_t next_stretch(size_t *first, int *slice, const struct node_layout *l, int rank, size_t count)
{
    size_t elements = 0;
    for (; *slice < l->size; ++*slice) {
        size_t begin = 0;
        const size_t part = part_of_slice(&begin, l, rank, l->owner[*slice], count);
        if (part > 0 && elements > 0 && begin != *first + elements) {
            break;
        }
        *first = part > 0 && elements == 0 ? begin : *first;
        elements += part;
    }
    return elements;
}

/* ---- stages ---- */

static int plan_sends_to_member(struct exchange_stage *stage, const struct node_layout *l, int member,
                                size_t count)
{
    int slice = 0, fits = 1;
    struct transfer t = {.peer = member};
    while (fits && (t.count = next_stretch(&t.first, &slice, l, member, count)) > 0) {
        fits = add_transfer(&stage->sends, &t);
    }
    return fits;
}

/* Everyone of the node begins with the one after it, so that not all send to the same. */
static int plan_within(struct exchange_plan *plan, const struct node_layout *l, int rank, size_t count)
{
    struct exchange_stage *stage = &plan->within;
    const int node = l->node[rank], m = node_layout_members(l, node), own = l->place[rank];
    const int *members = l->members + l->begin[node];
    if (m == 1 && l->nodes > 1) {
        return 1;
    }
    int fits = 1, slice = 0;
    size_t place = 0;
    struct planned_sum sum = {.terms = m, .own = own};
    while (fits && (sum.count = next_stretch(&sum.first, &slice, l, rank, count)) > 0) {
        sum.place = place;
        place += sum.count * (size_t)m;
        fits = add_sum(&stage->sums, &sum);
    }
    for (int k = 1; k < m && fits; k++) {
        const int from = (own + m - k) % m;
        fits = plan_sends_to_member(stage, l, members[(own + k) % m], count);
        for (int s = 0; s < stage->sums.count && fits; s++) {
            const struct planned_sum *of = &stage->sums.items[s];
            fits = add_transfer(&stage->receives,
                                &(struct transfer){.peer = members[from],
                                                   .first = of->first,
                                                   .count = of->count,
                                                   .place = of->place + (size_t)from * of->count});
        }
    }
    plan->room = place;
    return fits;
}

static int plan_between(struct exchange_plan *plan, const struct node_layout *l, int rank, size_t count)
{
    struct exchange_stage *stage = &plan->between;
    const int node = l->node[rank];
    size_t first = 0;
    const size_t own = node_layout_slice(&first, l, rank, count);
    int fits =
        l->nodes > 1 && own > 0
            ? add_sum(&stage->sums,
                      &(struct planned_sum){.first = first, .count = own, .terms = l->nodes, .own = node})
            : 1;
    for (int k = 1; k < l->nodes; k++) {
        const int to = (node + k) % l->nodes, from = (node + l->nodes - k) % l->nodes;
        for (int i = l->begin[to]; i < l->begin[to + 1] && fits; i++) {
            struct transfer t = {.peer = l->members[i]};
            t.count = part_of_slice(&t.first, l, rank, t.peer, count);
            fits = t.count > 0 ? add_transfer(&stage->sends, &t) : 1;
        }
        for (int i = l->begin[from]; i < l->begin[from + 1] && fits; i++) {
            struct transfer t = {.peer = l->members[i]};
            t.count = part_of_slice(&t.first, l, t.peer, rank, count);
            t.place = (size_t)from * own + (t.first - first);
            fits = t.count > 0 ? add_transfer(&stage->receives, &t) : 1;
        }
    }
    const size_t room = l->nodes > 1 ? own * (size_t)l->nodes : 0;
    plan->room = room > plan->room ? room : plan->room;
    return fits;
}

int exchange_plan_make(struct exchange_plan *plan, const struct node_layout *layout, int rank, size_t count)
{
    if (plan->made && plan->count == count) {
        return 1;
    }
    empty(&plan->within);
    empty(&plan->between);
    plan->room = 0;
    plan->count = count;
    plan->made = plan_within(plan, layout, rank, count) && plan_between(plan, layout, rank, count);
    return plan->made;
}

void exchange_plan_free(struct exchange_plan *plan)
{
    free_stage(&plan->within);
    free_stage(&plan->between);
    *plan = (struct exchange_plan){0};
}
