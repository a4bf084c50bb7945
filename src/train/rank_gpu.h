/* Which GPU each rank of a job computes on: one for each, as mpirun and srun start processes on a machine. */
#ifndef TRAIN_RANK_GPU_H
#define TRAIN_RANK_GPU_H

#include "compute/gpus.h"
#include "dist/ranks.h"

/* The number of this rank's GPU among those that it sees: that of its place among the ranks of its machine.
 * Where it sees fewer than these are, as under Slurm's binding of a GPU to each task, they are dealt out. Two
 * ranks with the same GPU are VOCO_BAD_INPUT, in the same words on all ranks, unless VOCO_NCCL=0 allows it
 * (ranks_join_device), where a log line says so. VOCO_UNSUPPORTED where there is no GPU. Collective. */
enum voco_status rank_gpu_choose(int *gpu, const struct ranks *ranks);

/* What one rank has chosen. */
struct rank_gpu {
    struct gpu_identity identity;
    int visible;   /* GPUs that it sees */
    int host_size; /* ranks on its machine */
    int failed;    /* it has chosen none */
};

/* Whether no two of them have chosen the same, as rank_gpu_choose has it. */
enum voco_status rank_gpus_check(const struct rank_gpu *gpus, int size, int may_share);

#endif
