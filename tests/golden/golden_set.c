#include "golden_set.h"

#include "formats/safetensors.h"
#include "train/replay.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { path_size = 1024, most_gradients = 512, steps = 2 };

struct comparison {
    struct safetensors expected, own;
    char folder[64]; /* temporary, of the output */
    char out[96];
};

/* ---- tensors of both files ---- */

static float *read_tensor(const struct safetensors *file, const struct safetensors_tensor *tensor)
{
    float *values = malloc((tensor->count + 1) * sizeof *values);
    assert_non_null(values);
    assert_int_equal(safetensors_read_floats(file, tensor, values), VOCO_OK);
    return values;
}

/* Both versions of an expected tensor, to be freed. */
struct pair {
    float *expected, *own;
    size_t count;
};

static struct pair read_pair(const struct comparison *c, const struct safetensors_tensor *tensor)
{
    const struct safetensors_tensor *own = NULL;
    if (safetensors_require(&own, &c->own, tensor->name, tensor->rank, tensor->shape) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    return (struct pair){read_tensor(&c->expected, tensor), read_tensor(&c->own, own), tensor->count};
}

static void free_pair(struct pair *pair)
{
    free(pair->expected);
    free(pair->own);
}

static double norm(const float *x, size_t count)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        squares += (double)x[i] * x[i];
    }
    return sqrt(squares);
}

static double relative_difference(const float *own, const float *expected, size_t count)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        squares += ((double)own[i] - expected[i]) * ((double)own[i] - expected[i]);
    }
    return squares == 0 ? 0 : sqrt(squares) / norm(expected, count);
}

static double tensor_difference(const struct comparison *c, const char *name)
{
    const struct safetensors_tensor *tensor = safetensors_find(&c->expected, name);
    assert_non_null(tensor);
    struct pair pair = read_pair(c, tensor);
    const double difference = relative_difference(pair.own, pair.expected, pair.count);
    free_pair(&pair);
    return difference;
}

/* The largest of the four losses' own relative differences. */
static double loss_difference(const struct comparison *c, const char *name)
{
    struct pair pair = read_pair(c, safetensors_find(&c->expected, name));
    double worst = 0;
    assert_int_equal(pair.count, 4);
    for (size_t i = 0; i < pair.count; i++) {
        worst = fmax(worst, fabs((double)pair.own[i] - pair.expected[i]) / fabs((double)pair.expected[i]));
    }
    free_pair(&pair);
    return worst;
}

static void check(const char *what, double difference, double bound)
{
    printf("  %-32s %8.2g   bound %.0e\n", what, difference, bound);
    if (!(difference <= bound)) {
        fail_msg("%s: %g is more than %g", what, difference, bound);
    }
}

/* ---- gradients that are zero but for rounding ---- */

static int ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name), tail = strlen(ending);
    return length >= tail && strcmp(name + length - tail, ending) == 0;
}

/* BatchNorm follows the first two. Only InstanceNorm's epsilon keeps the third from being scale-free: its
 * gradient counts as none where it is that small in the stored set, `share` of the whole gradient's norm. */
static int has_no_gradient(const char *parameter, double share)
{
    return ends_with(parameter, ".layer1.0.bias") || ends_with(parameter, ".layer2.0.bias") ||
           (ends_with(parameter, "encoder1.layer.conv3.conv.weight") && share < 1e-4);
}

/* Softmax does not see a bias of the keys. */
static int has_no_gradient_for_keys(const char *parameter)
{
    return ends_with(parameter, "attn.qkv.bias");
}

/* Makes equal what lies in the middle third of `size` elements, of which the pair holds `count` samples. */
static void ignore_keys(struct pair *pair, size_t size)
{
    for (size_t i = 0; i < pair->count; i++) {
        const size_t place = pair->count < 2 ? 0 : i * (size - 1) / (pair->count - 1);
        if (place >= size / 3 && place < size / 3 * 2) {
            pair->own[i] = pair->expected[i];
        }
    }
}

