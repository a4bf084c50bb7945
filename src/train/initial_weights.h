/* Weights that a new run begins with: `voco pretrain --init`.
 *
 * Taken from any file of train/stored_network.h: the encoder, which must be whole, and the projectors where
 * it has them; what it lacks stays as it was drawn. With `partial` a part of the encoder is enough, and
 * projectors of another width are left. Feature size and channels must be the run's; an order of patch
 * merging is rewritten where that keeps the function (stored_network_order_change). */
#ifndef TRAIN_INITIAL_WEIGHTS_H
#define TRAIN_INITIAL_WEIGHTS_H

#include "model/model.h"

/* Whether the file can be begun with; reads no weights but those of patch merging. VOCO_BAD_INPUT in one
 * line, and where the sizes are others with the recipe that would fit. */
enum voco_status initial_weights_check(const char *path, int partial, const struct model_config *config);

/* Overwrites what the file has of params (flat buffer, drawn before). Says through the log (base/log.h) what
 * was loaded and what not. */
enum voco_status initial_weights_load(float *params, const struct model *model, const char *path,
                                      int partial);

#endif
