#include "compute/cuda/leaves.cuh"

#include <stdint.h>

static struct leaf *running_leaf(struct leaves *leaves, int number)
{
    return &leaves->running[(leaves->first + number) % most_leaves];
}

/* For the first `count`. */
static void wait_for(struct compute *c, int count)
{
    struct leaves *leaves = cuda_state(c)->leaves;
    leaf_stream_wait(c, running_leaf(leaves, count - 1));
    leaves->first = (leaves->first + count) % most_leaves;
    leaves->count -= count;
}

void cuda_wait_for_leaves(struct compute *c)
{
    const struct leaves *leaves = cuda_state(c)->leaves;
    if (leaves != NULL && !leaves->within && leaves->count > 0) {
        wait_for(c, leaves->count);
    }
}

void cuda_wait_unless_declared(struct compute *c)
{
    const struct leaves *leaves = cuda_state(c)->leaves;
    if (leaves != NULL && !leaves->declared) {
        cuda_wait_for_leaves(c);
    }
}

static int overlap(const memory_range &a, const memory_range &b)
{
    const uintptr_t a_start = (uintptr_t)a.start, b_start = (uintptr_t)b.start;
    return a.start != NULL && b.start != NULL && a_start < b_start + b.bytes && b_start < a_start + a.bytes;
}

static int touches(const struct leaf *leaf, std::initializer_list<memory_range> ranges)
{
    int found = 0;
    for (const memory_range &range : ranges) {
        for (const memory_range &touched : leaf->touched) {
            found = found || overlap(touched, range);
        }
    }
    return found;
}

void wait_for_leaves_at(struct compute *c, std::initializer_list<memory_range> ranges)
{
    struct leaves *leaves = cuda_state(c)->leaves;
    int count = leaves->count;
    while (count > 0 && !touches(running_leaf(leaves, count - 1), ranges)) {
        count--;
    }
    if (count > 0) {
        wait_for(c, count);
    }
}

void leaf_begin(struct compute *c)
{
    struct leaves *leaves = cuda_state(c)->leaves;
    if (leaves == NULL) {
        return;
    }
    if (leaves->count == most_leaves) {
        wait_for(c, 1);
    }
    leaves->within = 1;
    leaf_stream_begin(c);
}

void leaf_end(struct compute *c, std::initializer_list<memory_range> touched)
{
    struct leaves *leaves = cuda_state(c)->leaves;
    if (leaves == NULL) {
        return;
    }
    struct leaf *leaf = running_leaf(leaves, leaves->count++);
    int count = 0;
    for (const memory_range &range : touched) {
        leaf->touched[count++] = range;
    }
    while (count < most_touched) {
        leaf->touched[count++] = memory_range{};
    }
    leaf_stream_end(c, leaf);
    leaves->within = 0;
}

written_ranges::written_ranges(struct compute *c, std::initializer_list<memory_range> written)
    : leaves(cuda_state(c)->leaves), declared_before(0)
{
    if (leaves != NULL && leaves->within) {
        leaves = NULL;
    }
    if (leaves != NULL) {
        wait_for_leaves_at(c, written);
        declared_before = leaves->declared;
        leaves->declared = 1;
    }
}

written_ranges::~written_ranges()
{
    if (leaves != NULL) {
        leaves->declared = declared_before;
    }
}
