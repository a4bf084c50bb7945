/* The encoder in float: against the embeddings that PyTorch computed, one implementation against the other,
 * and crops against each other. */
#include "base/philox.h"
#include "formats/safetensors.h"
#include "model/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct network {
    struct model model;
    struct compute compute;
    struct arena arena;
    float *params;
};

static void open_in(struct network *net, const struct model_config *config, const char *implementation,
                    enum compute_precision precision)
{
    assert_int_equal(model_create(&net->model, config), VOCO_OK);
    assert_int_equal(compute_open(&net->compute, implementation, 2, precision), VOCO_OK);
    assert_int_equal(arena_open(&net->arena, (size_t)4 << 30), VOCO_OK);
    net->params = malloc(net->model.table.total * sizeof *net->params);
    assert_non_null(net->params);
    parameters_initialise(net->params, &net->model.table, 5);
}

static void open_network(struct network *net, const struct model_config *config, const char *implementation)
{
    open_in(net, config, implementation, PRECISION_FLOAT32);
}

static void close_network(struct network *net)
{
    free(net->params);
    arena_close(&net->arena);
    compute_close(&net->compute);
    model_free(&net->model);
}

static float *zeroes(size_t count)
{
    float *array = calloc(count, sizeof *array);
    assert_non_null(array);
    return array;
}

static float *random_crops(const struct model_config *config, int n)
{
    const struct random_key key = {.seed = 3, .purpose = RANDOM_TEST};
    const size_t count = (size_t)n * (size_t)config->roi * (size_t)config->roi * (size_t)config->roi;
    float *crops = zeroes(count);
    for (size_t i = 0; i < count; i++) {
        crops[i] = random_uniform(&key, (uint32_t)i);
    }
    return crops;
}

/* |found - expected| / |expected| */
static double distance(const float *found, const float *expected, size_t count)
{
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < count; i++) {
        const double d = (double)found[i] - (double)expected[i];
        difference += d * d;
        norm += (double)expected[i] * (double)expected[i];
    }
    return sqrt(difference / norm);
}

static void crops_pass_independently_and_keeping_changes_no_bit(void **state)
{
    const char *implementation = *state;
    const struct model_config config = {3, 48, 16, PATCH_MERGING_LEGACY};
    enum { n = 2 };
    const size_t features = (size_t)model_embedding_size(&config);
    const size_t voxels = (size_t)48 * 48 * 48;
    struct network net;
    open_network(&net, &config, implementation);
    float *crops = random_crops(&config, n);
    float *together = zeroes(n * features);
    float *kept_too = zeroes(n * features);
    float *alone = zeroes(n * features);
    struct encoder_activations *kept = NULL;
    assert_int_equal(
        encoder_forward(&net.model, &net.compute, &net.arena, net.params, together, crops, n, NULL), VOCO_OK);
    assert_int_equal(arena_mark(&net.arena).used, 0);
    assert_int_equal(
        encoder_forward(&net.model, &net.compute, &net.arena, net.params, kept_too, crops, n, &kept),
        VOCO_OK);
    assert_true(arena_mark(&net.arena).used > 0);
    arena_reset(&net.arena);
    assert_memory_equal(together, kept_too, n * features * sizeof(float));
    for (int i = 0; i < n; i++) {
        assert_int_equal(encoder_forward(&net.model, &net.compute, &net.arena, net.params,
                                         alone + i * features, crops + i * voxels, 1, NULL),
                         VOCO_OK);
        assert_true(distance(alone + i * features, together + i * features, features) < 2e-6);
    }
    /* They do differ from one another. */
    assert_true(distance(alone, alone + features, features) > 1e-4);
    free(crops);
    free(together);
    free(kept_too);
    free(alone);
    close_network(&net);
}

struct gradients {
    float *embedding, *grads, *dembedding, *z;
    size_t embedding_count, z_count;
};

static void free_gradients(struct gradients *g)
{
    free(g->embedding);
    free(g->grads);
    free(g->dembedding);
    free(g->z);
}

