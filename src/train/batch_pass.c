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

void pass_fetch(const struct batch_pass *pass, real *host, const real *array, size_t count)
{
    if (host != array) {
        pass->compute->to_host(pass->compute, host, array, count * sizeof *host);
    }
}

void pass_send(const struct batch_pass *pass, real *array, const real *host, size_t count)
{
    if (host != array) {
        pass->compute->to_device(pass->compute, array, host, count * sizeof *host);
    }
}

real *pass_host_side(const struct batch_pass *pass, real *array, size_t count)
{
    return pass->compute->separate_memory ? arena_push_host(pass->arena, count * sizeof *array) : array;
}

enum voco_status pass_begin(struct batch_pass *pass)
{
    const struct batch *batch = pass->batch;
    pass->rows = batch->volumes * (batch->crops + batch->bases);
    const size_t rows = (size_t)pass->rows, width = (size_t)pass->model->config.projector;
    const size_t pairs = (size_t)batch->volumes * (size_t)batch->crops * (size_t)batch->bases;
    const size_t features = embedding_size(pass);
    if (batch->roi != pass->model->config.roi) {
        (void)fail(VOCO_BAD_INPUT, "the batch holds crops of %d voxels an axis, the model takes %d",
                   batch->roi, pass->model->config.roi);
        return VOCO_BAD_INPUT;
    }
    pass->embedding = arena_push(pass->arena, rows * features * sizeof(real));
    pass->student = arena_push(pass->arena, rows * width * sizeof(real));
    pass->teacher = arena_push(pass->arena, rows * width * sizeof(real));
    pass->dstudent = arena_push(pass->arena, rows * width * sizeof(real));
    pass->similarity = arena_push_host(pass->arena, pairs * sizeof(real));
    pass->host = (struct host_rows){.embedding = pass_host_side(pass, pass->embedding, rows * features),
                                    .student = pass_host_side(pass, pass->student, rows * width),
                                    .teacher = pass_host_side(pass, pass->teacher, rows * width),
                                    .dstudent = pass_host_side(pass, pass->dstudent, rows * width)};
    pass->voxels = batch->voxels == NULL ? NULL
                                         : reals_for_operations(pass->compute, pass->arena, batch->voxels,
                                                                rows * crop_size(pass));
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

enum voco_status pass_loss(const struct batch_pass *pass, struct step_result *result)
{
    const struct batch *batch = pass->batch;
    const struct loss_shape shape = {batch->volumes, batch->crops, batch->bases,
                                     pass->model->config.projector};
    const size_t values = (size_t)pass->rows * (size_t)pass->model->config.projector;
    pass_fetch(pass, pass->host.student, pass->student, values);
    pass_fetch(pass, pass->host.teacher, pass->teacher, values);
    pass->compute->wait(pass->compute);
    enum voco_status status = compute_status(pass->compute);
    if (status == VOCO_OK) {
        status = voco_loss(&result->loss, pass->host.dstudent, pass->similarity, pass->host.student,
                           pass->host.teacher, batch->labels, &shape, pass->arena);
    }
    if (status == VOCO_OK) {
        pass_send(pass, pass->dstudent, pass->host.dstudent, values);
    }
    return status;
}

enum voco_status pass_signals(const struct batch_pass *pass, struct step_result *result)
{
    const struct batch *batch = pass->batch;
    position_signals_add(&result->positions, pass->similarity, batch->labels,
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

void pass_give_outputs(const struct batch_pass *pass, const struct batch_outputs *outputs)
{
    const struct batch *batch = pass->batch;
    const size_t rows = (size_t)pass->rows, width = (size_t)pass->model->config.projector;
    if (outputs == NULL) {
        return;
    }
    copy_out(outputs->embedding, pass->host.embedding, rows * embedding_size(pass));
    copy_out(outputs->student, pass->host.student, rows * width);
    copy_out(outputs->teacher, pass->host.teacher, rows * width);
    copy_out(outputs->similarity, pass->similarity,
             (size_t)batch->volumes * (size_t)batch->crops * (size_t)batch->bases);
}

/* ---- forward only ---- */

enum voco_status evaluate_batch(const struct model *model, struct compute *compute, struct arena *arena,
                                const real *params, const struct batch *batch, int crops_at_once,
                                struct step_result *result, const struct batch_outputs *outputs)
{
    const struct arena_mark mark = arena_mark(arena);
    struct batch_pass pass = {.model = model,
                              .compute = compute,
                              .arena = arena,
                              .params = params,
                              .batch = batch,
                              .crops_at_once = crops_at_once};
    double since = seconds_now();
    *result = (struct step_result){0};
    enum voco_status status = pass_begin(&pass);
    if (status == VOCO_OK) {
        status = pass_forward(&pass, NULL, 0);
    }
    if (status == VOCO_OK) {
        pass_fetch(&pass, pass.host.embedding, pass.embedding, (size_t)pass.rows * embedding_size(&pass));
        count_time(&result->seconds.encoder_forward, &since);
        status = pass_project(&pass, GROUP_STUDENT, pass.student, pass.embedding, NULL);
    }
    if (status == VOCO_OK) {
        status = pass_project(&pass, GROUP_TEACHER, pass.teacher, pass.embedding, NULL);
    }
    if (status == VOCO_OK) {
        status = pass_loss(&pass, result);
    }
    if (status == VOCO_OK) {
        status = pass_signals(&pass, result);
        count_time(&result->seconds.projector_and_loss, &since);
    }
    if (status == VOCO_OK) {
        pass_give_outputs(&pass, outputs);
    }
    arena_release(arena, mark);
    return status;
}
