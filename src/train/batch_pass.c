#include "train/batch_pass.h"

#include "base/error.h"
#include "compute/compute_arena.h"

#include <string.h>

static size_t crop_size(const struct batch_pass *pass)
{
    const size_t side = (size_t)pass->model->config.roi;
    return side * side * side;
}

static size_t embedding_size(const struct batch_pass *pass)
{
    return (size_t)model_embedding_size(&pass->model->config);
}

static size_t pairs_of(const struct batch *batch)
{
    return (size_t)batch->volumes * (size_t)batch->crops * (size_t)batch->bases;
}

void pass_send(const struct batch_pass *pass, void *array, const void *host, size_t bytes)
{
    if (host != array) {
        copy_to_device(pass->copies, array, host, bytes);
        operations_follow_copies(pass->copies);
    }
}

void pass_fetch(const struct batch_pass *pass, void *host, const void *array, size_t bytes)
{
    if (host != array) {
        copy_to_host(pass->copies, host, array, bytes);
    }
}

/* An array on the arena for the host side of `array`: itself where operations work in the host's memory. */
static void *host_side_of(const struct batch_pass *pass, void *array, size_t bytes)
{
    return pass->compute->separate_memory ? arena_push_host(pass->arena, bytes) : array;
}

static void take_room(struct batch_pass *pass)
{
    const struct batch *batch = pass->batch;
    struct arena *arena = pass->arena;
    const size_t rows = (size_t)pass->rows, width = (size_t)pass->model->config.projector;
    const size_t embeddings = rows * embedding_size(pass) * sizeof(real);
    const size_t pairs = pairs_of(batch) * sizeof(real);
    const size_t terms = (size_t)batch->volumes * contrast_terms * sizeof(double);
    pass->embedding = arena_push(arena, embeddings);
    pass->mask = arena_push(arena, pass->masked ? embeddings : 0);
    pass->student = arena_push(arena, rows * width * sizeof(real));
    pass->teacher = arena_push(arena, rows * width * sizeof(real));
    pass->dstudent = arena_push(arena, rows * width * sizeof(real));
    pass->similarity = arena_push(arena, pairs);
    pass->terms = arena_push(arena, terms);
    pass->labels =
        pass->compute->separate_memory ? arena_push(arena, pairs_of(batch) * sizeof(float)) : batch->labels;
    pass->host = (struct host_side){.embedding = host_side_of(pass, pass->embedding, embeddings),
                                    .mask = host_side_of(pass, pass->mask, pass->masked ? embeddings : 0),
                                    .similarity = host_side_of(pass, pass->similarity, pairs),
                                    .terms = host_side_of(pass, pass->terms, terms)};
}

enum voco_status pass_begin(struct batch_pass *pass)
{
    const struct batch *batch = pass->batch;
    pass->rows = batch->volumes * (batch->crops + batch->bases);
    if (batch->roi != pass->model->config.roi) {
        (void)fail(VOCO_BAD_INPUT, "the batch holds crops of %d voxels an axis, the model takes %d",
                   batch->roi, pass->model->config.roi);
        return VOCO_BAD_INPUT;
    }
    take_room(pass);
    if (pass->voxels == NULL && batch->voxels != NULL) {
        pass->voxels = reals_for_operations(pass->compute, pass->arena, batch->voxels,
                                            (size_t)pass->rows * crop_size(pass));
    }
    if (pass->arena->exhausted) {
        return fail(VOCO_NO_MEMORY, "the embeddings of %d crops do not fit into the arena", pass->rows);
    }
    return VOCO_OK;
}

/* ---- the encoder, a chunk of crops at a time ---- */

int pass_chunks(const struct batch_pass *pass)
{
    return (pass->rows + pass->crops_at_once - 1) / pass->crops_at_once;
}

static int chunk_crops(const struct batch_pass *pass, int chunk)
{
    const int left = pass->rows - chunk * pass->crops_at_once;
    return left < pass->crops_at_once ? left : pass->crops_at_once;
}

/* kept as in encoder_forward. */
static enum voco_status forward_chunk(const struct batch_pass *pass, int chunk,
                                      struct encoder_activations **kept)
{
    const size_t first = (size_t)chunk * (size_t)pass->crops_at_once;
    return encoder_forward(pass->model, pass->compute, pass->arena, pass->params,
                           pass->embedding + first * embedding_size(pass),
                           pass->voxels + first * crop_size(pass), chunk_crops(pass, chunk), kept);
}

enum voco_status pass_forward(const struct batch_pass *pass, struct kept_chunk *kept, int count)
{
    const int chunks = pass_chunks(pass);
    enum voco_status status = VOCO_OK;
    for (int chunk = 0; chunk < chunks && status == VOCO_OK; chunk++) {
        const int place = chunk - (chunks - count);
        struct kept_chunk *own = kept != NULL && place >= 0 ? &kept[place] : NULL;
        if (own != NULL) {
            own->mark = arena_mark(pass->arena);
        }
        status = forward_chunk(pass, chunk, own != NULL ? &own->activations : NULL);
    }
    return status;
}

enum voco_status pass_backward(const struct batch_pass *pass, real *gradients, const real *dembedding,
                               const struct kept_chunk *kept, int count,
                               const struct backward_listener *listener)
{
    const int chunks = pass_chunks(pass);
    enum voco_status status = VOCO_OK;
    for (int chunk = chunks - 1; chunk >= 0 && status == VOCO_OK; chunk--) {
        const int place = chunk - (chunks - count);
        struct kept_chunk own = {.mark = arena_mark(pass->arena)};
        if (place >= 0) {
            own = kept[place];
        } else {
            status = forward_chunk(pass, chunk, &own.activations);
        }
        if (status == VOCO_OK) {
            const size_t first = (size_t)chunk * (size_t)pass->crops_at_once;
            status = encoder_backward_heard(pass->model, pass->compute, pass->arena, gradients, pass->params,
                                            dembedding + first * embedding_size(pass),
                                            pass->voxels + first * crop_size(pass), chunk_crops(pass, chunk),
                                            own.activations, chunk == 0 ? listener : NULL);
        }
        arena_release(pass->arena, own.mark);
    }
    return status;
}

