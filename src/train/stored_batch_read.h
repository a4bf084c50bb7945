/* Reading a batch that was stored in a file (train/stored_batch.h writes them). */
#ifndef TRAIN_STORED_BATCH_READ_H
#define TRAIN_STORED_BATCH_READ_H

#include "data/batch.h"

/* Reads `crops` (V, S, R, R, R), `bases` (V, K, R, R, R) and `labels` (V, S, K) from a safetensors file.
 * Crops and bases are F32, taken as they are, or U8, voxel = value / 255; labels are F32. VOCO_IO or
 * VOCO_BAD_INPUT: one line with the path. Free with batch_free. */
enum voco_status stored_batch_read(struct batch *batch, const char *path);

#endif