/* One pass of 3 crops there and back. */
static struct gradients pass_through(const char *implementation, const struct model_config *config,
                                     const float *crops, int n, struct parameter_table *table)
{
    struct network net;
    open_network(&net, config, implementation);
    struct gradients g = {.embedding_count = (size_t)n * (size_t)model_embedding_size(config),
                          .z_count = (size_t)n * (size_t)config->projector};
    g.embedding = zeroes(g.embedding_count);
    g.dembedding = zeroes(g.embedding_count);
    g.z = zeroes(g.z_count);
    g.grads = zeroes(net.model.table.total);
    float *dz = zeroes(g.z_count);
    for (size_t i = 0; i < g.z_count; i++) {
        dz[i] = i % 3 == 0 ? 1.0F : -0.25F;
    }
    struct encoder_activations *kept = NULL;
    struct projector_activations *kept_projector = NULL;
    assert_int_equal(
        encoder_forward(&net.model, &net.compute, &net.arena, net.params, g.embedding, crops, n, &kept),
        VOCO_OK);
    const struct arena_mark mark = arena_mark(&net.arena);
    assert_int_equal(projector_forward(&net.model, &net.compute, &net.arena, net.params, GROUP_STUDENT, g.z,
                                       g.embedding, n, &kept_projector),
                     VOCO_OK);
    assert_int_equal(projector_backward(&net.model, &net.compute, &net.arena, g.grads, net.params,
                                        GROUP_STUDENT, g.dembedding, dz, g.embedding, n, kept_projector),
                     VOCO_OK);
    arena_release(&net.arena, mark);
    assert_int_equal(encoder_backward(&net.model, &net.compute, &net.arena, g.grads, net.params, g.dembedding,
                                      crops, n, kept),
                     VOCO_OK);
    free(dz);
    *table = net.model.table;
    net.model.table = (struct parameter_table){0};
    close_network(&net);
    return g;
}

/* Exact gradient zero: softmax does not see the keys' bias, and a norm follows the projector's first two. */
static int has_gradient(const struct parameter *p)
{
    return strcmp(p->name, "student.layer1.0.bias") != 0 && strcmp(p->name, "student.layer2.0.bias") != 0 &&
           strcmp(p->name, "backbone.encoder1.layer.conv3.conv.weight") != 0;
}

static void the_implementations_agree(void **state)
{
    (void)state;
    const struct model_config config = {6, 48, 16, PATCH_MERGING_FIXED};
    enum { n = 3 };
    float *crops = random_crops(&config, n);
    struct parameter_table table;
    struct gradients reference = pass_through("reference", &config, crops, n, &table);
    parameter_table_free(&table);
    struct gradients cpu = pass_through("cpu", &config, crops, n, &table);
    assert_true(distance(cpu.embedding, reference.embedding, cpu.embedding_count) < 1e-5);
    assert_true(distance(cpu.z, reference.z, cpu.z_count) < 1e-4);
    assert_true(distance(cpu.dembedding, reference.dembedding, cpu.embedding_count) < 1e-3);
    for (int i = 0; i < table.count; i++) {
        const struct parameter *p = &table.entries[i];
        if (p->group == GROUP_TEACHER || !has_gradient(p)) {
            continue;
        }
        /* One leaky ReLU whose input rounds to the other side of zero is enough for 1e-2. */
        const double d = distance(cpu.grads + p->offset, reference.grads + p->offset, p->count);
        if (d > 2e-2) {
            print_error("gradient of %s: %.2e apart\n", p->name, d);
        }
        assert_true(d <= 2e-2);
    }
    parameter_table_free(&table);
    free_gradients(&reference);
    free_gradients(&cpu);
    free(crops);
}

/* Embeddings of n crops, and the gradient of the backbone for a gradient of theirs that is given. */
static void pass_in(enum compute_precision precision, const struct model_config *config, const float *crops,
                    int n, float *embedding, float *grads)
{
    struct network net;
    open_in(&net, config, "cpu", precision);
    const size_t count = (size_t)n * (size_t)model_embedding_size(config);
    const struct random_key key = {.seed = 4, .purpose = RANDOM_TEST};
    float *dembedding = zeroes(count);
    for (size_t i = 0; i < count; i++) {
        dembedding[i] = random_normal(&key, (uint32_t)i);
    }
    struct encoder_activations *kept = NULL;
    assert_int_equal(
        encoder_forward(&net.model, &net.compute, &net.arena, net.params, embedding, crops, n, &kept),
        VOCO_OK);
    assert_int_equal(
        encoder_backward(&net.model, &net.compute, &net.arena, grads, net.params, dembedding, crops, n, kept),
        VOCO_OK);
    free(dembedding);
    close_network(&net);
}

