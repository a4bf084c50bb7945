/* The names under which files hold the network's tensors.
 *
 *     voco    backbone.swinViT..., backbone.encoder1..., student..., teacher...
 *             the training code of VoCo, and voco's checkpoints
 *     monai   swinViT..., encoder1... to encoder4, encoder10
 *             MONAI's SwinUNETR(use_v2=True), and the published VoCo_{B,L,H}_SSL_head.pt
 *     swin    patch_embed..., layers1..., layers1c...
 *             the Swin transformer alone
 *
 * Each may stand behind words of dicts and of modules around the network:
 * "state_dict.module.backbone.swinViT". Older spellings are known too: swin_vit for swinViT, mlp.fc1 and
 * mlp.fc2 for mlp.linear1 and mlp.linear2. Sources: the loaders of github.com/Luffy03/Large-Scale-Medical
 * (Self-supervised/load.py and voco_train.py), MONAI's swin_unetr.py. */
#ifndef MODEL_CHECKPOINT_NAMES_H
#define MODEL_CHECKPOINT_NAMES_H

#include "base/name_order.h"
#include "model/parameters.h"

enum name_space { NAMES_VOCO, NAMES_MONAI, NAMES_SWIN };

/* "voco", "monai", "swin" */
const char *name_space_name(enum name_space space);

/* voco and monai: what files can be written in. VOCO_BAD_INPUT names them. */
enum voco_status name_space_from_name(enum name_space *space, const char *name);

/* The moments of AdamW with AMSGrad, as checkpoints name them: optimizer.exp_avg.NAME and so on. */
enum { moment_count = 3 };
extern const char *const moment_names[moment_count];

/* A parameter's or buffer's name in another space, a part of its own; NULL where the space has none: monai
 * and swin have no projectors, swin no encoders. */
const char *name_in_space(const char *own, enum name_space space);

/* The network's own names, sorted. They are the same for every size of the network. */
struct name_index {
    const struct parameter_table *table;
    struct name_order order;
};

/* The table must outlive the index. VOCO_NO_MEMORY; free with name_index_free. */
enum voco_status name_index_create(struct name_index *index, const struct parameter_table *table);
void name_index_free(struct name_index *index);

/* What a stored name stands for. */
struct known_name {
    int parameter; /* place in the table */
    int is_buffer; /* the relative_position_index behind that parameter (parameters.h) */
    int moment;    /* -1: the parameter itself, else of moment_names */
    enum name_space space;
    size_t wrapper; /* bytes of the name that stand before, "state_dict.module." */
};

/* 1 where the name ends with one of the network's. What stands before begins the name, ends with a point, and
 * is as short as can be. */
int recognise_name(struct known_name *known, const struct name_index *index, const char *name);

/* 1 where each word of the first `length` bytes, "state_dict.module.", is known to stand around a network:
 * state_dict, model_state_dict, model, network_weights, network, net, module, backbone, student. */
int is_known_wrapper(const char *wrapper, size_t length);

#endif
