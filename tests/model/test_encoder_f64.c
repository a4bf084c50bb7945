/* The whole network against finite differences in double: the derivative of a weighted sum of the result
 * along random directions of the parameters, one group of layers at a time, so that no group hides behind a
 * larger one. */
#include "base/philox.h"
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

/* A step changes the loss by about 1e-5, well above rounding, and no parameter by much more than 1e-6, lest
 * many inputs of leaky ReLUs cross zero. */
static const double loss_step = 1e-5;
static const double parameter_step = 1e-6;
static const double tolerance = 1e-5;

struct network {
    struct model model;
    struct compute compute;
    struct arena arena;
    int n;
    real *params, *grads, *direction;
    real *inp, *out, *weights; /* crops and embeddings, or embeddings and projections */
    size_t out_size;
    int projector; /* 1: the student, 2: the teacher */
};

static real *random_array(size_t count, uint64_t stream, int uniform)
{
    const struct random_key key = {.seed = 3, .step = stream, .purpose = RANDOM_TEST};
    real *array = malloc(count * sizeof *array);
    assert_non_null(array);
    for (size_t i = 0; i < count; i++) {
        array[i] = (real)(uniform ? random_uniform(&key, (uint32_t)i) : random_normal(&key, (uint32_t)i));
    }
    return array;
}

static void open_network(struct network *net, const struct model_config *config, int n, int projector)
{
    *net = (struct network){.n = n, .projector = projector};
    assert_int_equal(model_create(&net->model, config), VOCO_OK);
    assert_int_equal(compute_open(&net->compute, "reference", 1, PRECISION_FLOAT32), VOCO_OK);
    assert_int_equal(arena_open(&net->arena, (size_t)2 << 30), VOCO_OK);
    const size_t total = net->model.table.total;
    const size_t embeddings = (size_t)n * (size_t)model_embedding_size(config);
    const size_t voxels = (size_t)n * (size_t)config->roi * (size_t)config->roi * (size_t)config->roi;
    net->params = random_array(total, 1, 0);
    parameters_initialise(net->params, &net->model.table, 5);
    net->grads = calloc(total, sizeof(real));
    net->direction = calloc(total, sizeof(real));
    assert_non_null(net->grads);
    assert_non_null(net->direction);
    net->inp = projector ? random_array(embeddings, 2, 0) : random_array(voxels, 2, 1);
    net->out_size = projector ? (size_t)n * (size_t)config->projector : embeddings;
    net->out = random_array(net->out_size, 3, 0);
    net->weights = random_array(net->out_size, 4, 0);
}

static void close_network(struct network *net)
{
    free(net->params);
    free(net->grads);
    free(net->direction);
    free(net->inp);
    free(net->out);
    free(net->weights);
    arena_close(&net->arena);
    compute_close(&net->compute);
    model_free(&net->model);
}

static enum parameter_group group_of(const struct network *net)
{
    return net->projector == 2 ? GROUP_TEACHER : GROUP_STUDENT;
}

static double loss(struct network *net)
{
    const enum voco_status status =
        net->projector ? projector_forward(&net->model, &net->compute, &net->arena, net->params,
                                           group_of(net), net->out, net->inp, net->n, NULL)
                       : encoder_forward(&net->model, &net->compute, &net->arena, net->params, net->out,
                                         net->inp, net->n, NULL);
    assert_int_equal(status, VOCO_OK);
    assert_int_equal(arena_mark(&net->arena).used, 0);
    double sum = 0;
    for (size_t i = 0; i < net->out_size; i++) {
        sum += (double)net->weights[i] * (double)net->out[i];
    }
    return sum;
}

/* Central difference along `direction` in `point`. */
static double derivative(struct network *net, real *point, const real *direction, size_t count, double step)
{
    double sides[2];
    for (int side = 0; side < 2; side++) {
        const double by = side == 0 ? step : -step;
        for (size_t i = 0; i < count; i++) {
            point[i] += (real)(by * (double)direction[i]);
        }
        sides[side] = loss(net);
        for (size_t i = 0; i < count; i++) {
            point[i] -= (real)(by * (double)direction[i]);
        }
    }
    return (sides[0] - sides[1]) / (2 * step);
}

/* A direction within the parameters whose names start with `prefix`: of each parameter a random vector and as
 * much of its gradient, so that the derivative is no small difference and no parameter hides behind another.
 * It is scaled to a derivative of 1, by backward; the factor is returned. */
static double set_direction(struct network *net, const char *prefix)
{
    const struct parameter_table *table = &net->model.table;
    memset(net->direction, 0, table->total * sizeof(real));
    double along = 0;
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        if (strncmp(p->name, prefix, strlen(prefix)) != 0) {
            continue;
        }
        const struct random_key key = {.seed = 9, .step = (uint64_t)i, .purpose = RANDOM_TEST};
        double squares = 0;
        for (size_t j = 0; j < p->count; j++) {
            squares += (double)net->grads[p->offset + j] * (double)net->grads[p->offset + j];
        }
        const double rms = sqrt(squares / (double)p->count);
        for (size_t j = 0; j < p->count; j++) {
            const double g = (double)net->grads[p->offset + j];
            const double d = (double)random_normal(&key, (uint32_t)j) + (rms > 1e-12 ? g / rms : 0);
            net->direction[p->offset + j] = (real)d;
            along += d * g;
        }
    }
    assert_true(along > 1e-6);
    for (size_t j = 0; j < table->total; j++) {
        net->direction[j] = (real)((double)net->direction[j] / along);
    }
    return 1 / along;
}