static double cosine(const float *a, const float *b, size_t count)
{
    double product = 0, squares_a = 0, squares_b = 0;
    for (size_t i = 0; i < count; i++) {
        product += (double)a[i] * (double)b[i];
        squares_a += (double)a[i] * (double)a[i];
        squares_b += (double)b[i] * (double)b[i];
    }
    return product / sqrt(squares_a * squares_b);
}

static void bf16_stays_near_float32(void **state)
{
    (void)state;
    const struct model_config config = {12, 48, 16, PATCH_MERGING_FIXED};
    enum { n = 2 };
    float *crops = random_crops(&config, n);
    const size_t count = n * (size_t)model_embedding_size(&config);
    struct parameter_table table;
    assert_int_equal(parameter_table_create(&table, &config), VOCO_OK);
    float *embedding[2], *grads[2];
    for (int precision = PRECISION_FLOAT32; precision <= PRECISION_BF16; precision++) {
        embedding[precision] = zeroes(count);
        grads[precision] = zeroes(table.total);
        pass_in(precision, &config, crops, n, embedding[precision], grads[precision]);
    }
    const double apart = distance(embedding[1], embedding[0], count);
    const double alike = cosine(grads[1], grads[0], table.backbone);
    print_message("    embeddings %.1e apart, cosine of gradients %.4f\n", apart, alike);
    assert_true(apart < 3e-2);
    assert_true(alike > 0.9);
    /* And rounding does show. */
    assert_true(apart > 1e-3);
    for (int precision = 0; precision < 2; precision++) {
        free(embedding[precision]);
        free(grads[precision]);
    }
    parameter_table_free(&table);
    free(crops);
}

/* ---- embeddings and projections that PyTorch computed ---- */

struct golden {
    struct safetensors weights, batch, expected;
};

static int open_golden(struct golden *golden, const char *folder, const char *name)
{
    const char *const parts[] = {"weights", "batch", "expected"};
    struct safetensors *files[] = {&golden->weights, &golden->batch, &golden->expected};
    *golden = (struct golden){0};
    for (int i = 0; i < 3; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s.%s.safetensors", folder, name, parts[i]);
        FILE *there = fopen(path, "rb");
        if (there == NULL) {
            return 0;
        }
        assert_int_equal(fclose(there), 0);
        assert_int_equal(safetensors_open(files[i], path), VOCO_OK);
    }
    return 1;
}

static void close_golden(struct golden *golden)
{
    safetensors_close(&golden->weights);
    safetensors_close(&golden->batch);
    safetensors_close(&golden->expected);
}

static float *read_floats(const struct safetensors *file, const char *name)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    assert_non_null(tensor);
    float *values = zeroes(tensor->count);
    assert_int_equal(safetensors_read_floats(file, tensor, values), VOCO_OK);
    if (tensor->type == SAFETENSORS_U8) {
        for (size_t i = 0; i < tensor->count; i++) {
            values[i] /= 255.0F;
        }
    }
    return values;
}

static int number_of(const struct safetensors *file, const char *key)
{
    const char *text = safetensors_metadata(file, key);
    assert_non_null(text);
    return (int)strtol(text, NULL, 10);
}

static void load_weights(struct network *net, const struct safetensors *weights)
{
    const struct parameter_table *table = &net->model.table;
    memset(net->params, 0, table->total * sizeof *net->params);
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        const struct safetensors_tensor *tensor;
        assert_int_equal(safetensors_require(&tensor, weights, p->name, p->rank, p->shape), VOCO_OK);
        assert_int_equal(safetensors_read_floats(weights, tensor, net->params + p->offset), VOCO_OK);
    }
}

static size_t first_dimension(const struct safetensors *file, const char *name)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    assert_non_null(tensor);
    return (size_t)tensor->shape[0];
}

