#include "train/step_arrays.h"

#include "base/error.h"

#include <stdlib.h>

enum { array_count = 4 };

/* An array of the state, its copy, and how long they are. */
struct pair {
    real *host;
    real **working;
    size_t count;
};

static void pairs_of(struct pair pairs[array_count], struct train_step *step)
{
    struct training_state *state = step->state;
    const size_t total = step->model->table.total, moments = state->moments;
    pairs[0] = (struct pair){state->params, &step->arrays.params, total};
    pairs[1] = (struct pair){state->exp_avg, &step->arrays.exp_avg, moments};
    pairs[2] = (struct pair){state->exp_avg_sq, &step->arrays.exp_avg_sq, moments};
    pairs[3] = (struct pair){state->max_exp_avg_sq, &step->arrays.max_exp_avg_sq, moments};
}

static real *new_array(struct compute *c, size_t count)
{
    real *array = c->allocate(c, count * sizeof *array);
    if (array != NULL) {
        c->zero(c, array, count);
    }
    return array;
}

enum voco_status step_arrays_create(struct train_step *step)
{
    const struct parameter_table *table = &step->model->table;
    struct compute *c = step->compute;
    struct pair pairs[array_count];
    pairs_of(pairs, step);
    for (int k = 0; k < array_count; k++) {
        if (!c->separate_memory) {
            *pairs[k].working = pairs[k].host;
            continue;
        }
        *pairs[k].working = c->allocate(c, pairs[k].count * sizeof(real));
        if (*pairs[k].working != NULL) {
            c->to_device(c, *pairs[k].working, pairs[k].host, pairs[k].count * sizeof(real));
        }
    }
    step->gradients = new_array(c, table->trained);
    step->previous_teacher = new_array(c, table->total - table->trained);
    step->squares = c->allocate(c, sizeof *step->squares);
    step->host_squares =
        c->separate_memory ? c->allocate_staging(c, sizeof *step->host_squares) : step->squares;
    c->wait(c);
    c->parameters_changed(c);
    return compute_status(c);
}

void step_arrays_free(struct train_step *step)
{
    struct compute *c = step->compute;
    struct pair pairs[array_count];
    if (c == NULL || c->release == NULL) {
        return;
    }
    pairs_of(pairs, step);
    for (int k = 0; k < array_count; k++) {
        if (*pairs[k].working != pairs[k].host) {
            c->release(c, *pairs[k].working);
        }
        *pairs[k].working = NULL;
    }
    c->release(c, step->gradients);
    c->release(c, step->previous_teacher);
    step->gradients = step->previous_teacher = NULL;
    if (step->host_squares != step->squares) {
        c->release_staging(c, step->host_squares);
    }
    c->release(c, step->squares);
    step->squares = step->host_squares = NULL;
    free(step->host_gradients);
    step->host_gradients = NULL;
}

enum voco_status train_step_fetch_state(struct train_step *step)
{
    struct compute *c = step->compute;
    struct pair pairs[array_count];
    pairs_of(pairs, step);
    for (int k = 0; k < array_count && c->separate_memory; k++) {
        c->to_host(c, pairs[k].host, *pairs[k].working, pairs[k].count * sizeof(real));
    }
    c->wait(c);
    return compute_status(c);
}

real *train_step_host_gradients(struct train_step *step)
{
    struct compute *c = step->compute;
    const size_t count = step->model->table.trained;
    if (!c->separate_memory) {
        return step->gradients;
    }
    if (step->host_gradients == NULL) {
        step->host_gradients = malloc(count * sizeof *step->host_gradients);
    }
    if (step->host_gradients == NULL) {
        (void)fail(VOCO_NO_MEMORY, "no memory for the gradient of %zu parameters", count);
        return NULL;
    }
    c->to_host(c, step->host_gradients, step->gradients, count * sizeof *step->host_gradients);
    c->wait(c);
    return step->host_gradients;
}

void train_step_take_gradients(struct train_step *step)
{
    struct compute *c = step->compute;
    if (step->host_gradients != NULL) {
        c->to_device(c, step->gradients, step->host_gradients, step->model->table.trained * sizeof(real));
        c->wait(c);
    }
}
