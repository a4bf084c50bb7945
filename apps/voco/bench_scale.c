#include "bench_scale.h"

#include "base/error.h"
#include "json_report.h"

#include <stdio.h>

static const int gpu_counts[] = {1, 8, 64, 512};
enum { count_count = sizeof gpu_counts / sizeof gpu_counts[0] };

static void print_table(const struct recipe *recipe, const char *name, const struct scale_assumptions *a,
                        const struct scale_estimate estimates[count_count])
{
    printf("recipe %s, %d volumes a GPU, gradients in %s%s%s%s: estimated, nothing of it is measured\n\n",
           name, a->volumes_per_gpu, recipe->reduce == RANKS_BF16 ? "bf16" : "float32",
           recipe->sync_bn ? ", sync-bn" : "", recipe->shard_optimizer ? ", moments in parts" : "",
           a->flat ? ", summed among all at once" : "");
    printf("%5s  %6s  %8s  %10s  %9s  %9s  %9s  %9s  %10s  %10s  %12s\n", "GPUs", "nodes", "volumes",
           "compute", "reduction", "shown", "optimiser", "data", "step", "efficiency", "cache, MB/s");
    for (int i = 0; i < count_count; i++) {
        const struct scale_estimate *e = &estimates[i];
        printf("%5d  %6d  %8d  %8.4f s  %7.4f s  %7.4f s  %7.4f s  %7.4f s  %8.4f s  %8.1f %%  %12.1f\n",
               e->gpus, e->nodes, e->volumes, e->compute, e->reduction, e->exposed, e->optimiser, e->data,
               e->step, 100 * e->efficiency, e->storage_bytes * 1e-6);
    }
    printf(
        "\nA GPU reaches %.2f of %.0f TFLOP/s and %.2f TB/s; %d to a node with %.0f GB/s between them, a "
        "node's "
        "network has\n%.0f GB/s; %.0f us a message; %d cores a GPU make a volume's crops in %.3f s each; the "
        "cache is compressed %.1f-fold.\n",
        a->efficiency, a->peak_flops * 1e-12, a->memory_bytes * 1e-12, a->gpus_per_node, a->node_bytes * 1e-9,
        a->network_bytes * 1e-9, a->latency * 1e6, a->cores_per_gpu, a->seconds_per_volume, a->compression);
    printf(
        "Shown is what of the reduction the step waits for; data is made beside the step and counts where it "
        "takes longer.\n");
}

static json_t *describe(const struct scale_estimate *e)
{
    return json_pack("{s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "gpus", e->gpus, "nodes",
                     e->nodes, "volumes", e->volumes, "compute_seconds", e->compute, "reduction_seconds",
                     e->reduction, "exposed_seconds", e->exposed, "optimiser_seconds", e->optimiser,
                     "data_seconds", e->data, "step_seconds", e->step, "volumes_per_second",
                     e->volumes_per_second, "efficiency", e->efficiency, "cache_bytes_per_second",
                     e->storage_bytes);
}

static enum voco_status print_json(const char *name, const struct scale_assumptions *a,
                                   const struct scale_estimate estimates[count_count])
{
    json_t *list = json_array();
    for (int i = 0; i < count_count; i++) {
        (void)json_array_append_new(list, describe(&estimates[i]));
    }
    json_t *report = json_pack(
        "{s:s, s:{s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:i, s:i, s:i, s:f, s:f}, s:o}", "recipe", name,
        "assumptions", "peak_flops", a->peak_flops, "efficiency", a->efficiency, "memory_bytes_per_second",
        a->memory_bytes, "gpus_per_node", a->gpus_per_node, "node_bytes_per_second", a->node_bytes,
        "network_bytes_per_second", a->network_bytes, "latency_seconds", a->latency, "volumes_per_gpu",
        a->volumes_per_gpu, "crops_at_once", a->crops_at_once, "cores_per_gpu", a->cores_per_gpu,
        "seconds_per_volume", a->seconds_per_volume, "compression", a->compression, "estimates", list);
    if (report == NULL) {
        return fail(VOCO_NO_MEMORY, "the result cannot be written as JSON");
    }
    json_report_dump(stdout, report);
    json_decref(report);
    return VOCO_OK;
}

enum voco_status print_scale(const struct recipe *recipe, const char *name,
                             const struct scale_assumptions *assumptions, int json)
{
    struct parameter_table table;
    struct scale_estimate estimates[count_count];
    const enum voco_status status = parameter_table_create(&table, &recipe->model);
    if (status != VOCO_OK) {
        return status;
    }
    for (int i = 0; i < count_count; i++) {
        estimates[i] = scale_estimate_of(recipe, &table, assumptions, gpu_counts[i]);
    }
    parameter_table_free(&table);
    if (json) {
        return print_json(name, assumptions, estimates);
    }
    print_table(recipe, name, assumptions, estimates);
    return VOCO_OK;
}
