/* The compute implementation of a run: what a recipe's section `machine` names. */
#ifndef TRAIN_MACHINE_H
#define TRAIN_MACHINE_H

#include "compute/compute.h"
#include "data/batch.h"

/* Whether there is anything to open, at little cost: for before long work. VOCO_UNSUPPORTED, with the cause,
 * where a GPU is asked for and there is none; else what compute_open says, but of a GPU. */
enum voco_status machine_check(const char *implementation, enum compute_precision precision);

/* As compute_open, which it calls. Says so in a log line where bf16 is asked of a machine that does not
 * multiply it. */
enum voco_status machine_open(struct compute *c, const char *implementation, int threads,
                              enum compute_precision precision);

/* The same on one of several GPUs (train/rank_gpu.h), as compute_open_on_gpu. */
enum voco_status machine_open_on_gpu(struct compute *c, const char *implementation, int gpu, int threads,
                                     enum compute_precision precision);

/* Where batches lie that it copies to its own memory; the heap where it computes in the host's. `c` must stay
 * open until they are freed. */
struct batch_memory machine_batch_memory(struct compute *c);

/* Their form, of volumes of at most so many levels: as stored where they are copied, which is a quarter or
 * half of the bytes, and less for the host to do. */
enum voxel_form machine_voxel_form(const struct compute *c, int levels);

#endif
