/* Conversion of checkpoints: other names, the other format, another order of patch merging, more channels.
 * What `voco convert` does.
 *
 *     conversion_open(&conversion, "VoCo_B_SSL_head.pt", &options);     looks, plans, refuses
 *     conversion_write(&conversion, "encoder.safetensors", TENSOR_FILE_SAFETENSORS);
 *     conversion_close(&conversion);
 *
 * Values are copied bit for bit where nothing asks for a change. A training checkpoint that is converted
 * under voco's names stays one: moments, step and recipe go along, and from .pt and back come the same bytes.
 * One tensor is in memory at a time (of the network `huge` the largest is 1.0 of 3.4 GB).
 *
 * safetensors: `__metadata__` is the checkpoint's own (train/checkpoint.h) where it stays a training
 * checkpoint, else format = "pt", voco, feature_size, roi, projector (where there is one), patch_merging,
 * in_channels (where it is not 1) and, where it is known, step. .pt: {"state_dict": OrderedDict, "optimizer":
 * {"exp_avg": {...}, ...}, "voco": {the same metadata; whole numbers as int, the rest as str}}. */
#ifndef TRAIN_CONVERSION_H
#define TRAIN_CONVERSION_H

#include "train/stored_network.h"

struct conversion_options {
    const char *prefix;       /* of the names in the file; NULL: found out */
    const char *names;        /* "voco", "monai"; NULL: as in the file, where swin becomes monai */
    const char *merging;      /* the order that the result is to have; NULL: that of the file */
    const char *trained_with; /* the order of a file that does not say; NULL: legacy */
    int in_channels;          /* of the image; 0: as in the file */
    int partial;              /* a part of the encoder is enough */
    int weights_only;         /* leave moments and recipe out */
};

struct converted_tensor;

/* Names in the lists are owned by the conversion. */
struct conversion {
    struct stored_network from;
    enum name_space names;
    enum patch_merging from_order, to_order;
    int order_assumed; /* neither the file nor the caller said how it was trained */
    enum order_change change;
    int in_channels;
    int resumes; /* the result is a training checkpoint */

    int loaded;           /* tensors of the network found, moments included */
    const char **missing; /* (missing_count) parameters that the result lacks, as it would name them */
    size_t missing_count;
    const char **unexpected; /* (unexpected_count) tensors of the file that are none of the network's */
    size_t unexpected_count;
    const char **reshaped; /* (reshaped_count) parameters that were given more channels */
    size_t reshaped_count;
    int left_out; /* tensors found that the result does not have: projectors, moments */

    /* private */
    int norms_to_zero[4];
    struct converted_tensor *tensors; /* (count) */
    size_t count;
};

/* Fails as stored_network_open does. VOCO_BAD_INPUT with the reason where a part of the encoder is missing
 * and that is not allowed, or the function cannot be kept. */
enum voco_status conversion_open(struct conversion *conversion, const char *path,
                                 const struct conversion_options *options);

/* Writes the result, whole or not at all; it replaces what is there. */
enum voco_status conversion_write(const struct conversion *conversion, const char *path,
                                  enum tensor_file_format format);
void conversion_close(struct conversion *conversion);

#endif
