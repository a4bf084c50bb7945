/* What a step would take on many GPUs: arithmetic from a recipe's shapes and from what is assumed of the
 * machines, nothing measured but what the caller puts in. For planning, and to see what limits a run.
 *
 * A step takes max(compute + shown + optimiser, data), where
 *
 * - compute: FLOPs of the GPU's crops (train/step_arithmetic.h; with sync_bn the projectors of all crops) by
 *   what a GPU reaches of its peak;
 * - reduction: 2 (n - 1) / n times the gradient's bytes by the bandwidth, and a message to each other member
 *   for each bucket: among the GPUs of a node, then, of what these have added, among the nodes, where each of
 *   a node's GPUs has its share of the array and of the network (dist/exchange_plan.h). `flat`, for
 *   comparison: among all GPUs at once, as if sums knew nothing of nodes;
 * - shown: what of that the step waits for. Gradients leave while the last pass of the backward runs, which
 * is two thirds of the compute time of crops_at_once crops; the last bucket cannot hide;
 * - optimiser: parameters and moments, read and written, by the memory's bandwidth. Sharded, a part of them,
 *   and half a reduction of the parameters;
 * - data: a core's seconds for a volume's crops times volumes by cores. It is made beside the step. */
#ifndef TRAIN_SCALE_MODEL_H
#define TRAIN_SCALE_MODEL_H

#include "train/recipe.h"

struct scale_assumptions {
    double peak_flops;   /* of a GPU, in the precision that is used */
    double efficiency;   /* the share of it that a step reaches */
    double memory_bytes; /* bytes per second of a GPU's memory */
    int gpus_per_node;
    double node_bytes;    /* bytes per second from GPU to GPU within a node, one way */
    int flat;             /* as if sums knew nothing of nodes */
    double network_bytes; /* bytes per second of a node's network, one way */
    double latency;       /* seconds of a message */
    int volumes_per_gpu;
    int crops_at_once;         /* through the encoder; 0: all of a GPU's */
    int cores_per_gpu;         /* that make batches */
    double seconds_per_volume; /* that a core takes to make a volume's crops from the cache */
    double compression;        /* of the cache: bytes decoded by bytes stored */
};

/* An H100 node: 989 TFLOP/s in bf16 of which 0.35 are reached, 3.35 TB/s, 8 GPUs with 450 GB/s between them,
 * a network of 50 GB/s (400 Gbit/s) a node, 10 us a message; 2 volumes a GPU, as published, 8 cores a GPU at
 * 0.05 s a volume, compression 2. */
struct scale_assumptions scale_assumptions_usual(void);

struct scale_estimate {
    int gpus, nodes, volumes;                            /* volumes of a step, over all */
    double compute, reduction, exposed, optimiser, data; /* seconds; exposed is the part of reduction that the
                                                            step waits for */
    double step;
    double volumes_per_second;
    double efficiency;    /* volumes per second of a GPU, beside one GPU alone */
    double storage_bytes; /* read from the cache per second, by all nodes */
};

struct scale_estimate scale_estimate_of(const struct recipe *recipe, const struct parameter_table *table,
                                        const struct scale_assumptions *assumptions, int gpus);

#endif
