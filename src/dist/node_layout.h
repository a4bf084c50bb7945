/* On which machine (node) each rank of a job is, and which slice of an array is each rank's own. Nodes are
 * numbered in the order of their lowest ranks; the ranks of a node have places in the order of their numbers.
 *
 * Slices lie in an array by the places of their ranks, and those of one place by the nodes. So what the rank
 * of some place adds up for all nodes (dist/exchange_plan.h) is one stretch of the array where nodes have
 * equally many ranks. On one node, and with one rank a node, slice r is rank r's. Private to src/dist. */
#ifndef DIST_NODE_LAYOUT_H
#define DIST_NODE_LAYOUT_H

#include <stddef.h>

struct node_layout {
    int size, nodes;
    const int *node;    /* (size) of each rank */
    const int *place;   /* (size) of each rank among those of its node */
    const int *members; /* (size) the ranks of node 0, then those of node 1, ... */
    const int *begin;   /* (nodes + 1) where a node's ranks begin there */
    const int *slice;   /* (size) the number of each rank's slice */
    const int *owner;   /* (size) and the rank of each slice */
    int *memory;        /* of all of these */
};

/* A rank that is alone. */
extern const struct node_layout layout_of_one;

/* names (size): equal for ranks of one machine. Whether there was memory; free with node_layout_free, which
 * is harmless on a zeroed one. */
int node_layout_create(struct node_layout *layout, const int *names, int size);
void node_layout_free(struct node_layout *layout);

int node_layout_members(const struct node_layout *layout, int node);

/* Whether sums have one stage: all ranks on one node, or each on its own. */
int node_layout_is_flat(const struct node_layout *layout);

/* Where part `number` of the `parts` equal ones of an array of `count` elements begins: at a multiple of 16,
 * or at its end. */
size_t part_begin(size_t count, int number, int parts);

/* The slice of `rank` in an array of `count` elements: [*first, *first + return value). */
size_t node_layout_slice(size_t *first, const struct node_layout *layout, int rank, size_t count);

#endif
