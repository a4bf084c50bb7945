/* Who sends what to whom where ranks sum an array, and what each adds up: a plan, made from the layout of the
 * nodes alone, and carried out by MPI (dist/mpi_exchange.h) as by NCCL (dist/ranks_nccl.c).
 *
 * A sum is taken within the nodes first, then over them, so that a node sends over the network what its ranks
 * have together, once, and not what each of them has:
 *
 * 1. Within a node each rank adds up, in the order of the ranks, its part of the array: its own slice, and
 * for every other node the part of that node's slices that is its share. With p ranks on a node, 1 / p.
 * 2. These sums go to the ranks whose slices they are, each of which adds those of all nodes, in the order of
 *    the nodes. Where nodes have equally many ranks, a rank gets one message from each other node.
 * 3. Finished slices go back the ways of 2, and
 * 4. those of 1: the same transfers with sender and receiver exchanged.
 *
 * On one node 2 and 3 are empty, with one rank a node 1 and 4: then it is the plain exchange of slices.
 * Private to src/dist. */
#ifndef DIST_EXCHANGE_PLAN_H
#define DIST_EXCHANGE_PLAN_H

#include "dist/node_layout.h"

struct transfer {
    int peer;            /* the rank it goes to, or comes from; never the own one */
    size_t first, count; /* elements of the array; never none */
    size_t place;        /* in `incoming`, where a term of a sum comes in; on the way back not used */
};

/* Array elements [first, first + count) <- the sum of `terms` arrays of `count` elements each, which lie in
 * `incoming` one after the other from `place` on. Number `own` of them is what the array has there itself. */
struct planned_sum {
    size_t first, count;
    size_t place;
    int terms, own;
};

struct transfer_list {
    struct transfer *items;
    int count, room;
};

struct sum_list {
    struct planned_sum *items;
    int count, room;
};

/* All messages of a stage may be under way at once; between two ranks they are listed in one order by both.
 */
struct exchange_stage {
    struct transfer_list sends, receives;
    struct sum_list sums; /* after the messages */
};

/* The plan of one rank for arrays of `count` elements. Zeroed it is none. */
struct exchange_plan {
    struct exchange_stage within, between; /* 1 and 2; 4 and 3 when exchanged */
    size_t room;                           /* elements of `incoming`, in either stage */
    size_t count;
    int made;
};

/* Nothing is done where *plan is already this one: a plan is of one layout and one rank. Whether there was
 * memory. Free with exchange_plan_free. */
int exchange_plan_make(struct exchange_plan *plan, const struct node_layout *layout, int rank, size_t count);
void exchange_plan_free(struct exchange_plan *plan);

#endif
