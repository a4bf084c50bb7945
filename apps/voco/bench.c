/* voco bench: where the time of a training step goes on this machine, and how fast it could be. */
#include "base/byte_size.h"
#include "base/error.h"
#include "bench_scale.h"
#include "command_line.h"
#include "json_report.h"
#include "train/step_measurement.h"

#include <stdio.h>
#include <string.h>

struct request {
    const char *recipe;
    int batch;             /* 0: the recipe's */
    const char *precision; /* NULL: the recipe's */
    const char *device;    /* NULL: the recipe's */
    uint64_t memory;       /* 0: the recipe's */
    struct step_measurement_settings settings;
    int json;
    int scale;
    struct scale_assumptions assumptions;
    double tflops, node_gbytes, network_gbytes; /* as a person gives them */
};

static enum voco_status bench_scale(struct request *request, const struct recipe *recipe)
{
    struct scale_assumptions *a = &request->assumptions;
    a->peak_flops = request->tflops * 1e12;
    a->node_bytes = request->node_gbytes * 1e9;
    a->network_bytes = request->network_gbytes * 1e9;
    a->volumes_per_gpu = request->batch > 0 ? request->batch : recipe->volumes;
    return print_scale(recipe, request->recipe, a, request->json);
}

/* For scripts, and for people. */
static const struct {
    const char *name, *title;
} parts[step_parts] = {
    [PART_CONVOLUTION] = {"convolution", "convolution"},
    [PART_LINEAR] = {"linear", "linear"},
    [PART_ATTENTION] = {"attention", "attention"},
    [PART_NORMS] = {"norms", "norms"},
    [PART_ELEMENTWISE] = {"elementwise", "GELU, sums, gathering, pooling"},
    [PART_PROJECTORS_AND_LOSS] = {"projectors_and_loss", "projectors and loss"},
    [PART_OPTIMISER] = {"optimiser", "optimiser and teacher"},
    [PART_DATA] = {"data", "waiting for data"},
    [PART_REST] = {"rest", "the rest"},
};

/* ---- for scripts ---- */

static json_t *describe_part(const struct step_measurement *m, int part)
{
    const struct part_cost *cost = &m->parts[part];
    json_t *object = json_pack("{s:s, s:f, s:f}", "name", parts[part].name, "seconds", cost->seconds, "share",
                               cost->seconds / m->parts_seconds);
    if (object != NULL && cost->flops > 0 && cost->seconds > 0) {
        const double rate = cost->flops / cost->seconds;
        (void)json_object_set_new(object, "gflop", json_real(cost->flops * 1e-9));
        (void)json_object_set_new(object, "gflops", json_real(rate * 1e-9));
        (void)json_object_set_new(object, "share_of_peak", json_real(rate / m->peak_flops));
    }
    if (object != NULL && cost->bytes > 0 && cost->seconds > 0) {
        const double rate = cost->bytes / cost->seconds;
        (void)json_object_set_new(object, "gbytes_per_second", json_real(rate * 1e-9));
        (void)json_object_set_new(object, "share_of_memory", json_real(rate / m->machine.bytes_per_second));
    }
    return object;
}

static enum voco_status print_json(const struct request *request, const struct step_measurement *m)
{
    json_t *list = json_array();
    for (int part = 0; part < step_parts; part++) {
        (void)json_array_append_new(list, describe_part(m, part));
    }
    json_t *report = json_pack(
        "{s:s, s:i, s:i, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, "
        "s:f, s:o}",
        "recipe", request->recipe, "volumes", m->volumes, "crops", m->crops, "precision",
        compute_precision_names[m->precision], "threads", m->machine.threads, "steps", m->steps,
        "seconds_per_step", m->seconds, "fastest_step", m->fastest, "slowest_step", m->slowest,
        "crops_per_second", m->crops / m->seconds, "peak_memory_bytes", (json_int_t)m->peak_memory,
        "gflop_per_step", m->useful_flops * 1e-9, "gflops_useful", m->useful_flops / m->seconds * 1e-9,
        "gflop_repeated", m->repeated_flops * 1e-9, "peak_gflops", m->peak_flops * 1e-9,
        "peak_gflops_float32", m->machine.float32_flops * 1e-9, "peak_gflops_bf16",
        m->machine.bf16_flops * 1e-9, "peak_gflops_tf32", m->machine.tf32_flops * 1e-9, "vectors",
        m->machine.isa, "memory_gbytes_per_second", m->machine.bytes_per_second * 1e-9, "parts", list);
    if (report == NULL) {
        return fail(VOCO_NO_MEMORY, "the result cannot be written as JSON");
    }
    (void)json_object_set_new(report, "cpu_seconds_per_step", json_real(m->cpu_seconds));
    (void)json_object_set_new(report, "seconds_per_batch", json_real(m->seconds_per_batch));
    json_report_dump(stdout, report);
    json_decref(report);
    return VOCO_OK;
}

