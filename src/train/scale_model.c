#include "train/scale_model.h"

#include "train/gradient_exchange.h"
#include "train/step_arithmetic.h"

static const double backward_share = 2.0 / 3; /* of forward and backward together */
enum {
    moment_passes = 9,
    teacher_passes = 3
}; /* arrays that AdamW and the teacher's average read or write */

struct scale_assumptions scale_assumptions_usual(void)
{
    return (struct scale_assumptions){.peak_flops = 989e12,
                                      .efficiency = 0.35,
                                      .memory_bytes = 3.35e12,
                                      .gpus_per_node = 8,
                                      .node_bytes = 450e9,
                                      .network_bytes = 50e9,
                                      .latency = 10e-6,
                                      .volumes_per_gpu = 2,
                                      .cores_per_gpu = 8,
                                      .seconds_per_volume = 0.05,
                                      .compression = 2};
}

static int crops_of_volume(const struct recipe *recipe)
{
    return recipe->sampling.crops + sampling_bases(&recipe->sampling);
}

static double compute_seconds(const struct recipe *recipe, const struct scale_assumptions *a, int crops,
                              int gpus)
{
    const struct step_arithmetic own = step_arithmetic_of(&recipe->model, crops);
    const struct step_arithmetic all =
        step_arithmetic_of(&recipe->model, recipe->sync_bn ? crops * gpus : crops);
    const double flops = step_arithmetic_sum(&own) - own.projectors + all.projectors;
    return flops / (a->peak_flops * a->efficiency);
}

/* Slices of `bytes` in all to or from each of `members`, of which one has so much bandwidth. */
static double slices_seconds(const struct scale_assumptions *a, double bytes, double messages, int members,
                             double bandwidth)
{
    const double others = members - 1;
    return others / members * bytes / bandwidth + messages * others * a->latency;
}

/* One way: every GPU's own slice of what all have, or back. */
static double one_way_seconds(const struct scale_assumptions *a, double elements, double bytes_each, int gpus)
{
    const double bytes = elements * bytes_each, buckets = elements / bucket_elements + 1;
    const int node = gpus < a->gpus_per_node ? gpus : a->gpus_per_node;
    const int nodes = (gpus + a->gpus_per_node - 1) / a->gpus_per_node;
    if (nodes == 1) {
        return slices_seconds(a, bytes, buckets, gpus, a->node_bytes);
    }
    if (a->flat) {
        return slices_seconds(a, bytes, buckets, gpus, a->network_bytes / a->gpus_per_node);
    }
    return slices_seconds(a, bytes, buckets, node, a->node_bytes) +
           slices_seconds(a, bytes, buckets, nodes, a->network_bytes);
}

static double exposed_seconds(const struct scale_estimate *e, const struct scale_assumptions *a, int crops,
                              double elements)
{
    const int at_once = a->crops_at_once > 0 && a->crops_at_once < crops ? a->crops_at_once : crops;
    const double beside = backward_share * e->compute * at_once / crops;
    const double share = elements > bucket_elements ? bucket_elements / elements : 1;
    const double last = e->reduction * share;
    const double left = e->reduction - beside;
    return left > last ? left : last;
}

struct scale_estimate scale_estimate_of(const struct recipe *recipe, const struct parameter_table *table,
                                        const struct scale_assumptions *a, int gpus)
{
    const int crops = a->volumes_per_gpu * crops_of_volume(recipe);
    const double trained = (double)table->trained, teacher = (double)(table->total - table->trained);
    const double roi = recipe->model.roi, window = roi * roi * roi * sampling_bases(&recipe->sampling);
    struct scale_estimate e = {.gpus = gpus,
                               .nodes = (gpus + a->gpus_per_node - 1) / a->gpus_per_node,
                               .volumes = gpus * a->volumes_per_gpu,
                               .compute = compute_seconds(recipe, a, crops, gpus)};
    const int sharded = recipe->shard_optimizer && gpus > 1;
    if (gpus > 1) {
        const double bytes = recipe->reduce == RANKS_BF16 ? 2 : 4;
        e.reduction = (sharded ? 1 : 2) * one_way_seconds(a, trained, bytes, gpus);
        e.exposed = exposed_seconds(&e, a, crops, trained);
    }
    const double of_moments = sharded ? trained / gpus : trained;
    e.optimiser = (moment_passes * of_moments + teacher_passes * teacher) * sizeof(real) / a->memory_bytes +
                  (sharded ? one_way_seconds(a, trained, sizeof(real), gpus) : 0);
    e.data = a->seconds_per_volume * a->volumes_per_gpu / a->cores_per_gpu;
    const double step = e.compute + e.exposed + e.optimiser;
    e.step = step > e.data ? step : e.data;
    e.volumes_per_second = e.volumes / e.step;
    e.storage_bytes = e.volumes_per_second * window * (recipe->bits > 8 ? 2 : 1) / a->compression;
    e.efficiency = 1;
    if (gpus > 1) {
        const struct scale_estimate one = scale_estimate_of(recipe, table, a, 1);
        e.efficiency = e.volumes_per_second / gpus / one.volumes_per_second;
    }
    return e;
}
