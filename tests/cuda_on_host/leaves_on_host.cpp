/* A fifth of the leaves are done at once, and those before them, the others as late as may be: with what they
 * still read, written by others too early, they would come to something else. */
#include "leaves_on_host.h"

#include "compute/cuda/kernel.cuh"
#include "compute/cuda/leaves.cu"
#include "guarded_arrays.h"
#include "recording_on_host.h"

#include <deque>
#include <vector>

struct work_put_off {
    std::function<void()> work;
    unsigned leaf; /* its number */
};

struct leaves_on_host : leaves {
    std::deque<work_put_off> queue;
    unsigned number;               /* of the leaf that is, or was, asked for */
    unsigned numbers[most_leaves]; /* of those in `running` */
    int late;
    memory_range input[leaf_inputs]; /* apart, so that each ends at a guard */
    std::vector<void *> arrays;      /* scratch memory of this leaf */
};

static leaves_on_host *on_host(struct compute *c)
{
    return static_cast<leaves_on_host *>(cuda_state(c)->leaves);
}

static void do_all_up_to(struct compute *c, unsigned leaf)
{
    std::deque<work_put_off> &queue = on_host(c)->queue;
    while (!queue.empty() && queue.front().leaf <= leaf) {
        const work_put_off first = queue.front();
        queue.pop_front();
        cuda_on_host::do_or_record(c, first.work);
    }
}

enum voco_status leaves_open(struct compute *c)
{
    cuda_state(c)->leaves = new leaves_on_host{};
    return VOCO_OK;
}

void leaves_close(struct compute *c)
{
    cuda_wait_for_leaves(c);
    for (int k = 0; on_host(c) != NULL && k < leaf_inputs; k++) {
        cuda_on_host::free_array(const_cast<void *>(on_host(c)->input[k].start));
    }
    delete on_host(c);
    cuda_state(c)->leaves = NULL;
}

void leaf_stream_begin(struct compute *c)
{
    leaves_on_host *leaves = on_host(c);
    leaves->number++;
    leaves->late = leaves->number % 5 != 0;
    if (!leaves->late) {
        do_all_up_to(c, leaves->number);
    }
}

void leaf_stream_end(struct compute *c, const struct leaf *leaf)
{
    leaves_on_host *leaves = on_host(c);
    leaves->numbers[leaf - leaves->running] = leaves->number;
    for (void *array : leaves->arrays) {
        if (leaves->late) {
            leaves->queue.push_back({[=] { cuda_on_host::free_array(array); }, leaves->number});
        } else {
            cuda_on_host::free_array(array);
        }
    }
    leaves->arrays.clear();
}

void leaf_stream_wait(struct compute *c, const struct leaf *leaf)
{
    do_all_up_to(c, on_host(c)->numbers[leaf - on_host(c)->running]);
}

void *leaf_input(struct compute *c, size_t bytes)
{
    leaves_on_host *leaves = on_host(c);
    if (leaves == NULL || c->status != VOCO_OK) {
        return cuda_scratch(c, bytes);
    }
    if (cuda_state(c)->recording != NULL) {
        return cuda_on_host::recorded_scratch(c, cuda_aligned(bytes));
    }
    leaves->turn = (leaves->turn + 1) % leaf_inputs;
    memory_range *input = &leaves->input[leaves->turn];
    wait_for_leaves_at(c, {*input});
    cuda_on_host::free_array(const_cast<void *>(input->start));
    *input = {cuda_on_host::new_array(cuda_aligned(bytes)), bytes};
    return const_cast<void *>(input->start);
}

namespace cuda_on_host
{

int put_off(struct compute *c, const std::function<void()> &work)
{
    if (!of_leaf(c) || !on_host(c)->late) {
        return 0;
    }
    on_host(c)->queue.push_back({work, on_host(c)->number});
    return 1;
}

void do_what_was_put_off(struct compute *c)
{
    if (on_host(c) != NULL) {
        do_all_up_to(c, on_host(c)->number);
    }
}

int of_leaf(struct compute *c)
{
    return on_host(c) != NULL && on_host(c)->within;
}

void *leaf_array(struct compute *c, size_t bytes)
{
    if (cuda_state(c)->recording != NULL) {
        return recorded_scratch(c, bytes);
    }
    on_host(c)->arrays.push_back(new_array(bytes));
    return on_host(c)->arrays.back();
}

} // namespace cuda_on_host
