#include "train/rank_gpu.h"

#include "base/error.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

/* The first two that have the same. */
static int find_pair(const struct rank_gpu *gpus, int size, int *first, int *second)
{
    for (*second = 1; *second < size; ++*second) {
        for (*first = 0; *first < *second; ++*first) {
            const struct rank_gpu *a = &gpus[*first], *b = &gpus[*second];
            if (!a->failed && !b->failed && memcmp(&a->identity, &b->identity, sizeof a->identity) == 0) {
                return 1;
            }
        }
    }
    return 0;
}

enum voco_status rank_gpus_check(const struct rank_gpu *gpus, int size, int may_share)
{
    int a = 0, b = 0;
    if (!find_pair(gpus, size, &a, &b)) {
        return VOCO_OK;
    }
    const int visible = gpus[a].visible;
    if (may_share) {
        log_line(LOG_WARNING,
                 "processes %d and %d share a GPU, its speed and its memory (VOCO_NCCL=0 allows it)", a, b);
        return VOCO_OK;
    }
    return fail(
        VOCO_BAD_INPUT,
        "processes %d and %d would compute on the same GPU: %d were started on a machine where they see "
        "%d GPU%s; start one process a GPU (mpirun -n %d; with Slurm as many --ntasks-per-node as "
        "--gpus-per-node)",
        a, b, gpus[a].host_size, visible, visible == 1 ? "" : "s", visible);
}

static enum voco_status choose(int *gpu, struct rank_gpu *own, const struct ranks *ranks)
{
    const char *why = NULL;
    *own = (struct rank_gpu){.visible = gpu_count(&why), .host_size = ranks->host_size};
    if (own->visible == 0) {
        return fail(VOCO_UNSUPPORTED, "there is no GPU to compute on: %s", why);
    }
    *gpu = ranks->host_rank % own->visible;
    return gpu_identify(&own->identity, *gpu);
}

enum voco_status rank_gpu_choose(int *gpu, const struct ranks *ranks)
{
    struct rank_gpu *all = calloc((size_t)ranks->size, sizeof *all);
    *gpu = 0;
    const enum voco_status has_memory =
        ranks_agree(ranks, all != NULL ? VOCO_OK : fail(VOCO_NO_MEMORY, "no memory for a list of GPUs"));
    if (all == NULL || has_memory != VOCO_OK) {
        free(all);
        return has_memory;
    }
    enum voco_status status = choose(gpu, &all[ranks->rank], ranks);
    all[ranks->rank].failed = status != VOCO_OK;
    ranks_share(ranks, all, sizeof *all);
    if (status == VOCO_OK) {
        status = rank_gpus_check(all, ranks->size, ranks_nccl_is_off());
    }
    free(all);
    return ranks_agree(ranks, status);
}
