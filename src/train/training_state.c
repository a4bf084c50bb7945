#include "train/training_state.h"

#include "base/error.h"

#include <stdlib.h>

enum voco_status training_state_create(struct training_state *state, const struct parameter_table *table)
{
    return training_state_create_part(state, table, table->trained);
}

enum voco_status training_state_create_part(struct training_state *state, const struct parameter_table *table,
                                            size_t moments)
{
    *state = (struct training_state){
        .params = calloc(table->total, sizeof(real)),
        .exp_avg = calloc(moments, sizeof(real)),
        .exp_avg_sq = calloc(moments, sizeof(real)),
        .max_exp_avg_sq = calloc(moments, sizeof(real)),
        .moments = moments,
    };
    if (state->params == NULL || state->exp_avg == NULL || state->exp_avg_sq == NULL ||
        state->max_exp_avg_sq == NULL) {
        training_state_free(state);
        return fail(VOCO_NO_MEMORY, "no memory for parameters and moments: %.1f GB",
                    (double)(table->total + 3 * moments) * sizeof(real) / 1e9);
    }
    return VOCO_OK;
}

void training_state_place(const struct training_state *state, const struct parameter_table *table,
                          struct compute *compute)
{
    if (compute->separate_memory) {
        return; /* it works on copies */
    }
    compute->zero(compute, state->params, table->total);
    compute->zero(compute, state->exp_avg, state->moments);
    compute->zero(compute, state->exp_avg_sq, state->moments);
    compute->zero(compute, state->max_exp_avg_sq, state->moments);
}

void training_state_free(struct training_state *state)
{
    free(state->params);
    free(state->exp_avg);
    free(state->exp_avg_sq);
    free(state->max_exp_avg_sq);
    *state = (struct training_state){0};
}
