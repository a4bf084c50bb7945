#include "train/memory_plan.h"

#include "base/byte_size.h"

#include <stdio.h>

int equal_passes(int crops, int most)
{
    if (crops < 1 || most < 2) {
        return 1;
    }
    const int passes = (crops + most - 1) / most;
    return (crops + passes - 1) / passes;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How many passes the batch takes; the last may be a smaller one. */
static uint64_t pass_count(const struct memory_demand *demand, int at_once)
{
    return (uint64_t)((demand->crops + at_once - 1) / at_once);
}

/* Backward begins with the last pass while all that is kept is still there. */
static uint64_t activations(const struct memory_demand *demand, int at_once, uint64_t passes_kept)
{
    return (uint64_t)at_once * (demand->crop_peak + (passes_kept - 1) * demand->crop_kept);
}

/* What lies beside the activations: of training or of the evaluation afterwards, which is more. */
static uint64_t beside(const struct memory_demand *demand, uint64_t chunk_cache)
{
    return larger(demand->batches + chunk_cache, demand->evaluation);
}

static uint64_t need(const struct memory_demand *demand, int at_once, uint64_t passes_kept,
                     uint64_t chunk_cache)
{
    return demand->resident + demand->projection + beside(demand, chunk_cache) +
           activations(demand, at_once, passes_kept);
}

static int fitting_crops_at_once(const struct memory_demand *demand)
{
    int at_once = demand->crops_at_once < demand->crops ? demand->crops_at_once : demand->crops;
    while (at_once > 1 && need(demand, at_once, 1, 0) > demand->limit) {
        at_once = equal_passes(demand->crops, at_once - 1);
    }
    return at_once;
}

/* How much the chunk cache may have of `left` bytes: all it wants where all passes are kept as well. */
static uint64_t cache_share(const struct memory_demand *demand, uint64_t left, uint64_t all_passes)
{
    const uint64_t eighth = left / 8;
    const uint64_t not_needed = left > all_passes ? left - all_passes : 0;
    /* Room that only the evaluation needs is there for the cache meanwhile. */
    const uint64_t free_meanwhile = beside(demand, 0) - demand->batches;
    return smaller(demand->chunk_cache, free_meanwhile + larger(eighth, not_needed));
}

void memory_plan_make(struct memory_plan *plan, const struct memory_demand *demand)
{
    const int at_once = fitting_crops_at_once(demand);
    const uint64_t smallest = need(demand, at_once, 1, 0);
    const uint64_t passes = pass_count(demand, at_once);
    const uint64_t of_pass = (uint64_t)at_once * demand->crop_kept;
    uint64_t kept = 1, cache = 0;
    if (smallest <= demand->limit) {
        const uint64_t left = demand->limit - smallest;
        cache = cache_share(demand, left, (passes - 1) * of_pass);
        const uint64_t more = left - (beside(demand, cache) - beside(demand, 0));
        kept += of_pass > 0 ? smaller(more / of_pass, passes - 1) : passes - 1;
    }
    *plan = (struct memory_plan){
        .fits = smallest <= demand->limit,
        .crops_at_once = at_once,
        .crops_kept = demand->crops - (int)(passes - kept) * at_once,
        .activations = activations(demand, at_once, kept),
        .chunk_cache = cache,
        .expected = need(demand, at_once, kept, cache),
        .least = need(demand, 1, 1, 0),
    };
}

const char *memory_plan_describe(char text[memory_plan_text_size], const struct memory_plan *plan,
                                 const struct memory_demand *demand)
{
    char limit[byte_size_room], state[byte_size_room], batches[byte_size_room], cache[byte_size_room],
        expected[byte_size_room], kept[64];
    if (plan->crops_kept < demand->crops) {
        (void)snprintf(kept, sizeof kept, "%d of %d kept, the rest computed twice", plan->crops_kept,
                       demand->crops);
    } else {
        (void)snprintf(kept, sizeof kept, "all %d kept", demand->crops);
    }
    (void)snprintf(text, memory_plan_text_size,
                   "%s: parameters and moments %s, batches %s, chunk cache %s, %d crop%s at a time, %s; %s "
                   "expected",
                   format_memory_size(limit, demand->limit), format_memory_size(state, demand->state),
                   format_memory_size(batches, demand->batches), format_memory_size(cache, plan->chunk_cache),
                   plan->crops_at_once, plan->crops_at_once == 1 ? "" : "s", kept,
                   format_memory_size(expected, plan->expected));
    return text;
}
