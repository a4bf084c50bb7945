/* A network in a file of tensors, whoever wrote it: voco, PyTorch, MONAI; safetensors or .pt
 * (formats/tensor_file.h), under any of the names of model/checkpoint_names.h.
 *
 *     stored_network_open(&stored, path, NULL);
 *     stored_network_require(&stored, GROUP_BACKBONE);
 *     stored_network_read_floats(&stored, i, values);       for every i of stored.table
 *     stored_network_close(&stored);
 *
 * Sizes follow from the shapes of the tensors and are compared with what the metadata says, where there is
 * some. Nothing is guessed: a file that holds several networks, or one behind words that are not known, is
 * refused until `prefix` says what to take. */
#ifndef TRAIN_STORED_NETWORK_H
#define TRAIN_STORED_NETWORK_H

#include "formats/tensor_file.h"
#include "model/checkpoint_names.h"

enum { stored_network_text_size = 256 };

/* "voco-checkpoint-1", the metadata's format in a checkpoint of voco */
extern const char checkpoint_format[];

struct stored_network {
    char *path;
    struct tensor_file file;
    enum name_space space;
    char prefix[stored_network_text_size]; /* what stands before each name, "state_dict.module." */

    struct model_config config;   /* roi 64 where the file does not say, projector 0 where it holds none */
    int says_patch_merging;       /* else config has legacy, the order of the published checkpoints */
    int in_channels;              /* of the image */
    int is_checkpoint;            /* of voco: its metadata has the format "voco-checkpoint-1" */
    struct parameter_table table; /* of config, with a projector of width 1 where the file holds none */

    /* (table.count) each: the tensors of the network, NULL where there is none */
    const struct stored_tensor **parameters;
    const struct stored_tensor **moments[moment_count];
    const struct stored_tensor **unexpected; /* (unexpected_count) all other tensors but position indices */
    size_t unexpected_count;
};

/* prefix: take the tensors whose names begin so ("" or ending with a point); NULL: find it out. Fails as
 * tensor_file_open does; VOCO_BAD_INPUT in one line where the file holds no encoder, several, or one behind
 * unknown words; where shapes do not belong together; where a tensor within the Swin transformer is not of
 * this network (other depths, say), or a relative_position_index is not that of a 7^3 window. Close with
 * stored_network_close, which is harmless on a failed or zeroed one. */
enum voco_status stored_network_open(struct stored_network *stored, const char *path, const char *prefix);
void stored_network_close(struct stored_network *stored);

/* How many parameters of the group the file lacks. */
int stored_network_missing(const struct stored_network *stored, enum parameter_group group);

/* VOCO_BAD_INPUT, with the first name and the count, where a parameter of the group is missing. */
enum voco_status stored_network_require(const struct stored_network *stored, enum parameter_group group);

/* Whether all moments are there, in float32 as the parameters: a run can go on from it. */
int stored_network_resumes(const struct stored_network *stored);

/* The value of a key of voco's metadata as text: of `__metadata__`, or in a .pt of the dict "voco". NULL
 * where there is none. `text` is used for numbers. */
const char *stored_network_metadata(const struct stored_network *stored, const char *key,
                                    char text[stored_network_text_size]);

/* A parameter that is there, as floats: out holds the tensor's count. */
enum voco_status stored_network_read_floats(const struct stored_network *stored, int parameter, float *out);

/* What becomes of the weights where patch merging is to gather in another order. */
enum order_change {
    ORDER_KEPT,
    ORDER_PERMUTED, /* the same function, exactly */
    ORDER_CONSTANT, /* mergings whose result does not depend on their input; the same function, exactly */
};

/* Says whether the function can be kept in the order `to` (model/patch_merging_order.h). norms_to_zero[stage]
 * (4): of ORDER_CONSTANT, the stages whose downsample.norm.weight must become 0. VOCO_BAD_INPUT with the
 * reason where there is no way. The mergings must be there. */
enum voco_status stored_network_order_change(enum order_change *change, int norms_to_zero[4],
                                             const struct stored_network *stored, enum patch_merging to);

#endif
