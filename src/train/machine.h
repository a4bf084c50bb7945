/* The compute implementation of a run: what a recipe's section `machine` names. */
#ifndef TRAIN_MACHINE_H
#define TRAIN_MACHINE_H

#include "compute/compute.h"

/* As compute_open, which it calls. Says so in a log line where bf16 is asked of a machine that does not
 * multiply it. */
enum voco_status machine_open(struct compute *c, const char *implementation, int threads,
                              enum compute_precision precision);

#endif
