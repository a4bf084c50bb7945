#include "train/evaluate.h"

#include "base/error.h"
#include "base/machine_memory.h"
#include "compute/compute_arena.h"
#include "data/make_batch.h"
#include "train/step.h"

#include <stdlib.h>
#include <string.h>

struct evaluation_settings evaluation_settings_of(const struct recipe *recipe)
{
    const int crops =
        recipe->evaluation_volumes * (recipe->sampling.crops + sampling_bases(&recipe->sampling));
    return (struct evaluation_settings){.sampling = recipe->sampling,
                                        .volumes_per_batch = recipe->evaluation_volumes,
                                        .crops_at_once = crops_at_once_of(recipe, crops),
                                        .draws = recipe->evaluation_draws,
                                        .seed = recipe->seed ^ 0x6576616c75617465U};
}

enum voco_status evaluation_arena_open(struct arena *arena, struct compute *c)
{
    const size_t least = (size_t)1 << 30;
    const uint64_t memory = memory_available();
    return compute_arena_open(arena, c, c->separate_memory ? 0 : memory > least ? memory : least);
}

/* What a batch takes of separate memory, with so many crops at a time. */
static size_t batch_bytes(const struct model_config *config, const struct evaluation_settings *settings,
                          const struct compute *c, int at_once)
{
    const struct sampling *sampling = &settings->sampling;
    const int bases = sampling_bases(sampling), volumes = settings->volumes_per_batch;
    const size_t crops = (size_t)volumes * (size_t)(sampling->crops + bases), side = (size_t)config->roi;
    const size_t voxels = side * side * side, together = (size_t)at_once < crops ? (size_t)at_once : crops;
    return train_step_projection_bytes(config, volumes, sampling->crops, bases) +
           crops * voxels * sizeof(real) +
           encoder_passing_bytes(config, together * voxels, c->activation_size);
}

/* Room for batches in separate memory, and how many crops at a time it is for. */
static enum voco_status make_room(struct arena *arena, struct compute *c, const struct model_config *config,
                                  const struct evaluation_settings *settings, int *at_once)
{
    const enum voco_status status =
        compute_arena_reserve(arena, c, batch_bytes(config, settings, c, *at_once));
    while (status == VOCO_OK && c->separate_memory && *at_once > 1 &&
           batch_bytes(config, settings, c, *at_once) > arena->capacity) {
        *at_once = (*at_once + 1) / 2;
    }
    return status;
}

static size_t embeddings_held(const struct evaluation_settings *settings, size_t volumes)
{
    const size_t of_volume =
        (size_t)settings->draws * (size_t)(settings->sampling.crops + sampling_bases(&settings->sampling));
    return volumes < evaluation_most_embeddings / of_volume + 1 &&
                   volumes * of_volume < evaluation_most_embeddings
               ? volumes * of_volume
               : evaluation_most_embeddings;
}

uint64_t evaluation_memory(const struct model_config *config, const struct evaluation_settings *settings,
                           size_t volumes)
{
    const struct batch_source source = {.volumes = settings->volumes_per_batch,
                                        .sampling = settings->sampling};
    const size_t width = (size_t)model_embedding_size(config), held = embeddings_held(settings, volumes);
    const size_t smaller = held < width ? held : width;
    return batch_source_bytes(&source) + batch_maker_bytes + held * width * (sizeof(real) + sizeof(double)) +
           smaller * (smaller + 4) * sizeof(double) +
           train_step_projection_bytes(config, settings->volumes_per_batch, settings->sampling.crops,
                                       sampling_bases(&settings->sampling));
}

/* Sums over batches. */
struct tally {
    struct loss loss;
    struct position_signals positions;
    real *embeddings; /* (rows_held, E): of the crops counted first */
    size_t rows_held, most_rows;
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
        const size_t room = tally->most_rows - tally->rows_held;
        const size_t taken = rows[part] < room ? rows[part] : room;
        memcpy(tally->embeddings + tally->rows_held * width, from[part], taken * width * sizeof *embedding);
        tally->rows_held += taken;
    }
}

static enum voco_status add_batch(struct tally *tally, const struct model *model, struct compute *compute,
                                  struct arena *arena, const float *params, const struct batch *batch,
                                  size_t counted, int crops_at_once)
{
    const size_t width = (size_t)model_embedding_size(&model->config);
    const size_t rows = (size_t)batch->volumes * (size_t)(batch->crops + batch->bases);
    const size_t pairs = (size_t)batch->volumes * (size_t)batch->crops * (size_t)batch->bases;
    const struct arena_mark mark = arena_mark(arena);
    real *embedding = arena_push_host(arena, rows * width * sizeof *embedding);
    real *similarity = arena_push_host(arena, pairs * sizeof *similarity);
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
    int at_once = settings->crops_at_once;
    enum voco_status status = batch_source_check(&source);
    if (status == VOCO_OK) {
        status = make_room(arena, compute, &model->config, settings, &at_once);
    }
    if (status != VOCO_OK) {
        return status;
    }
    status = batch_source_create_batch(&batch, &source);
    if (status != VOCO_OK) {
        return status;
    }
    tally.most_rows = embeddings_held(settings, count);
    tally.embeddings = calloc(tally.most_rows, width * sizeof *tally.embeddings);
    volumes = calloc(together, sizeof *volumes);
    if (tally.embeddings == NULL || volumes == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for the embeddings of %zu crops", tally.most_rows);
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
                status = add_batch(&tally, model, compute, arena, params, &batch, counted, at_once);
            }
            if (status != VOCO_OK) {
                goto done;
            }
        }
    }
    struct embedding_signals signals;
    status = embedding_signals(&signals, tally.embeddings, tally.rows_held, width, arena);
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
