#include "train/pretrain_run.h"

#include "base/error.h"
#include "store/checksum.h"
#include "train/run_choices.h"

#include <stdio.h>

/* Ranks whose processors round in other ways would drift apart unseen. */
static enum voco_status compare_parameters(const struct run *run)
{
    const uint32_t own = crc32c(run->state.params, run->model.table.total * sizeof(real));
    uint32_t of_first = own;
    ranks_broadcast(run->ranks, &of_first, sizeof of_first, 0);
    return own == of_first
               ? VOCO_OK
               : fail(VOCO_DIVERGED,
                      "step %lld: its parameters are not those of rank 0; are the machines of one kind? "
                      "(--shard-optimizer keeps them together)",
                      run->state.step);
}

static enum voco_status save_alone(const struct run *run, const char *path)
{
    return checkpoint_save(path, &run->model, &run->state, &run->folder.recipe);
}

/* Rank 0 writes; where the moments lie in parts, the others give theirs. */
static enum voco_status save_shared(const struct run *run, const char *path)
{
    enum voco_status status = ranks_agree(run->ranks, compare_parameters(run));
    if (status == VOCO_OK && run->exchange.sharded) {
        status = checkpoint_save_shared(path, &run->model, &run->state, &run->folder.recipe, &run->exchange);
    } else if (status == VOCO_OK && is_first(run)) {
        status = save_alone(run, path);
    }
    return status;
}

enum voco_status run_save(struct run *run)
{
    char path[checkpoint_path_size];
    enum voco_status status = ranks_agree(run->ranks, train_step_fetch_state(&run->step));
    if (status == VOCO_OK) { /* before the checkpoint, so that whoever goes on from it knows them */
        status = run_choices_save(&run->compute, run->ranks, run->options->out);
    }
    if (status == VOCO_OK) {
        status = checkpoint_path(path, run->options->out, run->state.step);
    }
    if (status == VOCO_OK) {
        status = is_shared(run) ? save_shared(run, path) : save_alone(run, path);
    }
    if (status == VOCO_OK && is_first(run)) {
        status = checkpoint_prune(run->options->out, run->folder.recipe.keep);
    }
    status = ranks_agree(run->ranks, status);
    if (status == VOCO_OK) {
        snprintf(run->report->checkpoint, sizeof run->report->checkpoint, "%s", path);
    }
    return status;
}