/* ---- projectors and loss ---- */

enum voco_status pass_project(const struct batch_pass *pass, enum parameter_group group, real *z,
                              const real *embedding, struct projector_activations **kept)
{
    return projector_forward(pass->model, pass->compute, pass->arena, pass->params, group, z, embedding,
                             pass->rows, kept);
}

void pass_send_labels(const struct batch_pass *pass)
{
    pass_send(pass, pass->labels, pass->batch->labels, pairs_of(pass->batch) * sizeof(float));
}

enum voco_status pass_loss(const struct batch_pass *pass)
{
    const struct batch *batch = pass->batch;
    const struct contrast_shape shape = {batch->volumes, batch->crops, batch->bases,
                                         pass->model->config.projector};
    const struct arena_mark mark = arena_mark(pass->arena);
    double *work = arena_push(pass->arena, contrast_loss_work(&shape) * sizeof *work);
    if (work == NULL) {
        return fail(VOCO_NO_MEMORY, "the loss of %d crops does not fit into the arena", pass->rows);
    }
    pass->compute->contrast_loss(pass->compute, pass->terms, pass->dstudent, pass->similarity, pass->student,
                                 pass->teacher, pass->labels, work, &shape);
    arena_release(pass->arena, mark);
    return VOCO_OK;
}

enum voco_status pass_fetch_embeddings(const struct batch_pass *pass)
{
    copies_follow_operations(pass->copies);
    pass_fetch(pass, pass->host.embedding, pass->embedding,
               (size_t)pass->rows * embedding_size(pass) * sizeof(real));
    return copy_queue_wait(pass->copies);
}

enum voco_status pass_fetch_measures(const struct batch_pass *pass)
{
    const struct batch *batch = pass->batch;
    const size_t terms = (size_t)batch->volumes * contrast_terms;
    pass_fetch(pass, pass->host.embedding, pass->embedding,
               (size_t)pass->rows * embedding_size(pass) * sizeof(real));
    pass_fetch(pass, pass->host.similarity, pass->similarity, pairs_of(batch) * sizeof(real));
    pass_fetch(pass, pass->host.terms, pass->terms, terms * sizeof *pass->terms);
    return copy_queue_wait(pass->copies);
}

enum voco_status pass_measure(const struct batch_pass *pass, struct step_result *result)
{
    const struct batch *batch = pass->batch;
    result->loss = loss_of_terms(pass->host.terms, batch->volumes);
    position_signals_add(&result->positions, pass->host.similarity, batch->labels,
                         (size_t)batch->volumes * (size_t)batch->crops, batch->bases);
    return embedding_signals(&result->embeddings, pass->host.embedding, (size_t)pass->rows,
                             embedding_size(pass), pass->arena);
}

static void copy_out(real *to, const real *from, size_t count)
{
    if (to != NULL) {
        memcpy(to, from, count * sizeof *to);
    }
}

enum voco_status pass_give_outputs(const struct batch_pass *pass, const struct batch_outputs *outputs)
{
    const size_t rows = (size_t)pass->rows;
    const size_t projections = rows * (size_t)pass->model->config.projector * sizeof(real);
    if (outputs == NULL) {
        return VOCO_OK;
    }
    copies_follow_operations(pass->copies);
    if (outputs->student != NULL) {
        copy_to_host(pass->copies, outputs->student, pass->student, projections);
    }
    if (outputs->teacher != NULL) {
        copy_to_host(pass->copies, outputs->teacher, pass->teacher, projections);
    }
    copy_out(outputs->embedding, pass->host.embedding, rows * embedding_size(pass));
    copy_out(outputs->similarity, pass->host.similarity, pairs_of(pass->batch));
    return copy_queue_wait(pass->copies);
}

/* ---- forward only ---- */

enum voco_status evaluate_batch(const struct model *model, struct compute *compute, struct arena *arena,
                                const real *params, const struct batch *batch, int crops_at_once,
                                struct step_result *result, const struct batch_outputs *outputs)
{
    const struct arena_mark mark = arena_mark(arena);
    struct copy_queue copies = {.operations = compute};
    struct batch_pass pass = {.model = model,
                              .compute = compute,
                              .copies = &copies,
                              .arena = arena,
                              .params = params,
                              .batch = batch,
                              .crops_at_once = crops_at_once};
    double since = seconds_now();
    *result = (struct step_result){0};
    enum voco_status status = pass_begin(&pass);
    if (status == VOCO_OK) {
        status = pass_forward(&pass, NULL, 0);
        count_time(&result->seconds.encoder_forward, &since);
    }
    if (status == VOCO_OK) {
        status = pass_project(&pass, GROUP_STUDENT, pass.student, pass.embedding, NULL);
    }
    if (status == VOCO_OK) {
        status = pass_project(&pass, GROUP_TEACHER, pass.teacher, pass.embedding, NULL);
    }
    if (status == VOCO_OK) {
        pass_send_labels(&pass);
        status = pass_loss(&pass);
    }
    if (status == VOCO_OK) {
        status = pass_fetch_measures(&pass);
    }
    if (status == VOCO_OK) {
        status = pass_measure(&pass, result);
        count_time(&result->seconds.projector_and_loss, &since);
    }
    if (status == VOCO_OK) {
        status = pass_give_outputs(&pass, outputs);
    }
    arena_release(arena, mark);
    return status;
}
