#include "encoder_pass.h"

#include "base/error.h"
#include "base/philox.h"
#include "compute/compute_arena.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float *zeroes(size_t count)
{
    float *array = calloc(count > 0 ? count : 1, sizeof *array);
    assert_non_null(array);
    return array;
}

void require_ok(enum voco_status status)
{
    if (status != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
}

static void fill(float *values, uint32_t seed, size_t count, int normal)
{
    const struct random_key key = {.seed = seed, .purpose = RANDOM_TEST};
    for (size_t k = 0; k < count; k++) {
        values[k] = normal ? random_normal(&key, (uint32_t)k) : random_uniform(&key, (uint32_t)k);
    }
}

static float *on_arena(struct arena *arena, struct compute *c, const float *host, size_t count)
{
    float *array = arena_push(arena, count * sizeof *array);
    assert_non_null(array);
    c->to_device(c, array, host, count * sizeof *array);
    c->wait(c);
    return array;
}

static void fetch(struct compute *c, float *host, const float *array, size_t count)
{
    c->to_host(c, host, array, count * sizeof *host);
    c->wait(c);
    require_ok(compute_status(c));
}

/* There and back from given gradients of z. */
static void project(const struct model *model, struct compute *c, struct arena *arena, float *grads,
                    const float *params, float *z, const float *embedding, int n)
{
    const size_t zs = (size_t)n * (size_t)model->config.projector;
    const size_t embeddings = (size_t)n * (size_t)model_embedding_size(&model->config);
    float *host_dz = zeroes(zs), *nothing = zeroes(embeddings);
    fill(host_dz, 4, zs, 1);
    const struct arena_mark mark = arena_mark(arena);
    const float *dz = on_arena(arena, c, host_dz, zs);
    float *dembedding = on_arena(arena, c, nothing, embeddings);
    struct projector_activations *kept = NULL;
    require_ok(projector_forward(model, c, arena, params, GROUP_STUDENT, z, embedding, n, &kept));
    require_ok(projector_backward(model, c, arena, grads, params, GROUP_STUDENT, dembedding, dz, embedding, n,
                                  kept));
    arena_release(arena, mark);
    free(host_dz);
    free(nothing);
}

void pass_through(struct pass *pass, struct compute *c, const struct model_config *config, int n)
{
    struct model model;
    struct arena arena;
    require_ok(model_create(&model, config));
    const size_t voxels = (size_t)n * (size_t)config->roi * (size_t)config->roi * (size_t)config->roi;
    const size_t total = model.table.total, trained = model.table.trained;
    /* a crop takes some 10 tensors of (R^3, C), src/model/encoder.c; other tests share the device */
    const size_t tensors = 12 * voxels * (size_t)config->feature_size, rest = (size_t)256 << 20;
    require_ok(compute_arena_open(&arena, c, (tensors + 2 * total) * sizeof(float) + rest));
    pass->embeddings = (size_t)n * (size_t)model_embedding_size(config);
    pass->zs = (size_t)n * (size_t)config->projector;
    pass->embedding = zeroes(pass->embeddings);
    pass->z = zeroes(pass->zs);
    pass->grads = zeroes(trained);
    float *host_params = zeroes(total), *host_crops = zeroes(voxels);
    float *host_dembedding = zeroes(pass->embeddings);
    parameters_initialise(host_params, &model.table, 5);
    fill(host_crops, 3, voxels, 0);
    fill(host_dembedding, 6, pass->embeddings, 1);

    float *params = on_arena(&arena, c, host_params, total), *crops = on_arena(&arena, c, host_crops, voxels);
    float *grads = on_arena(&arena, c, pass->grads, trained);
    float *given = on_arena(&arena, c, host_dembedding, pass->embeddings);
    float *embedding = on_arena(&arena, c, pass->embedding, pass->embeddings);
    float *z = on_arena(&arena, c, pass->z, pass->zs);
    struct encoder_activations *kept = NULL;
    c->parameters_changed(c);
    require_ok(encoder_forward(&model, c, &arena, params, embedding, crops, n, &kept));
    project(&model, c, &arena, grads, params, z, embedding, n);
    require_ok(encoder_backward(&model, c, &arena, grads, params, given, crops, n, kept));
    fetch(c, pass->embedding, embedding, pass->embeddings);
    fetch(c, pass->z, z, pass->zs);
    fetch(c, pass->grads, grads, trained);

    free(host_params);
    free(host_crops);
    free(host_dembedding);
    compute_arena_close(&arena, c);
    pass->table = model.table;
    model.table = (struct parameter_table){0};
    model_free(&model);
}

void project_same_embeddings(struct pass *expected, struct compute *c, const struct model_config *config,
                             int n, const struct pass *found)
{
    struct model model;
    struct arena arena;
    require_ok(model_create(&model, config));
    const size_t total = model.table.total, trained = model.table.trained, backbone = model.table.backbone;
    const size_t rest = (size_t)64 << 20;
    require_ok(compute_arena_open(&arena, c, 2 * total * sizeof(float) + rest));
    float *host_params = zeroes(total), *host_grads = zeroes(trained);
    parameters_initialise(host_params, &model.table, 5);
    const float *params = on_arena(&arena, c, host_params, total);
    const float *embedding = on_arena(&arena, c, found->embedding, found->embeddings);
    float *grads = on_arena(&arena, c, host_grads, trained), *z = on_arena(&arena, c, expected->z, found->zs);
    c->parameters_changed(c);
    project(&model, c, &arena, grads, params, z, embedding, n);
    fetch(c, expected->z, z, expected->zs);
    fetch(c, expected->grads + backbone, grads + backbone, trained - backbone);
    free(host_params);
    free(host_grads);
    compute_arena_close(&arena, c);
    model_free(&model);
}

void free_pass(struct pass *pass)
{
    free(pass->embedding);
    free(pass->z);
    free(pass->grads);
    parameter_table_free(&pass->table);
}

double relative_distance(const float *found, const float *expected, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        const double d = (double)found[i] - (double)expected[i];
        difference += d * d;
        norm += (double)expected[i] * (double)expected[i];
    }
    return isnan(difference) || isnan(norm) || norm == 0 ? INFINITY : sqrt(difference / norm);
}