/* ---- the two replays ---- */

static void replay_set(struct comparison *c, const char *folder, const char *name, int given_gradients,
                       const char *precision)
{
    char batch[path_size], weights[path_size], expected[path_size];
    struct step_result results[steps];
    (void)snprintf(batch, sizeof batch, "%s/%s.batch.safetensors", folder, name);
    (void)snprintf(weights, sizeof weights, "%s/%s.weights.safetensors", folder, name);
    (void)snprintf(expected, sizeof expected, "%s/%s.expected.safetensors", folder, name);
    (void)snprintf(c->folder, sizeof c->folder, "/tmp/voco-golden-XXXXXX");
    assert_non_null(mkdtemp(c->folder));
    (void)snprintf(c->out, sizeof c->out, "%s/out.safetensors", c->folder);
    const char *device = getenv("VOCO_GOLDEN_DEVICE"); /* cuda: on a machine that has a GPU */
    const struct replay_options options = {
        .batch = batch,
        .checkpoint = weights,
        .out = c->out,
        .gradients = given_gradients ? expected : NULL,
        .steps = steps,
        .learning_rate = 1e-3,
        .weight_decay = 0.01,
        .compute = device != NULL ? device : "cpu",
        .precision = precision,
    };
    if (replay(&options, results) != VOCO_OK || safetensors_open(&c->own, c->out) != VOCO_OK ||
        safetensors_open(&c->expected, expected) != VOCO_OK) {
        (void)rmdir(c->folder);
        fail_msg("%s", voco_error_message());
    }
    /* The open files stay readable: nothing is left behind where a check fails. */
    (void)unlink(c->out);
    (void)rmdir(c->folder);
    printf("%s, %s%s\n", name, precision, given_gradients ? ", given step0/grad" : "");
}

static void close_files(struct comparison *c)
{
    safetensors_close(&c->own);
    safetensors_close(&c->expected);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double whole_gradient_norm(const struct comparison *c)
{
    double squares = 0;
    for (size_t i = 0; i < c->expected.count; i++) {
        if (strncmp(c->expected.tensors[i].name, "step0/grad/", 11) == 0) {
            float *values = read_tensor(&c->expected, &c->expected.tensors[i]);
            squares += pow(norm(values, c->expected.tensors[i].count), 2);
            free(values);
        }
    }
    return sqrt(squares);
}

static void check_gradients_of_first_step(const struct comparison *c)
{
    double differences[most_gradients], worst = 0, worst_student = 0, worst_zero = 0;
    const char *worst_name = "";
    const double whole = whole_gradient_norm(c);
    int count = 0;
    for (size_t i = 0; i < c->expected.count; i++) {
        const struct safetensors_tensor *tensor = &c->expected.tensors[i];
        const char *parameter = tensor->name + 11;
        if (strncmp(tensor->name, "step0/grad/", 11) != 0) {
            continue;
        }
        struct pair pair = read_pair(c, tensor);
        if (has_no_gradient(parameter, norm(pair.expected, pair.count) / whole)) {
            worst_zero = fmax(worst_zero, norm(pair.own, pair.count) / whole);
        } else {
            if (has_no_gradient_for_keys(parameter)) {
                worst_zero = fmax(worst_zero, norm(pair.own + pair.count / 3, pair.count / 3) / whole);
                ignore_keys(&pair, pair.count);
            }
            const double difference = relative_difference(pair.own, pair.expected, pair.count);
            assert_true(count < most_gradients);
            differences[count++] = difference;
            if (!(difference <= worst)) {
                worst = difference;
                worst_name = parameter;
            }
            if (strncmp(parameter, "student.", 8) == 0 && ends_with(parameter, "weight")) {
                worst_student = fmax(worst_student, difference);
            }
        }
        free_pair(&pair);
    }
    printf("  %d gradients, the most different is that of %s\n", count, worst_name);
    check("step 0 gradients, worst", worst, 2e-2);
    check("step 0 gradients, median", median(differences, count), 5e-3);
    check("step 0 gradients, student weights", worst_student, 1e-4);
    check("step 0 gradients that are zero", worst_zero, 1e-4);
}

/* The largest difference of the parameters after a step. Without `all` those whose gradient is zero are left
 * out. */
static double params_difference(const struct comparison *c, int step, int all)
{
    char prefix[32], whole[256];
    double worst = 0;
    const int length = snprintf(prefix, sizeof prefix, "step%d/paramsample/", step);
    for (size_t i = 0; i < c->expected.count; i++) {
        const struct safetensors_tensor *tensor = &c->expected.tensors[i];
        const char *parameter = tensor->name + length;
        if (strncmp(tensor->name, prefix, (size_t)length) != 0 || (!all && has_no_gradient(parameter, 0.0))) {
            continue;
        }
        struct pair pair = read_pair(c, tensor);
        (void)snprintf(whole, sizeof whole, "step%d/param/%s", step, parameter);
        const struct safetensors_tensor *own = safetensors_find(&c->own, whole);
        assert_non_null(own);
        if (!all && has_no_gradient_for_keys(parameter)) {
            ignore_keys(&pair, own->count);
        }
        const double difference = relative_difference(pair.own, pair.expected, pair.count);
        worst = difference <= worst ? worst : difference;
        free_pair(&pair);
    }
    return worst;
}

static void check_outputs(const struct comparison *c, int step, double embedding, double projection,
                          double loss)
{
    char name[64], what[64];
    static const char *const outputs[] = {"embedding", "student", "teacher"};
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "step%d/%s", step, outputs[i]);
        (void)snprintf(what, sizeof what, "step %d %s", step, outputs[i]);
        check(what, tensor_difference(c, name), i == 0 ? embedding : projection);
    }
    (void)snprintf(name, sizeof name, "step%d/loss", step);
    (void)snprintf(what, sizeof what, "step %d losses", step);
    check(what, loss_difference(c, name), loss);
}