/* ---- for people ---- */

/* "  123.4     56 %" of a rate and the best there is. */
static void print_rate(double amount, double seconds, double best)
{
    printf("  %8.1f  %6.0f %%", amount / seconds * 1e-9, 100 * amount / seconds / best);
}

static void print_row(const char *title, const struct part_cost *cost, const struct step_measurement *m)
{
    printf("%-30s  %9.4f  %6.1f %%", title, cost->seconds, 100 * cost->seconds / m->parts_seconds);
    if (cost->flops > 0 && cost->seconds > 0) {
        print_rate(cost->flops, cost->seconds, m->peak_flops);
    } else if (cost->bytes > 0 && cost->seconds > 0) {
        printf("%20s", "");
        print_rate(cost->bytes, cost->seconds, m->machine.bytes_per_second);
    }
    printf("\n");
}

static void print_table(const struct request *request, const struct step_measurement *m)
{
    char text[byte_size_room];
    printf("recipe %s, %s, %d thread%s: %d volume%s, %d crops a step\n", request->recipe,
           compute_precision_names[m->precision], m->machine.threads, m->machine.threads == 1 ? "" : "s",
           m->volumes, m->volumes == 1 ? "" : "s", m->crops);
    printf("%.3f s per step, median of %d after a warm-up (%.3f to %.3f); %.2f crops a second\n\n",
           m->seconds, m->steps, m->fastest, m->slowest, m->crops / m->seconds);
    if (m->parts_seconds != m->seconds) {
        printf("Parts of a step of %.3f s in which each operation was waited for:\n", m->parts_seconds);
    }
    printf("%-30s  %9s  %8s  %8s  %8s  %8s  %8s\n", "part", "seconds", "share", "GFLOP/s", "of peak", "GB/s",
           "of peak");
    for (int part = 0; part < step_parts; part++) {
        print_row(parts[part].title, &m->parts[part], m);
    }
    const struct part_cost whole = {.seconds = m->seconds, .flops = m->useful_flops};
    print_row("whole step", &whole, m);
    printf("\nThis machine at its best: %.1f GFLOP/s in float32 (%s)", m->machine.float32_flops * 1e-9,
           m->machine.isa);
    if (m->machine.bf16_flops > 0) {
        printf(", %.1f in bf16", m->machine.bf16_flops * 1e-9);
    }
    if (m->machine.tf32_flops > 0) {
        printf(", %.1f in tf32", m->machine.tf32_flops * 1e-9);
    }
    printf("; %.1f GB/s to and from memory.\n", m->machine.bytes_per_second * 1e-9);
    printf("A step needs %.1f GFLOP.", m->useful_flops * 1e-9);
    if (m->repeated_flops > 0.01 * m->useful_flops) {
        printf(" %.1f more were forward passes made again, because memory keeps the activations\nof some "
               "crops only.",
               m->repeated_flops * 1e-9);
    }
    printf("\nPeak memory: %s.", format_byte_size(text, (double)m->peak_memory));
    printf(" A loader thread makes a batch in %.4f s, beside the computation.\n", m->seconds_per_batch);
}

