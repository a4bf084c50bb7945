#include "dist/node_layout.h"

#include <stdlib.h>

static const int zeros[] = {0}, zero_and_one[] = {0, 1};

const struct node_layout layout_of_one = {.size = 1,
                                          .nodes = 1,
                                          .node = zeros,
                                          .place = zeros,
                                          .members = zeros,
                                          .begin = zero_and_one,
                                          .slice = zeros,
                                          .owner = zeros};

/* Returns the number of nodes. */
static int number_nodes(int *node, int *place, const int *names, int size)
{
    int nodes = 0;
    for (int rank = 0; rank < size; rank++) {
        int before = rank - 1;
        while (before >= 0 && names[before] != names[rank]) {
            before--;
        }
        node[rank] = before >= 0 ? node[before] : nodes++;
        place[rank] = before >= 0 ? place[before] + 1 : 0;
    }
    return nodes;
}

static void list_members(int *members, int *begin, const int *node, int size, int nodes)
{
    int count = 0;
    for (int k = 0; k < nodes; k++) {
        begin[k] = count;
        for (int rank = 0; rank < size; rank++) {
            if (node[rank] == k) {
                members[count++] = rank;
            }
        }
    }
    begin[nodes] = count;
}

/* Places of nodes of different sizes are compared as parts of their node. */
static int slice_is_before(const struct node_layout *l, int rank, int other)
{
    const long long a = (long long)l->place[rank] * node_layout_members(l, l->node[other]);
    const long long b = (long long)l->place[other] * node_layout_members(l, l->node[rank]);
    return a < b || (a == b && l->node[rank] < l->node[other]);
}

static void order_slices(int *slice, int *owner, const struct node_layout *l)
{
    for (int rank = 0; rank < l->size; rank++) {
        slice[rank] = 0;
        for (int other = 0; other < l->size; other++) {
            slice[rank] += slice_is_before(l, other, rank);
        }
        owner[slice[rank]] = rank;
    }
}

int node_layout_create(struct node_layout *layout, const int *names, int size)
{
    int *memory = calloc((size_t)size * 6 + 1, sizeof *memory);
    *layout = (struct node_layout){0};
    if (memory == NULL) {
        return 0;
    }
    int *node = memory, *place = node + size, *members = place + size, *slice = members + size;
    int *owner = slice + size, *begin = owner + size;
    const int nodes = number_nodes(node, place, names, size);
    list_members(members, begin, node, size, nodes);
    *layout = (struct node_layout){.size = size,
                                   .nodes = nodes,
                                   .node = node,
                                   .place = place,
                                   .members = members,
                                   .begin = begin,
                                   .slice = slice,
                                   .owner = owner,
                                   .memory = memory};
    order_slices(slice, owner, layout);
    return 1;
}

void node_layout_free(struct node_layout *layout)
{
    free(layout->memory);
    *layout = (struct node_layout){0};
}

int node_layout_members(const struct node_layout *layout, int node)
{
    return layout->begin[node + 1] - layout->begin[node];
}

int node_layout_is_flat(const struct node_layout *layout)
{
    return layout->nodes == 1 || layout->nodes == layout->size;
}

size_t part_begin(size_t count, int number, int parts)
{
    enum { alignment = 16 };
    const size_t blocks = (count + alignment - 1) / alignment;
    const size_t begin = blocks * (size_t)number / (size_t)parts * alignment;
    return begin < count ? begin : count;
}

size_t node_layout_slice(size_t *first, const struct node_layout *layout, int rank, size_t count)
{
    *first = part_begin(count, layout->slice[rank], layout->size);
    return part_begin(count, layout->slice[rank] + 1, layout->size) - *first;
}
