#include "train/evaluate.h"

#include "base/error.h"
#include "data/make_batch.h"
#include "train/step.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct evaluation_settings evaluation_settings_of(const struct recipe *recipe)
{
    return (struct evaluation_settings){.sampling = recipe->sampling,
                                        .volumes_per_batch = recipe->evaluation_volumes,
                                        .crops_at_once =
                                            recipe->crops_at_once > 0 ? recipe->crops_at_once : 1,
                                        .draws = recipe->evaluation_draws,
                                        .seed = recipe->seed ^ 0x6576616c75617465U};
}

enum voco_status evaluation_arena_open(struct arena *arena)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page = sysconf(_SC_PAGESIZE);
    const size_t least = (size_t)1 << 30;
    const size_t memory = pages > 0 && page > 0 ? (size_t)pages * (size_t)page : least;
    return arena_open(arena, memory > least ? memory : least);
}

/* Sums over batches. */
struct tally {
    struct loss loss;
    struct position_signals positions;
    real *embeddings; /* (rows_seen, E): of every crop counted */
    size_t rows_seen;
    size_t batches;
};

/* Keeps the embeddings of the first `counted` volumes of a batch: of their random crops, then of their bases.
 */
static void keep_embeddings(struct tally *tally, const real *embedding, const struct batch *batch,
                            size_t counted, size_t width)
{
    const real *bases = embedding + (size_t)batch->volumes * (size_t)batch->crops * width;
    const real *from[2] = {embedding, bases};
    const size_t rows[2] = {counted * (size_t)batch->crops, counted * (size_t)batch->bases};
    for (int part = 0; part < 2; part++) {
        memcpy(tally->embeddings + tally->rows_seen * width, from[part],
               rows[part] * width * sizeof *embedding);
        tally->rows_seen += rows[part];
    }
}

static enum voco_status add_batch(struct tally *tally, const struct model *model, struct compute *compute,
                                  struct arena *arena, const float *params, const struct batch *batch,
                                  size_t counted, int crops_at_once)
{
    const size_t width = (size_t)model_embedding_size(&model->config);
    const size_t rows = (size_t)batch->volumes * (size_t)(batch->crops + batch->bases);
    const size_t pairs = (size_t)batch->volumes * (size_t)batch->crops * (size_t)batch->bases;
    const size_t mark = arena_mark(arena);
    real *embedding = arena_push(arena, rows * width * sizeof *embedding);
    real *similarity = arena_push(arena, pairs * sizeof *similarity);
    enum voco_status status = VOCO_NO_MEMORY;
    if (similarity == NULL) {
        (void)fail(status, "no memory for the embeddings of %zu crops", rows);
        goto done;
    }
    struct step_result result;
    const struct batch_outputs outputs = {.embedding = embedding, .similarity = similarity};
    status = evaluate_batch(model, compute, arena, params, batch, crops_at_once, &result, &outputs);
    if (status != VOCO_OK) {
        goto done;
    }
    tally->loss.total += result.loss.total;
    tally->loss.intra += result.loss.intra;
    tally->loss.inter += result.loss.inter;
    tally->loss.reg += result.loss.reg;
    tally->batches++;
    position_signals_add(&tally->positions, similarity, batch->labels, counted * (size_t)batch->crops,
                         batch->bases);
    keep_embeddings(tally, embedding, batch, counted, width);
done:
    arena_release(arena, mark);
    return status;
}

enum voco_status evaluate(struct evaluation *result, const struct model *model, struct compute *compute,
                          struct arena *arena, const float *params, const char *const *cache_files,
                          size_t count, const struct evaluation_settings *settings)
{
    const size_t together = (size_t)settings->volumes_per_batch;
    const size_t width = (size_t)model_embedding_size(&model->config);
    const int bases = sampling_bases(&settings->sampling);
    const struct batch_source source = {.paths = cache_files,
                                        .count = count,
                                        .volumes = settings->volumes_per_batch,
                                        .sampling = settings->sampling,
                                        .augmentation = augmentation_none,
                                        .seed = settings->seed};
    struct tally tally = {0};
    struct batch batch = {0};
    struct batch_maker maker = {0};
    size_t *volumes = NULL;
    enum voco_status status = batch_source_check(&source);
    if (status != VOCO_OK) {
        return status;
    }
    status = batch_source_create_batch(&batch, &source);
    if (status != VOCO_OK) {
        return status;
    }
    const size_t rows = count * (size_t)settings->draws * (size_t)(settings->sampling.crops + bases);
    tally.embeddings = calloc(rows, width * sizeof *tally.embeddings);
    volumes = calloc(together, sizeof *volumes);
    if (tally.embeddings == NULL || volumes == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for the embeddings of %zu crops", rows);
        goto done;
    }
    for (int draw = 0; draw < settings->draws; draw++) {
        for (size_t first = 0; first < count; first += together) {
            for (size_t v = 0; v < together; v++) {
                volumes[v] = (first + v) % count;
            }
            const size_t counted = count - first < together ? count - first : together;
            status = make_evaluation_batch(&batch, &source, &maker, volumes, (uint64_t)draw);
            if (status == VOCO_OK) {
                status = add_batch(&tally, model, compute, arena, params, &batch, counted,
                                   settings->crops_at_once);
            }
            if (status != VOCO_OK) {
                goto done;
            }
        }
    }
    struct embedding_signals signals;
    status = embedding_signals(&signals, tally.embeddings, tally.rows_seen, width, arena);
    if (status != VOCO_OK) {
        goto done;
    }
    const double batches = (double)tally.batches;
    *result = (struct evaluation){.volumes = count,
                                  .positions = tally.positions.positions,
                                  .loss = tally.loss.total / batches,
                                  .intra = tally.loss.intra / batches,
                                  .inter = tally.loss.inter / batches,
                                  .reg = tally.loss.reg / batches,
                                  .position_accuracy = position_accuracy(&tally.positions),
                                  .chance = 1.0 / bases,
                                  .correlation = position_correlation(&tally.positions),
                                  .feature_spread = signals.spread,
                                  .effective_rank = signals.effective_rank};
done:
    batch_maker_free(&maker);
    free(tally.embeddings);
    free(volumes);
    batch_free(&batch);
    return status;
}