static enum voco_status bench(struct request *request)
{
    struct recipe recipe;
    struct step_measurement measurement;
    enum voco_status status = recipe_load(&recipe, request->recipe);
    if (status != VOCO_OK) {
        return status;
    }
    recipe.volumes = request->batch > 0 ? request->batch : recipe.volumes;
    recipe.memory = request->memory > 0 ? request->memory : recipe.memory;
    if (request->device != NULL) {
        (void)snprintf(recipe.compute, sizeof recipe.compute, "%s", request->device);
    }
    if (request->precision != NULL) {
        status = compute_precision_from_name(&recipe.precision, request->precision);
    }
    if (status == VOCO_OK) {
        status = recipe_check(&recipe);
    }
    if (status == VOCO_OK && request->scale) {
        return bench_scale(request, &recipe);
    }
    if (status == VOCO_OK) {
        status = step_measurement_take(&measurement, &recipe, &request->settings);
    }
    if (status == VOCO_OK && request->json) {
        return print_json(request, &measurement);
    }
    if (status == VOCO_OK) {
        print_table(request, &measurement);
    }
    return status;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    struct request request = {.recipe = "base",
                              .settings.steps = 5,
                              .assumptions = scale_assumptions_usual(),
                              .tflops = 989,
                              .node_gbytes = 450,
                              .network_gbytes = 50};
    const struct option_description descriptions[] = {
        {"recipe", OPTION_TEXT, &request.recipe, "tiny|base|large|huge|FILE",
         "one that voco has, or a YAML file", 0, 0},
        {"batch", OPTION_INT, &request.batch, "V", "volumes per step; the recipe's where not given", 1, 1024},
        {"steps", OPTION_INT, &request.settings.steps, "N", "how many steps, of which the median is shown", 1,
         10000},
        {"precision", OPTION_TEXT, &request.precision, "float32|bf16|tf32",
         "of the encoder, in place of the recipe's", 0, 0},
        {"device", OPTION_TEXT, &request.device, "cpu|cuda", "where to compute; cuda: an NVIDIA GPU", 0, 0},
        {"memory", OPTION_BYTES, &request.memory, "SIZE",
         "the most that the program takes, as 4G (of the GPU's with --device cuda); three quarters of what "
         "is free where not given",
         1, 1e15},
        {"threads", OPTION_INT, &request.settings.threads, "N",
         "of the computation; all cores where not given", 1, 4096},
        {"scale", OPTION_FLAG, &request.scale, NULL,
         "measure nothing: estimate steps of 1, 8, 64 and 512 GPUs; --batch is a GPU's", 0, 0},
        {"gpu-tflops", OPTION_REAL, &request.tflops, "X", "of a GPU at its peak, for --scale", 1e-3, 1e6},
        {"gpu-efficiency", OPTION_REAL, &request.assumptions.efficiency, "X",
         "the share of it that a step reaches", 1e-4, 1},
        {"gpus-per-node", OPTION_INT, &request.assumptions.gpus_per_node, "N", "for --scale", 1, 1024},
        {"node-bandwidth", OPTION_REAL, &request.node_gbytes, "X", "GB/s between the GPUs of a node", 1e-3,
         1e6},
        {"network-bandwidth", OPTION_REAL, &request.network_gbytes, "X", "GB/s of a node's network", 1e-3,
         1e6},
        {"flat", OPTION_FLAG, &request.assumptions.flat, NULL,
         "for comparison: sums among all GPUs at once, not within the nodes first as voco takes them", 0, 0},
        {"seconds-per-volume", OPTION_REAL, &request.assumptions.seconds_per_volume, "X",
         "that a core takes for a volume's crops; without --scale it is measured, as a batch", 1e-6, 1e4},
        {"json", OPTION_FLAG, &request.json, NULL, "the result as JSON", 0, 0},
        {0},
    };
    int exit_status = exit_ok;
    if (command_line_parse(verb, descriptions, argc, argv, NULL, 0, 0, &exit_status) < 0) {
        return exit_status;
    }
    enum compute_precision precision;
    if (request.precision != NULL) {
        const enum voco_status status = compute_precision_from_name(&precision, request.precision);
        if (status != VOCO_OK) {
            (void)report_failure(verb, add_context(status, "--precision"));
            return exit_usage;
        }
    }
    return report_failure(verb, bench(&request));
}

const struct verb verb_bench = {
    .name = "bench",
    .arguments = "[options]",
    .summary = "where the time of a training step goes on this machine, and how fast it could be",
    .details = "Takes training steps as voco pretrain does, on a phantom in memory: no data and no files are "
               "needed. The table "
               "has a row\n"
               "for each part of a step; together they are the step. The first five are the encoder's, "
               "forward and backward.\n\n"
               "GFLOP/s count what the method needs, forward and backward once: no padding, nothing that is "
               "computed again to "
               "save\n"
               "memory. Convolutions count as the direct sum of products, also where a faster algorithm "
               "(Winograd's) makes it of "
               "fewer,\n"
               "so that they can pass the machine's peak, which is measured: multiply-adds in registers, all "
               "threads. Norms and "
               "such are\n"
               "bound by memory: GB/s count every array that an operation reads or writes once, beside a "
               "plain copying sum "
               "(triad).\nWhat goes along with a linear layer in one operation counts as linear: an MLP's "
               "norm and GELU, where "
               "there is one for it.\n\n"
               "A part with a large share and a small part of the peak is what is slow. Other programs at "
               "work disturb it all; "
               "where\n"
               "cores are shared, OMP_WAIT_POLICY=passive helps.\n",
    .examples = "  voco bench\n"
                "  voco bench --recipe tiny --steps 20\n"
                "  voco bench --recipe mine.yaml --batch 4 --threads 16 --json\n"
                "  voco bench --recipe huge --scale --network-bandwidth 25\n",
    .run = run,
};
