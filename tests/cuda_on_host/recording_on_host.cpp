#include "recording_on_host.h"

#include "compute/cuda/kernel.cuh"
#include "guarded_arrays.h"
#include "leaves_on_host.h"

#include <vector>

extern decltype(cuda_weights_ask_again) cuda_weights_ask_again __attribute__((weak));

struct recording_on_host : recording {
    std::vector<std::function<void()>> work;
    std::vector<void *> scratch_arrays;
};

static recording_on_host *on_host(struct recording *recording)
{
    return static_cast<recording_on_host *>(recording);
}

int cuda_may_do(struct compute *c, const char *what)
{
    if (cuda_state(c)->recording != NULL) {
        compute_failed(c, VOCO_UNSUPPORTED, what);
    }
    return cuda_state(c)->recording == NULL;
}

void cuda_record_begin(struct compute *c)
{
    cuda_wait_for_leaves(c);
    cuda_state(c)->recording = new recording_on_host{};
}

enum voco_status cuda_record_end(struct compute *c, struct recording **recording)
{
    cuda_wait_for_leaves(c);
    *recording = cuda_state(c)->recording;
    cuda_state(c)->recording = NULL;
    const enum voco_status status = compute_status(c);
    if (status != VOCO_OK) {
        cuda_recording_free(c, *recording);
        *recording = NULL;
    }
    return status;
}

int cuda_can_replay(struct compute *, const struct recording *)
{
    return 1;
}

void cuda_replay(struct compute *c, struct recording *recording)
{
    cuda_wait_for_leaves(c);
    if (cuda_weights_ask_again != NULL) {
        cuda_weights_ask_again(c, recording);
    }
    for (const auto &work : on_host(recording)->work) {
        work();
    }
}

void cuda_recording_free(struct compute *, struct recording *recording)
{
    if (recording == NULL) {
        return;
    }
    for (void *array : on_host(recording)->scratch_arrays) {
        cuda_on_host::free_array(array);
    }
    free(recording->forms);
    delete on_host(recording);
}

namespace cuda_on_host
{

void ask(struct compute *c, const std::function<void()> &work)
{
    cuda_wait_unless_declared(c);
    if (!put_off(c, work)) {
        do_or_record(c, work);
    }
}

void do_or_record(struct compute *c, const std::function<void()> &work)
{
    struct recording *recording = cuda_state(c)->recording;
    if (recording != NULL) {
        on_host(recording)->work.push_back(work);
    } else {
        work();
    }
}

void *recorded_scratch(struct compute *c, size_t bytes)
{
    void *array = new_array(bytes);
    on_host(cuda_state(c)->recording)->scratch_arrays.push_back(array);
    return array;
}

} // namespace cuda_on_host
