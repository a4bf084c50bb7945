#include "train/conversion.h"

#include "base/error.h"
#include "model/input_channels.h"
#include "model/patch_merging_order.h"
#include "train/conversion_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is wanted ---- */

static enum voco_status settle_order(struct conversion *conversion, const struct conversion_options *options)
{
    struct stored_network *from = &conversion->from;
    enum voco_status status = VOCO_OK;
    if (options->trained_with != NULL) {
        enum patch_merging trained_with = PATCH_MERGING_LEGACY;
        status = patch_merging_from_name(&trained_with, options->trained_with);
        if (status == VOCO_OK && from->says_patch_merging && trained_with != from->config.patch_merging) {
            status = fail(VOCO_BAD_INPUT, "%s: says that it was trained with patch merging %s, not %s",
                          from->path, patch_merging_name(from->config.patch_merging), options->trained_with);
        }
        from->config.patch_merging = trained_with;
    }
    conversion->order_assumed = !from->says_patch_merging && options->trained_with == NULL;
    conversion->from_order = from->config.patch_merging;
    conversion->to_order = conversion->from_order;
    if (status == VOCO_OK && options->merging != NULL) {
        status = patch_merging_from_name(&conversion->to_order, options->merging);
    }
    if (status == VOCO_OK) {
        status = stored_network_order_change(&conversion->change, conversion->norms_to_zero, from,
                                             conversion->to_order);
    }
    if (status != VOCO_OK && conversion->order_assumed && conversion->from_order != conversion->to_order) {
        char reason[1024];
        (void)snprintf(reason, sizeof reason, "%s", voco_error_message());
        return fail(status,
                    "%s (it does not say its order: legacy, that of the published checkpoints, is assumed; "
                    "--trained-with says otherwise)",
                    reason);
    }
    return status;
}

static enum voco_status settle_channels(struct conversion *conversion, int wanted)
{
    const struct stored_network *from = &conversion->from;
    conversion->in_channels = wanted > 0 ? wanted : from->in_channels;
    if (conversion->in_channels > most_input_channels) {
        return fail(VOCO_BAD_INPUT, "%d input channels: there can be at most %d", wanted,
                    (int)most_input_channels);
    }
    return conversion->in_channels == from->in_channels || from->in_channels == 1
               ? VOCO_OK
               : fail(VOCO_BAD_INPUT, "%s: takes %d input channels; only from 1 can there be made %d",
                      from->path, from->in_channels, wanted);
}

static enum voco_status settle_completeness(const struct conversion *conversion,
                                            const struct conversion_options *options)
{
    const struct stored_network *from = &conversion->from;
    enum voco_status status = options->partial ? VOCO_OK : stored_network_require(from, GROUP_BACKBONE);
    /* A projector is there as a whole or not at all. */
    for (int group = GROUP_STUDENT; status == VOCO_OK && group <= GROUP_TEACHER; group++) {
        const int missing = stored_network_missing(from, (enum parameter_group)group);
        if (missing > 0 && missing < 6 && conversion->names == NAMES_VOCO && !options->partial) {
            status = stored_network_require(from, (enum parameter_group)group);
        }
    }
    if (status == VOCO_BAD_INPUT) {
        char reason[1024];
        (void)snprintf(reason, sizeof reason, "%s", voco_error_message());
        return fail(status, "%s; --partial converts what is there", reason);
    }
    return status;
}

static enum voco_status settle(struct conversion *conversion, const struct conversion_options *options)
{
    const struct stored_network *from = &conversion->from;
    conversion->names = from->space == NAMES_VOCO ? NAMES_VOCO : NAMES_MONAI;
    enum voco_status status =
        options->names != NULL ? name_space_from_name(&conversion->names, options->names) : VOCO_OK;
    if (status == VOCO_OK) {
        status = settle_completeness(conversion, options);
    }
    if (status == VOCO_OK) {
        status = settle_order(conversion, options);
    }
    if (status == VOCO_OK) {
        status = settle_channels(conversion, options->in_channels);
    }
    if (status != VOCO_OK) {
        return status;
    }
    const int stays = conversion->names == NAMES_VOCO && from->is_checkpoint && !options->weights_only &&
                      conversion->in_channels == from->in_channels && conversion->change != ORDER_CONSTANT;
    conversion->resumes = stays && stored_network_resumes(from);
    return stays && !conversion->resumes ? fail(VOCO_BAD_INPUT,
                                                "%s: a training checkpoint whose moments are not all there "
                                                "as float32; --weights-only leaves "
                                                "them out",
                                                from->path)
                                         : VOCO_OK;
}

/* ---- the plan ---- */

static int stage_of(const struct parameter *parameter)
{
    int stage = 0;
    (void)sscanf(parameter->name, "backbone.swinViT.layers%d", &stage);
    return stage - 1;
}

static int is_norm_weight(const struct parameter *parameter)
{
    return is_patch_merging_parameter(parameter) && strstr(parameter->name, ".norm.weight") != NULL;
}

