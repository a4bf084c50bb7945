#include "train/initial_weights.h"

#include "base/error.h"
#include "base/log.h"
#include "model/patch_merging_order.h"
#include "train/recipe.h"
#include "train/stored_network.h"

#include <stdio.h>
#include <string.h>

struct initial_weights {
    struct stored_network stored;
    enum order_change change;
    int norms_to_zero[4];
    int with_projectors;
};

static enum voco_status wrong_size(const struct stored_network *stored, const struct model_config *config)
{
    for (int i = 0; recipe_builtin_name(i) != NULL; i++) {
        struct recipe recipe;
        if (recipe_load(&recipe, recipe_builtin_name(i)) == VOCO_OK &&
            recipe.model.feature_size == stored->config.feature_size) {
            return fail(VOCO_BAD_INPUT, "%s: its feature size is %d, the run's %d; --recipe %s would fit",
                        stored->path, stored->config.feature_size, config->feature_size,
                        recipe_builtin_name(i));
        }
    }
    return fail(VOCO_BAD_INPUT,
                "%s: its feature size is %d, the run's %d; a recipe with feature_size: %d would fit",
                stored->path, stored->config.feature_size, config->feature_size, stored->config.feature_size);
}

static enum voco_status check_sizes(struct initial_weights *weights, const struct model_config *config,
                                    int partial)
{
    const struct stored_network *stored = &weights->stored;
    if (stored->config.feature_size != config->feature_size) {
        return wrong_size(stored, config);
    }
    if (stored->in_channels != 1) {
        return fail(VOCO_BAD_INPUT, "%s: takes images of %d channels, pre-training has images of 1",
                    stored->path, stored->in_channels);
    }
    weights->with_projectors = stored->config.projector == config->projector;
    if (stored->config.projector != 0 && !weights->with_projectors && !partial) {
        return fail(VOCO_BAD_INPUT,
                    "%s: its projectors are %d wide, the run's %d; a recipe with projector: %d would fit, "
                    "--init-partial draws them anew",
                    stored->path, stored->config.projector, config->projector, stored->config.projector);
    }
    enum voco_status status = partial ? VOCO_OK : stored_network_require(stored, GROUP_BACKBONE);
    for (int group = GROUP_STUDENT; status == VOCO_OK && group <= GROUP_TEACHER; group++) {
        const int missing = stored_network_missing(stored, (enum parameter_group)group);
        if (stored->config.projector != 0 && missing > 0 && !partial) {
            status = stored_network_require(stored, (enum parameter_group)group);
        }
    }
    if (status == VOCO_BAD_INPUT) {
        char reason[1024];
        (void)snprintf(reason, sizeof reason, "%s", voco_error_message());
        status = fail(status, "%s; --init-partial draws them anew", reason);
    }
    return status;
}

static enum voco_status check_order(struct initial_weights *weights, const struct model_config *config)
{
    const struct stored_network *stored = &weights->stored;
    const enum voco_status status =
        stored_network_order_change(&weights->change, weights->norms_to_zero, stored, config->patch_merging);
    if (status != VOCO_BAD_INPUT) {
        return status;
    }
    char reason[1024];
    (void)snprintf(reason, sizeof reason, "%s", voco_error_message());
    return fail(
        status, "%s; --patch-merging %s begins a run in its order%s", reason,
        patch_merging_name(stored->config.patch_merging),
        stored->says_patch_merging
            ? ""
            : " (which it does not say: legacy, that of the published checkpoints, is assumed; voco convert "
              "--trained-with says otherwise)");
}

static enum voco_status open_weights(struct initial_weights *weights, const char *path, int partial,
                                     const struct model_config *config)
{
    *weights = (struct initial_weights){0};
    enum voco_status status = stored_network_open(&weights->stored, path, NULL);
    if (status == VOCO_OK) {
        status = check_sizes(weights, config, partial);
    }
    if (status == VOCO_OK) {
        status = check_order(weights, config);
    }
    if (status != VOCO_OK) {
        stored_network_close(&weights->stored);
    }
    return status;
}