static void expect_close(const struct safetensors *expected, const char *name, const float *found,
                         size_t count, double bound)
{
    float *values = read_floats(expected, name);
    const double d = distance(found, values, count);
    if (!(d <= bound)) {
        print_error("%s: %.2e from PyTorch's\n", name, d);
    }
    assert_true(d <= bound);
    free(values);
}

/* Embeddings of the stored batch, all random crops first, a few at a time. */
static float *golden_embeddings(struct network *net, const struct golden *golden, size_t n)
{
    const int roi = net->model.config.roi;
    const size_t voxels = (size_t)roi * (size_t)roi * (size_t)roi;
    const size_t features = (size_t)model_embedding_size(&net->model.config);
    const size_t random_count = safetensors_find(&golden->batch, "crops")->count / voxels;
    float *random_part = read_floats(&golden->batch, "crops");
    float *bases = read_floats(&golden->batch, "bases");
    float *embedding = zeroes(n * features);
    for (size_t i = 0; i < n; i++) {
        const float *crop = i < random_count ? random_part + i * voxels : bases + (i - random_count) * voxels;
        assert_int_equal(encoder_forward(&net->model, &net->compute, &net->arena, net->params,
                                         embedding + i * features, crop, 1, NULL),
                         VOCO_OK);
    }
    free(random_part);
    free(bases);
    return embedding;
}

static void check_golden(const char *folder, const char *name, const char *implementation)
{
    struct golden golden;
    if (!open_golden(&golden, folder, name)) {
        close_golden(&golden);
        print_message("skipped: no golden set %s\n", name);
        skip();
    }
    struct model_config config = {.feature_size = number_of(&golden.weights, "feature_size"),
                                  .roi = number_of(&golden.weights, "roi"),
                                  .projector = number_of(&golden.weights, "projector")};
    assert_int_equal(patch_merging_from_name(&config.patch_merging,
                                             safetensors_metadata(&golden.weights, "patch_merging")),
                     VOCO_OK);
    struct network net;
    open_network(&net, &config, implementation);
    load_weights(&net, &golden.weights);
    const struct parameter_table *table = &net.model.table;
    const size_t n = first_dimension(&golden.expected, "step0/embedding");
    const size_t outputs = n * (size_t)config.projector;
    float *embedding = golden_embeddings(&net, &golden, n);
    float *z = zeroes(outputs);
    expect_close(&golden.expected, "step0/embedding", embedding, n * (size_t)model_embedding_size(&config),
                 1e-5);
    assert_int_equal(projector_forward(&net.model, &net.compute, &net.arena, net.params, GROUP_STUDENT, z,
                                       embedding, (int)n, NULL),
                     VOCO_OK);
    expect_close(&golden.expected, "step0/student", z, outputs, 3e-5);
    net.compute.moving_average(&net.compute, net.params + table->trained, NULL, net.params + table->backbone,
                               0.9F, table->total - table->trained);
    net.compute.parameters_changed(&net.compute);
    assert_int_equal(projector_forward(&net.model, &net.compute, &net.arena, net.params, GROUP_TEACHER, z,
                                       embedding, (int)n, NULL),
                     VOCO_OK);
    expect_close(&golden.expected, "step0/teacher", z, outputs, 3e-5);
    free(z);
    free(embedding);
    close_network(&net);
    close_golden(&golden);
}

static void golden_fixed(void **state)
{
    check_golden(VOCO_SHARED "/golden", "mini_fixed", *state);
}

static void golden_legacy(void **state)
{
    check_golden(VOCO_SHARED "/golden", "tiny_legacy", *state);
}

static void golden_v2(void **state)
{
    check_golden(VOCO_TEST_DATA, "own_v2", *state);
}

int main(void)
{
    static char reference[] = "reference";
    static char cpu[] = "cpu";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(crops_pass_independently_and_keeping_changes_no_bit, reference),
        cmocka_unit_test_prestate(crops_pass_independently_and_keeping_changes_no_bit, cpu),
        cmocka_unit_test(the_implementations_agree),
        cmocka_unit_test(bf16_stays_near_float32),
        cmocka_unit_test_prestate(golden_fixed, cpu),
        cmocka_unit_test_prestate(golden_legacy, cpu),
        cmocka_unit_test_prestate(golden_v2, cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