static enum tensor_change change_of(const struct conversion *conversion, const struct parameter *parameter)
{
    if (reads_the_image(parameter) && conversion->in_channels != conversion->from.in_channels) {
        return TENSOR_REPEATED;
    }
    if (is_patch_merging_parameter(parameter) && conversion->change == ORDER_PERMUTED) {
        return TENSOR_PERMUTED;
    }
    return conversion->change == ORDER_CONSTANT && is_norm_weight(parameter) &&
                   conversion->norms_to_zero[stage_of(parameter)]
               ? TENSOR_ZEROED
               : TENSOR_COPIED;
}

static struct converted_tensor *append(struct conversion *conversion, const char *name)
{
    struct converted_tensor *tensor = &conversion->tensors[conversion->count++];
    (void)snprintf(tensor->name, sizeof tensor->name, "%s", name);
    return tensor;
}

/* The buffer that stands behind a table of relative positions. */
static void plan_buffer(struct conversion *conversion, const struct parameter *parameter)
{
    char own[parameter_name_size];
    if (parameter_buffer_after(own, parameter)) {
        struct converted_tensor *tensor = append(conversion, name_in_space(own, conversion->names));
        tensor->moment = -1;
        tensor->type = SAFETENSORS_I64;
        tensor->rank = 2;
        tensor->shape[0] = relative_position_tokens;
        tensor->shape[1] = relative_position_tokens;
        tensor->change = TENSOR_POSITION_INDEX;
    }
}

static void plan_tensor(struct conversion *conversion, const struct parameter *parameter,
                        const struct stored_tensor *source, int moment)
{
    const char *name = name_in_space(parameter->name, conversion->names);
    if (name == NULL) {
        conversion->left_out++;
        return;
    }
    struct converted_tensor *tensor = append(conversion, name);
    tensor->moment = moment;
    tensor->type = source->type;
    tensor->rank = source->rank;
    memcpy(tensor->shape, source->shape, sizeof tensor->shape);
    tensor->source = source;
    tensor->change = change_of(conversion, parameter);
    if (tensor->change == TENSOR_REPEATED) {
        tensor->type = SAFETENSORS_F32;
        tensor->shape[1] = conversion->in_channels;
        conversion->reshaped[conversion->reshaped_count++] = name;
    }
    if (moment < 0) {
        plan_buffer(conversion, parameter);
    }
}

static void plan_parameters(struct conversion *conversion)
{
    const struct stored_network *from = &conversion->from;
    for (int i = 0; i < from->table.count; i++) {
        const struct parameter *parameter = &from->table.entries[i];
        const char *name = name_in_space(parameter->name, conversion->names);
        if (from->parameters[i] != NULL) {
            conversion->loaded++;
            plan_tensor(conversion, parameter, from->parameters[i], -1);
        } else if (name != NULL) {
            conversion->missing[conversion->missing_count++] = name;
        }
    }
}

static void plan_moments(struct conversion *conversion)
{
    const struct stored_network *from = &conversion->from;
    for (int moment = 0; moment < moment_count; moment++) {
        for (int i = 0; i < from->table.count; i++) {
            const struct stored_tensor *source = from->moments[moment][i];
            conversion->loaded += source != NULL;
            if (source != NULL && conversion->resumes) {
                plan_tensor(conversion, &from->table.entries[i], source, moment);
            } else {
                conversion->left_out += source != NULL;
            }
        }
    }
}

static enum voco_status plan(struct conversion *conversion)
{
    const struct stored_network *from = &conversion->from;
    const size_t parameters = (size_t)from->table.count;
    conversion->tensors = calloc((2 + moment_count) * parameters, sizeof *conversion->tensors);
    conversion->missing = calloc(parameters, sizeof *conversion->missing);
    conversion->reshaped = calloc(parameters, sizeof *conversion->reshaped);
    conversion->unexpected = calloc(from->unexpected_count + 1, sizeof *conversion->unexpected);
    if (conversion->tensors == NULL || conversion->missing == NULL || conversion->reshaped == NULL ||
        conversion->unexpected == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", from->path);
    }
    plan_parameters(conversion);
    plan_moments(conversion);
    for (size_t i = 0; i < from->unexpected_count; i++) {
        conversion->unexpected[i] = from->unexpected[i]->name;
    }
    conversion->unexpected_count = from->unexpected_count;
    return VOCO_OK;
}

/* ---- the calls ---- */

enum voco_status conversion_open(struct conversion *conversion, const char *path,
                                 const struct conversion_options *options)
{
    *conversion = (struct conversion){0};
    enum voco_status status = stored_network_open(&conversion->from, path, options->prefix);
    if (status == VOCO_OK) {
        status = settle(conversion, options);
    }
    if (status == VOCO_OK) {
        status = plan(conversion);
    }
    if (status != VOCO_OK) {
        conversion_close(conversion);
    }
    return status;
}

void conversion_close(struct conversion *conversion)
{
    free(conversion->tensors);
    free(conversion->missing);
    free(conversion->unexpected);
    free(conversion->reshaped);
    stored_network_close(&conversion->from);
    *conversion = (struct conversion){0};
}