/* Its gradient is zero but for rounding: a norm follows. */
static int has_gradient(const struct parameter *p)
{
    return strcmp(p->name, "backbone.encoder1.layer.conv3.conv.weight") != 0;
}

int compare(const char *what, const struct pass *found, const struct pass *expected,
            const struct allowed *allowed)
{
    const size_t backbone = found->table.backbone, student = found->table.trained - backbone;
    const double embedding = relative_distance(found->embedding, expected->embedding, found->embeddings);
    const double z = relative_distance(found->z, expected->z, found->zs);
    const double all = relative_distance(found->grads, expected->grads, backbone);
    const double projector = relative_distance(found->grads + backbone, expected->grads + backbone, student);
    double worst = 0;
    const char *where = "none";
    for (int i = 0; i < found->table.count; i++) {
        const struct parameter *p = &found->table.entries[i];
        if (p->offset < backbone && has_gradient(p)) {
            const double d =
                relative_distance(found->grads + p->offset, expected->grads + p->offset, p->count);
            if (!(d <= worst)) {
                worst = d;
                where = p->name;
            }
        }
    }
    const int wrong = !(embedding <= allowed->embedding) || !(z <= allowed->z) || !(all <= allowed->all) ||
                      !(worst <= allowed->parameter) || !(projector <= allowed->projector);
    printf(
        "    %s: embeddings %.1e, gradient %.1e, at worst %.1e (%s); projector %.1e, its gradient %.1e%s\n",
        what, embedding, all, worst, where, z, projector, wrong ? "    WRONG" : "");
    (void)fflush(stdout);
    return wrong;
}

int differ_in_bits(const struct pass *a, const struct pass *b)
{
    const int equal = memcmp(a->embedding, b->embedding, a->embeddings * sizeof(float)) == 0 &&
                      memcmp(a->z, b->z, a->zs * sizeof(float)) == 0 &&
                      memcmp(a->grads, b->grads, a->table.trained * sizeof(float)) == 0;
    if (!equal) {
        printf("    other bits the second time    WRONG\n");
    }
    return !equal;
}