void check_own_gradients(const char *folder, const char *name)
{
    struct comparison c = {0};
    replay_set(&c, folder, name, 0, "float32");
    check_outputs(&c, 0, 1e-5, 3e-5, 1e-5);
    check_gradients_of_first_step(&c);
    check("step 0 parameters", params_difference(&c, 0, 0), 5e-2);
    check_outputs(&c, 1, 5e-2, 5e-2, 2e-2);
    check("step 1 parameters", params_difference(&c, 1, 0), 5e-2);
    close_files(&c);
}

void check_given_gradients(const char *folder, const char *name)
{
    struct comparison c = {0};
    replay_set(&c, folder, name, 1, "float32");
    check("step 0 parameters, all", params_difference(&c, 0, 1), 1e-6);
    check_outputs(&c, 1, 1e-5, 3e-5, 1e-5);
    close_files(&c);
}

static void require_same_tensors(const struct safetensors *a, const struct safetensors *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        float *first = read_tensor(a, &a->tensors[i]), *second = read_tensor(b, &b->tensors[i]);
        assert_memory_equal(first, second, a->tensors[i].count * sizeof *first);
        free(first);
        free(second);
    }
}

void check_bf16(const char *folder, const char *name, double embedding, double losses)
{
    struct comparison c = {0}, again = {0};
    replay_set(&c, folder, name, 0, "bf16");
    check("step 0 embedding", tensor_difference(&c, "step0/embedding"), embedding);
    check("step 0 student", tensor_difference(&c, "step0/student"), 2e-1);
    check("step 0 teacher", tensor_difference(&c, "step0/teacher"), 2e-1);
    check("step 0 losses together", tensor_difference(&c, "step0/loss"), losses);
    replay_set(&again, folder, name, 0, "bf16");
    require_same_tensors(&c.own, &again.own);
    close_files(&c);
    close_files(&again);
}
