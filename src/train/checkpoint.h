/* Checkpoints: everything that a run needs to go on exactly, in one safetensors file (formats/safetensors.h).
 *
 * Tensors: every parameter under its published name and every `relative_position_index` buffer, so that the
 * names, shapes and types without "optimizer." are those of the published state dict; and
 * `optimizer.exp_avg.NAME`, `optimizer.exp_avg_sq.NAME`, `optimizer.max_exp_avg_sq.NAME` for every trained
 * parameter. Metadata (strings): format = "voco-checkpoint-1", voco (version), feature_size, roi, projector,
 * patch_merging, step, optimizer_step, seed, config (the recipe as JSON). Nothing in the file depends on
 * when, where or under which name it was written.
 *
 * Any other file of the network opens, too (train/stored_network.h): safetensors or .pt, of voco, PyTorch or
 * MONAI, under any of the names of model/checkpoint_names.h. It gives its parameters; those of the encoder
 * alone where it holds no projectors. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "model/model.h"
#include "train/gradient_exchange.h"
#include "train/recipe.h"
#include "train/stored_network.h"
#include "train/training_state.h"

enum { checkpoint_path_size = 4096 };

/* Writes the state, whole or not at all: where the disk is full, the file that was there stays. */
enum voco_status checkpoint_save(const char *path, const struct model *model,
                                 const struct training_state *state, const struct recipe *recipe);

/* The same where ranks keep the moments in parts: collective, and rank 0 writes. The file is that of one
 * process. On the other ranks it always succeeds. */
enum voco_status checkpoint_save_shared(const char *path, const struct model *model,
                                        const struct training_state *state, const struct recipe *recipe,
                                        const struct gradient_exchange *exchange);

struct checkpoint {
    struct stored_network stored; /* what the file holds; stored.path is its name */
    struct model_config config;   /* of stored, with a projector of 1 where it holds none */
    int resumable; /* "voco-checkpoint-1", with moments and recipe; else it holds weights only */
    long long step, optimizer_step; /* 0 where it holds weights only */
    struct recipe recipe;           /* `base` with `config` where it holds weights only */
    char version[32];               /* of the voco that wrote it; empty: unknown */
};

/* Opens a checkpoint or a file of weights and reads what its metadata says. A file without patch_merging
 * counts as legacy, the order of the published checkpoints. VOCO_BAD_INPUT or VOCO_IO: one line with the
 * path; also for images of more than one channel. Close with checkpoint_close. */
enum voco_status checkpoint_open(struct checkpoint *checkpoint, const char *path);
void checkpoint_close(struct checkpoint *checkpoint);

/* Says through the log (base/log.h) which order of patch merging is taken where the file does not say it. */
void checkpoint_warn_of_patch_merging(const struct checkpoint *checkpoint);

/* For evaluation and replay: fills params (table.total), padding zeroed, from tensors of any type that
 * converts to float. A tensor that is missing or of another shape is VOCO_BAD_INPUT, named with both shapes.
 */
enum voco_status checkpoint_read_params(const struct checkpoint *checkpoint,
                                        const struct parameter_table *table, real *params);

/* The same of the encoder alone, for those who only embed; the rest of params is zeroed. */
enum voco_status checkpoint_read_encoder(const struct checkpoint *checkpoint,
                                         const struct parameter_table *table, real *params);

/* For resuming: fills the whole state. Everything must be there, float32, and the model's configuration that
 * of the checkpoint. */
enum voco_status checkpoint_read_state(const struct checkpoint *checkpoint, const struct model *model,
                                       struct training_state *state);

/* The same where the state holds this rank's part of the moments. Not collective. */
enum voco_status checkpoint_read_state_part(const struct checkpoint *checkpoint, const struct model *model,
                                            struct training_state *state,
                                            const struct gradient_exchange *exchange);

/* RUN/checkpoint-NNNNNNNN.safetensors of that step. VOCO_BAD_INPUT where it is too long. */
enum voco_status checkpoint_path(char path[checkpoint_path_size], const char *run, long long step);

/* The newest whole checkpoint in the run's folder. One that is damaged is passed over with a warning in the
 * log (base/log.h). VOCO_OK with an empty path where the folder holds no checkpoint at all; VOCO_BAD_INPUT
 * where it holds only damaged ones. */
enum voco_status checkpoint_newest(char path[checkpoint_path_size], const char *run);

/* What the user calls CKPT: a checkpoint's file, or a run's folder, of which the newest whole checkpoint is
 * meant. VOCO_IO where there is nothing of that name, VOCO_BAD_INPUT where the folder holds none. */
enum voco_status checkpoint_find(char path[checkpoint_path_size], const char *file_or_run);

/* Removes all but the newest `keep` whole checkpoints, and damaged ones that are older than the newest whole
 * one. */
enum voco_status checkpoint_prune(const char *run, int keep);

/* Removes the temporary files in the run's folder whose writer is dead. For the beginning of a run, when this
 * process writes nothing there: files of its own process number count as those of a dead one, since in a
 * container the numbers come back. */
enum voco_status checkpoint_remove_temporaries(const char *run);

#endif
