/* Copies to shared memory that come some time before they are waited for (copies_on_host.h), and barriers
 * that not the whole block waits at. Whether a copy is made at once or as late as it may is tossed for each.
 */
#include "copies_on_host.h"

#include "cuda_on_host.h"
#include "guarded_arrays.h"

#include <string.h>

#include <functional>
#include <vector>

namespace cuda_on_host
{

/* ---- copies to shared memory ---- */

struct copy {
    void *to;
    const void *from;
    int valid;
};

/* Of a thread. */
struct pending_copies {
    std::vector<copy> copies;
    std::vector<size_t> groups; /* where each group of them ends */
};

static pending_copies pending[threads_max];

void forget_copies_of(int thread)
{
    pending[thread].copies.clear();
    pending[thread].groups.clear();
}

static void do_copy(const copy *what)
{
    if (what->valid) {
        memcpy(what->to, what->from, 16);
    } else {
        memset(what->to, 0, 16);
    }
}

void copy_later(void *to, const void *from, int valid)
{
    const copy what = {to, from, valid};
    if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0) {
        stop("copy_async: %p or %p is not aligned to 16 bytes", to, from);
    }
    if (!in_shared_memory(to, 16)) {
        stop("copy_async: %p does not lie in shared memory", to);
    }
    if (tossed((uint32_t)current_thread())) {
        do_copy(&what);
    } else {
        pending[current_thread()].copies.push_back(what);
    }
}

void end_group_of_copies()
{
    pending_copies *f = &pending[current_thread()];
    f->groups.push_back(f->copies.size());
}

void wait_for_copies(int groups)
{
    pending_copies *f = &pending[current_thread()];
    if (f->groups.size() <= (size_t)groups) {
        return;
    }
    const size_t done = f->groups.size() - (size_t)groups, copies = f->groups[done - 1];
    for (size_t k = 0; k < copies; k++) {
        do_copy(&f->copies[k]);
    }
    f->copies.erase(f->copies.begin(), f->copies.begin() + (ptrdiff_t)copies);
    f->groups.erase(f->groups.begin(), f->groups.begin() + (ptrdiff_t)done);
    for (size_t &end : f->groups) {
        end -= copies;
    }
}

/* ---- what is waited for ---- */

/* A copy that a barrier_wait is for. */
struct box {
    void *barrier;
    int bytes;
    std::function<void()> copy;
};

static std::vector<box> boxes; /* that are still to be copied */
static unsigned long news;     /* what may end a wait */

enum { named_barriers = 16 };

static struct {
    int threads, arrived; /* threads: that all of them expect */
    unsigned long phase;
} named[named_barriers];

void forget_barriers()
{
    boxes.clear();
    memset(named, 0, sizeof named);
}

unsigned long news_of_copies()
{
    return news;
}

struct barrier_state {
    uint8_t arrivals, missing, parity, made;
    int32_t bytes; /* announced and not there yet */
};

enum { barrier_made = 0x5a };

static barrier_state *state_of(void *barrier)
{
    barrier_state *state = (barrier_state *)barrier;
    if ((uintptr_t)barrier % 8 != 0 || !in_shared_memory(barrier, 8) || state->made != barrier_made) {
        stop("%p is no barrier of copies", barrier);
    }
    return state;
}

static void end_phase_if_over(barrier_state *state)
{
    if (state->missing == 0 && state->bytes == 0) {
        state->missing = state->arrivals;
        state->parity ^= 1;
        news++;
    }
}

void barrier_make(void *barrier, int arrivals)
{
    *(barrier_state *)barrier = barrier_state{(uint8_t)arrivals, (uint8_t)arrivals, 0, barrier_made, 0};
}

void barrier_arrive(void *barrier, int bytes)
{
    barrier_state *state = state_of(barrier);
    if (state->missing == 0) {
        stop("more arrivals at a barrier of copies than it was made for");
    }
    state->missing--;
    state->bytes += bytes;
    news++;
    end_phase_if_over(state);
}

/* Where nothing but copies is missing, they are done now. */
static void do_boxes_of(void *barrier, barrier_state *state)
{
    for (size_t k = 0; state->missing == 0 && k < boxes.size();) {
        if (boxes[k].barrier == barrier) {
            boxes[k].copy();
            state->bytes -= boxes[k].bytes;
            boxes.erase(boxes.begin() + (ptrdiff_t)k);
            end_phase_if_over(state);
        } else {
            k++;
        }
    }
}

void barrier_wait(void *barrier, int parity)
{
    barrier_state *state = state_of(barrier);
    for (;;) {
        do_boxes_of(barrier, state);
        if (state->parity != parity) {
            return;
        }
        wait_at_copies();
    }
}

void barrier_copy(void *barrier, void *to, int bytes, const std::function<void()> &copy)
{
    barrier_state *state = state_of(barrier);
    news++;
    if (tossed(0xb0c5)) {
        copy();
        state->bytes -= bytes;
        end_phase_if_over(state);
    } else {
        memset(to, poison, (size_t)bytes);
        boxes.push_back(box{barrier, bytes, copy});
    }
}

/* ---- named barriers ---- */

void named_arrive(int barrier, int threads)
{
    if (barrier < 1 || barrier >= named_barriers) {
        stop("there is no named barrier %d", barrier);
    }
    auto *b = &named[barrier];
    if (b->arrived > 0 && b->threads != threads) {
        stop("named barrier %d is for %d threads and for %d", barrier, b->threads, threads);
    }
    b->threads = threads;
    if (++b->arrived == threads) {
        b->arrived = 0;
        b->phase++;
        news++;
    }
}

void named_wait(int barrier, int threads)
{
    const unsigned long phase = named[barrier].phase;
    named_arrive(barrier, threads);
    while (named[barrier].phase == phase) {
        wait_at_copies();
    }
}

} // namespace cuda_on_host
