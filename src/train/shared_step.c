#include "train/shared_step.h"

#include <string.h>

enum voco_status gather_pass(struct batch_pass *whole, struct batch *batch, const struct train_step *step,
                             const struct batch_pass *pass, struct step_result *result)
{
    const struct batch_share *share = &step->settings.share;
    const size_t pairs = (size_t)share->volumes * (size_t)pass->batch->crops * (size_t)pass->batch->bases;
    const size_t features = (size_t)model_embedding_size(&pass->model->config);
    double since = seconds_now();
    *batch = *pass->batch;
    batch->volumes = share->volumes;
    batch->voxels = NULL;
    batch->stored = NULL;
    batch->labels = arena_push_host(pass->arena, pairs * sizeof *batch->labels);
    *whole = *pass;
    whole->batch = batch;
    whole->voxels = NULL;
    enum voco_status status = pass_begin(whole);
    if (status == VOCO_OK) {
        status = gather_rows(step->exchange->ranks, whole->host.embedding, pass->host.embedding, share,
                             pass->batch, features);
    }
    if (status == VOCO_OK) {
        pass_send(whole, whole->embedding, whole->host.embedding,
                  (size_t)whole->rows * features * sizeof(real));
    }
    if (status == VOCO_OK) {
        status = gather_labels(step->exchange->ranks, batch->labels, share, pass->batch);
    }
    count_time(&result->seconds.communication, &since);
    return status;
}

void take_own_rows(const struct train_step *step, const struct batch_pass *pass,
                   const struct batch_pass *whole, real *dembedding, const real *of_all)
{
    const struct batch_share *share = &step->settings.share;
    const struct batch *own = pass->batch;
    const size_t width = (size_t)pass->model->config.projector;
    const size_t of_volume = (size_t)own->crops * (size_t)own->bases;
    take_rows(pass->compute, dembedding, of_all, share, own,
              (size_t)model_embedding_size(&pass->model->config));
    take_rows(pass->compute, pass->student, whole->student, share, own, width);
    take_rows(pass->compute, pass->teacher, whole->teacher, share, own, width);
    memcpy(pass->host.similarity, whole->host.similarity + (size_t)share->first * of_volume,
           (size_t)share->count * of_volume * sizeof(real));
}

void leave_student_to_first(const struct train_step *step)
{
    const struct parameter_table *table = &step->model->table;
    if (step->exchange->ranks->rank != 0) {
        step->compute->zero(step->compute, step->gradients + table->backbone,
                            table->trained - table->backbone);
    }
}

/* Each rank's of its own slices. */
static double own_squares(struct train_step *step)
{
    struct compute *c = step->compute;
    double squares = 0;
    for (int b = 0; b < step->exchange->count; b++) {
        const struct gradient_bucket *bucket = &step->exchange->buckets[b];
        c->sum_of_squares(c, step->squares, step->gradients + bucket->own_first, bucket->own_count);
        if (c->separate_memory) {
            c->to_host(c, step->host_squares, step->squares, sizeof *step->squares);
            c->wait(c);
        }
        squares += *step->host_squares;
    }
    return squares;
}

double share_result(struct train_step *step, struct step_result *result)
{
    const struct ranks *ranks = step->exchange->ranks;
    struct position_signals *p = &result->positions;
    double since = seconds_now();
    const double squares = own_squares(step);
    double positions = (double)p->positions, right = (double)p->right, pairs = (double)p->pairs;
    double *const sums[] = {&positions,        &right,     &pairs,
                            &p->similarity,    &p->label,  &p->similarity_squared,
                            &p->label_squared, &p->product};
    double *const means[] = {&result->loss.total,
                             &result->loss.intra,
                             &result->loss.inter,
                             &result->loss.reg,
                             &result->embeddings.spread,
                             &result->embeddings.normalised_spread,
                             &result->embeddings.effective_rank};
    enum { sum_count = sizeof sums / sizeof sums[0], mean_count = sizeof means / sizeof means[0] };
    const int same = step->settings.sync_bn;
    const double part = same && ranks->rank != 0 ? 0 : 1, mean_part = same ? part : part / ranks->size;
    double values[sum_count + mean_count + 1];
    for (int i = 0; i < sum_count; i++) {
        values[i] = part * *sums[i];
    }
    for (int i = 0; i < mean_count; i++) {
        values[sum_count + i] = mean_part * *means[i];
    }
    values[sum_count + mean_count] = squares;
    ranks_sum_doubles(ranks, values, sum_count + mean_count + 1);
    for (int i = 0; i < sum_count; i++) {
        *sums[i] = values[i];
    }
    for (int i = 0; i < mean_count; i++) {
        *means[i] = values[sum_count + i];
    }
    p->positions = (size_t)positions;
    p->right = (size_t)right;
    p->pairs = (size_t)pairs;
    count_time(&result->seconds.communication, &since);
    return values[sum_count + mean_count];
}

void update_own_slices(struct train_step *step, const struct adamw_settings *adamw,
                       struct step_result *result)
{
    struct compute *c = step->compute;
    const struct working_state *arrays = &step->arrays;
    for (int b = 0; b < step->exchange->count; b++) {
        const struct gradient_bucket *bucket = &step->exchange->buckets[b];
        const size_t at = bucket->own_moments;
        c->adamw_step(c, arrays->params + bucket->own_first, arrays->exp_avg + at, arrays->exp_avg_sq + at,
                      arrays->max_exp_avg_sq + at, step->gradients + bucket->own_first, step->squares, adamw,
                      bucket->own_count);
    }
    double since = seconds_now();
    gradient_exchange_share(step->exchange, arrays->params);
    count_time(&result->seconds.communication, &since);
}
