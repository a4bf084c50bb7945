/* How a run spends the memory that it may take. Arithmetic alone: what is measured comes in, what is decided
 * goes out.
 *
 * Everything that lives as long as the run is `resident` and is measured. On top of it come the batches of
 * the loader, its cache of decoded chunks, and the encoder's activations: those of the crops that pass at
 * once, which backward needs at least, and those of further crops that are kept from forward to backward so
 * that these need not pass forward twice. Where not all fit, the chunk cache gets an eighth of what is left
 * at most, since a chunk is decoded in a thousandth of the time that a crop takes. */
#ifndef TRAIN_MEMORY_PLAN_H
#define TRAIN_MEMORY_PLAN_H

#include <stddef.h>
#include <stdint.h>

/* All in bytes but the last two. */
struct memory_demand {
    uint64_t limit;       /* what the process may have in memory at any moment */
    uint64_t resident;    /* what it has without the following: the program, parameters, moments, gradient,
                             scratch memory and reordered weights of the operations */
    uint64_t state;       /* of `resident`: parameters, moments and gradient. Only told to the user */
    uint64_t batches;     /* while it trains: the loader's batches and threads */
    uint64_t chunk_cache; /* while it trains: at most, and as little as nothing */
    uint64_t evaluation;  /* afterwards, when batches and chunk cache are gone */
    uint64_t projection;  /* what a step needs beside the encoder's activations */
    uint64_t travelling;  /* a batch's crops in its form: only where operations have separate memory, which
                             holds the next batch's so, and a step's as reals */
    uint64_t crop_kept;   /* activations that a crop keeps from forward to backward */
    uint64_t crop_peak;   /* and that it takes in backward, the kept ones included */
    int crops;            /* of a batch, >= 1 */
    int crops_at_once;    /* through the encoder, as the settings have it, >= 1 */
};

struct memory_plan {
    int fits;             /* 0: even the least does not; then the plan is the least */
    int crops_at_once;    /* as demanded, or fewer where these do not fit */
    int crops_kept;       /* whose activations stay: those of the last pass always do */
    uint64_t activations; /* bytes for the encoder's activations */
    uint64_t chunk_cache; /* bytes for decoded chunks */
    uint64_t expected;    /* what the process will have in memory at most */
    uint64_t least;       /* the smallest limit that fits: one crop at a time, nothing kept */
};

void memory_plan_make(struct memory_plan *plan, const struct memory_demand *demand);

/* How many crops pass at once, `most` at most, when passes are as few and as equal as that allows; at
 * least 1. The last pass may have fewer. */
int equal_passes(int crops, int most);

enum { memory_plan_text_size = 256 };

/* "4.0 GiB: parameters and moments 1.1 GiB, batches 134 MiB, chunk cache 160 MiB, 2 crops at a time, 8 of 44
 * kept, the rest computed twice; 3.9 GiB expected". Writes into text and returns it. */
const char *memory_plan_describe(char text[memory_plan_text_size], const struct memory_plan *plan,
                                 const struct memory_demand *demand);

#endif