enum voco_status initial_weights_check(const char *path, int partial, const struct model_config *config)
{
    struct initial_weights weights;
    const enum voco_status status = open_weights(&weights, path, partial, config);
    if (status == VOCO_OK) {
        stored_network_close(&weights.stored);
    }
    return status;
}

/* The norms before mergings that are constant, so that they are so in the new order, too. */
static int becomes_zero(const struct initial_weights *weights, const struct parameter *parameter)
{
    int stage = 0;
    char rest[parameter_name_size];
    return weights->change == ORDER_CONSTANT && is_patch_merging_parameter(parameter) &&
           sscanf(parameter->name, "backbone.swinViT.layers%d.0.downsample.%s", &stage, rest) == 2 &&
           strcmp(rest, "norm.weight") == 0 && weights->norms_to_zero[stage - 1];
}

/* `place` is the parameter's in both tables: names and their order are the same for every size. */
static enum voco_status load_one(float *values, const struct initial_weights *weights,
                                 const struct parameter *parameter, int place, enum patch_merging order)
{
    const enum voco_status status = stored_network_read_floats(&weights->stored, place, values);
    if (status != VOCO_OK) {
        return status;
    }
    if (weights->change == ORDER_PERMUTED && is_patch_merging_parameter(parameter)) {
        const size_t row = (size_t)parameter->shape[parameter->rank - 1];
        patch_merging_permute(values, parameter->count / row, row / 8, sizeof *values,
                              weights->stored.config.patch_merging, order);
    } else if (becomes_zero(weights, parameter)) {
        memset(values, 0, parameter->count * sizeof *values);
    }
    return VOCO_OK;
}

enum { names_said = 10 };

static void say_what_was_not_loaded(const struct initial_weights *weights,
                                    const struct parameter_table *table, int drawn)
{
    const struct stored_network *stored = &weights->stored;
    int said = 0;
    for (int i = 0; i < table->count && said < names_said; i++) {
        const struct parameter *parameter = &table->entries[i];
        if (stored->parameters[i] == NULL ||
            (parameter->group != GROUP_BACKBONE && !weights->with_projectors)) {
            log_line(LOG_INFO, "  drawn anew: %s", parameter->name);
            said++;
        }
    }
    if (drawn > said) {
        log_line(LOG_INFO, "  drawn anew: %d more", drawn - said);
    }
    size_t unused = 0;
    for (; unused < stored->unexpected_count && unused < names_said; unused++) {
        log_line(LOG_INFO, "  not used: %s", stored->unexpected[unused]->name);
    }
    if (stored->unexpected_count > unused) {
        log_line(LOG_INFO, "  not used: %zu more", stored->unexpected_count - unused);
    }
}

enum voco_status initial_weights_load(float *params, const struct model *model, const char *path, int partial)
{
    struct initial_weights weights;
    const struct parameter_table *table = &model->table;
    enum voco_status status = open_weights(&weights, path, partial, &model->config);
    if (status != VOCO_OK) {
        return status;
    }
    int loaded = 0;
    for (int i = 0; status == VOCO_OK && i < table->count; i++) {
        const struct parameter *parameter = &table->entries[i];
        if (weights.stored.parameters[i] != NULL &&
            (parameter->group == GROUP_BACKBONE || weights.with_projectors)) {
            status =
                load_one(params + parameter->offset, &weights, parameter, i, model->config.patch_merging);
            loaded++;
        }
    }
    if (status == VOCO_OK) {
        const struct stored_network *stored = &weights.stored;
        log_line(LOG_INFO, "begins with %d of %d tensors from %s (names of %s, patch merging %s%s%s)", loaded,
                 table->count, path, name_space_name(stored->space),
                 patch_merging_name(stored->config.patch_merging),
                 stored->says_patch_merging ? "" : ", which it does not say",
                 weights.change == ORDER_KEPT ? "" : ", rewritten");
        say_what_was_not_loaded(&weights, table, table->count - loaded);
    }
    stored_network_close(&weights.stored);
    return status;
}
