/* A batch as a file, for `voco replay`: safetensors with `crops` [V, S, R, R, R], `bases` [V, K, R, R, R]
 * (axes x, y, z) and `labels` [V, S, K]. */
#ifndef TRAIN_STORED_BATCH_H
#define TRAIN_STORED_BATCH_H

#include "data/batch.h"
#include "model/parameters.h"

/* Writes a batch with float32 crops, as they enter the network, and the model's sizes as metadata. */
enum voco_status stored_batch_save(const char *path, const struct batch *batch,
                                   const struct model_config *config);

/* Reads `crops` (V, S, R, R, R), `bases` (V, K, R, R, R) and `labels` (V, S, K) from a safetensors file.
 * Crops and bases are F32, taken as they are, or U8, voxel = value / 255; labels are F32. VOCO_IO or
 * VOCO_BAD_INPUT: one line with the path. Free with batch_free. */
enum voco_status stored_batch_read(struct batch *batch, const char *path);

#endif