/* A leaky ReLU whose input crosses zero between the two points spoils the difference; with a smaller step
 * fewer do, while a wrong gradient stays wrong. */
static void check_group(struct network *net, const char *prefix)
{
    const double factor = set_direction(net, prefix);
    double step = fmin(loss_step, parameter_step / factor);
    double error = 1;
    for (int attempt = 0; attempt < 3 && error > tolerance; attempt++) {
        error = fabs(derivative(net, net->params, net->direction, net->model.table.total, step) - 1);
        step /= 8;
    }
    if (error > tolerance) {
        print_error("%s: backward is off by %.2e\n", prefix, error);
    }
    assert_true(error <= tolerance);
}

static void check_encoder(enum patch_merging order, int n, const char *const *groups, size_t count)
{
    const struct model_config config = {3, 48, 8, order};
    struct network net;
    open_network(&net, &config, n, 0);
    struct encoder_activations *kept = NULL;
    assert_int_equal(
        encoder_forward(&net.model, &net.compute, &net.arena, net.params, net.out, net.inp, n, &kept),
        VOCO_OK);
    assert_non_null(kept);
    const struct arena_mark mark = arena_mark(&net.arena);
    assert_int_equal(encoder_backward(&net.model, &net.compute, &net.arena, net.grads, net.params,
                                      net.weights, net.inp, n, kept),
                     VOCO_OK);
    assert_int_equal(arena_mark(&net.arena).used, mark.used);
    arena_reset(&net.arena);
    for (size_t j = net.model.table.backbone; j < net.model.table.total; j++) {
        assert_true(net.grads[j] == 0);
    }
    for (size_t i = 0; i < count; i++) {
        check_group(&net, groups[i]);
    }
    close_network(&net);
}

static void every_layer_of_the_encoder(void **state)
{
    (void)state;
    static const char *const groups[] = {
        "backbone.swinViT.patch_embed",
        "backbone.swinViT.layers1c",
        "backbone.swinViT.layers1.0.blocks",
        "backbone.swinViT.layers1.0.downsample",
        "backbone.swinViT.layers2",
        "backbone.swinViT.layers3",
        "backbone.swinViT.layers4",
        "backbone.encoder1.",
        "backbone.encoder2",
        "backbone.encoder3",
        "backbone.encoder4",
        "backbone.encoder10",
    };
    check_encoder(PATCH_MERGING_LEGACY, 1, groups, sizeof groups / sizeof groups[0]);
}

static void two_crops_and_the_other_merging_orders(void **state)
{
    (void)state;
    static const char *const groups[] = {"backbone."};
    check_encoder(PATCH_MERGING_FIXED, 2, groups, 1);
    check_encoder(PATCH_MERGING_V2, 1, groups, 1);
}

static void check_projector(int projector, const char *const *groups)
{
    const struct model_config config = {3, 48, 10, PATCH_MERGING_LEGACY};
    const int n = 9;
    const size_t inputs = (size_t)n * (size_t)model_embedding_size(&config);
    struct network net;
    open_network(&net, &config, n, projector);
    real *dinp = random_array(inputs, 5, 0);
    real *direction = random_array(inputs, 6, 0);
    struct projector_activations *kept = NULL;
    assert_int_equal(projector_forward(&net.model, &net.compute, &net.arena, net.params, group_of(&net),
                                       net.out, net.inp, n, &kept),
                     VOCO_OK);
    assert_non_null(kept);
    assert_int_equal(projector_backward(&net.model, &net.compute, &net.arena, net.grads, net.params,
                                        group_of(&net), dinp, net.weights, net.inp, n, kept),
                     VOCO_OK);
    arena_reset(&net.arena);
    for (int i = 0; i < 3; i++) {
        check_group(&net, groups[i]);
    }
    double expected = 0;
    for (size_t i = 0; i < inputs; i++) {
        expected += (double)dinp[i] * (double)direction[i];
    }
    assert_float_equal(derivative(&net, net.inp, direction, inputs, parameter_step), expected,
                       1e-7 * fabs(expected));
    /* The first two biases are followed by a norm over the batch: their gradient is zero but for rounding. */
    const struct parameter *bias =
        parameter_find(&net.model.table, projector == 1 ? "student.layer2.0.bias" : "teacher.layer2.0.bias");
    for (size_t j = 0; j < bias->count; j++) {
        assert_true(fabs((double)net.grads[bias->offset + j]) < 1e-12);
    }
    free(dinp);
    free(direction);
    close_network(&net);
}

static void both_projectors(void **state)
{
    (void)state;
    static const char *const student[] = {"student.layer1", "student.layer2", "student.layer3"};
    static const char *const teacher[] = {"teacher.layer1", "teacher.layer2", "teacher.layer3"};
    check_projector(1, student);
    check_projector(2, teacher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_of_the_encoder),
        cmocka_unit_test(two_crops_and_the_other_merging_orders),
        cmocka_unit_test(both_projectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
