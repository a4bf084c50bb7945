/* What a pass takes of the arena, held by operations that do nothing: sizes alone decide it. */
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const size_t mebibyte = (size_t)1 << 20;

static size_t in_mebibytes(size_t bytes)
{
    return (bytes + mebibyte / 2) / mebibyte;
}

static void conv_nothing(struct compute *c, activation *out, const activation *inp, const real *weight,
                         const real *bias, const struct conv3d_shape *shape)
{
    (void)c, (void)out, (void)inp, (void)weight, (void)bias, (void)shape;
}

static void conv_backward_nothing(struct compute *c, activation *dinp, real *dweight, real *dbias,
                                  const activation *dout, const activation *inp, const real *weight,
                                  const struct conv3d_shape *shape)
{
    (void)c, (void)dinp, (void)dweight, (void)dbias, (void)dout, (void)inp, (void)weight, (void)shape;
}

static void linear_nothing(struct compute *c, activation *out, const activation *inp, const real *weight,
                           const real *bias, size_t rows, int in_features, int out_features)
{
    (void)c, (void)out, (void)inp, (void)weight, (void)bias, (void)rows, (void)in_features,
        (void)out_features;
}

static void linear_backward_nothing(struct compute *c, activation *dinp, real *dweight, real *dbias,
                                    const activation *dout, const activation *inp, const real *weight,
                                    size_t rows, int in_features, int out_features)
{
    (void)c, (void)dinp, (void)dweight, (void)dbias, (void)dout, (void)inp, (void)weight, (void)rows,
        (void)in_features, (void)out_features;
}

static void linear_gelu_nothing(struct compute *c, activation *out, activation *activated,
                                const activation *inp, const real *weight, const real *bias, size_t rows,
                                int in_features, int out_features)
{
    (void)c, (void)out, (void)activated, (void)inp, (void)weight, (void)bias, (void)rows, (void)in_features,
        (void)out_features;
}

static void linear_gelu_backward_nothing(struct compute *c, activation *dwide, real *dweight, real *dbias,
                                         const activation *dout, const activation *activated,
                                         const activation *wide, const real *weight, size_t rows,
                                         int in_features, int out_features)
{
    (void)c, (void)dwide, (void)dweight, (void)dbias, (void)dout, (void)activated, (void)wide, (void)weight,
        (void)rows, (void)in_features, (void)out_features;
}

static void linear_add_nothing(struct compute *c, activation *out, const activation *inp, const real *weight,
                               const real *bias, const activation *residual, size_t rows, int in_features,
                               int out_features)
{
    (void)c, (void)out, (void)inp, (void)weight, (void)bias, (void)residual, (void)rows, (void)in_features,
        (void)out_features;
}

static void layer_norm_nothing(struct compute *c, activation *out, real *mean, real *rstd,
                               const activation *inp, const real *weight, const real *bias, size_t rows,
                               int channels)
{
    (void)c, (void)out, (void)mean, (void)rstd, (void)inp, (void)weight, (void)bias, (void)rows,
        (void)channels;
}

static void layer_norm_backward_nothing(struct compute *c, activation *dinp, real *dweight, real *dbias,
                                        const activation *dout, const activation *inp, const real *mean,
                                        const real *rstd, const real *weight, const activation *residual,
                                        size_t rows, int channels)
{
    (void)c, (void)dinp, (void)dweight, (void)dbias, (void)dout, (void)inp, (void)mean, (void)rstd,
        (void)weight, (void)residual, (void)rows, (void)channels;
}

static void instance_norm_backward_nothing(struct compute *c, activation *dinp, activation *dresidual,
                                           const activation *dout, const activation *out,
                                           const activation *inp, const real *mean, const real *rstd,
                                           real slope, int n, size_t space, int channels)
{
    (void)c, (void)dinp, (void)dresidual, (void)dout, (void)out, (void)inp, (void)mean, (void)rstd,
        (void)slope, (void)n, (void)space, (void)channels;
}

static void attention_nothing(struct compute *c, activation *out, real *logsumexp, const activation *qkv,
                              const real *qkv_bias, const real *bias_table,
                              const struct attention_shape *shape)
{
    (void)c, (void)out, (void)logsumexp, (void)qkv, (void)qkv_bias, (void)bias_table, (void)shape;
}

static void attention_backward_nothing(struct compute *c, activation *dqkv, real *dqkv_bias,
                                       real *dbias_table, const activation *dout, const activation *out,
                                       const real *logsumexp, const activation *qkv, const real *qkv_bias,
                                       const real *bias_table, const struct attention_shape *shape)
{
    (void)c, (void)dqkv, (void)dqkv_bias, (void)dbias_table, (void)dout, (void)out, (void)logsumexp,
        (void)qkv, (void)qkv_bias, (void)bias_table, (void)shape;
}

static void gelu_nothing(struct compute *c, activation *out, const activation *inp, size_t count)
{
    (void)c, (void)out, (void)inp, (void)count;
}

static void gelu_backward_nothing(struct compute *c, activation *dinp, const activation *dout,
                                  const activation *inp, size_t count)
{
    (void)c, (void)dinp, (void)dout, (void)inp, (void)count;
}

static void merge_nothing(struct compute *c, activation *out, const activation *inp, enum patch_merging order,
                          int n, int d, int h, int w, int channels)
{
    (void)c, (void)out, (void)inp, (void)order, (void)n, (void)d, (void)h, (void)w, (void)channels;
}

static void normed_conv_nothing(struct compute *c, activation *out, real *mean, real *rstd,
                                const activation *inp, const struct norm_activation *norm, activation *work,
                                const real *weight, const struct conv3d_shape *shape)
{
    (void)c, (void)out, (void)mean, (void)rstd, (void)inp, (void)norm, (void)work, (void)weight, (void)shape;
}

static void normed_conv_backward_nothing(struct compute *c, activation *dinp, real *dweight,
                                         const activation *dout, const activation *inp,
                                         const struct norm_activation *norm, activation *work,
                                         const real *weight, const struct conv3d_shape *shape)
{
    (void)c, (void)dinp, (void)dweight, (void)dout, (void)inp, (void)norm, (void)work, (void)weight,
        (void)shape;
}

static void normed_conv_pair_nothing(struct compute *c, real *dweight1, real *dweight2, activation *dbetween,
                                     const activation *dout, const activation *between,
                                     const struct norm_activation *norm, activation *work,
                                     const activation *x, const real *weight1, const real *weight2,
                                     const struct conv3d_shape *shape)
{
    (void)c, (void)dweight1, (void)dweight2, (void)dbetween, (void)dout, (void)between, (void)norm,
        (void)work, (void)x, (void)weight1, (void)weight2, (void)shape;
}

static void scale_nothing(struct compute *c, real *scale, real *dscale_dweight, const real *weight,
                          const real *rstd, int n, int channels)
{
    (void)c;
    (void)scale;
    (void)dscale_dweight;
    (void)weight;
    (void)rstd;
    (void)n;
    (void)channels;
}

static void scale_nothing_back(struct compute *c, real *dweight, const real *dscale,
                               const real *dscale_dweight, int n, int channels)
{
    (void)c;
    (void)dweight;
    (void)dscale;
    (void)dscale_dweight;
    (void)n;
    (void)channels;
}

static size_t no_work(struct compute *c, const struct conv3d_shape *shape)
{
    (void)c, (void)shape;
    return 0;
}

static void moments_of_nothing(struct compute *c, real *mean, real *rstd, const activation *inp, int n,
                               size_t space, int channels)
{
    (void)c, (void)mean, (void)rstd, (void)inp, (void)n, (void)space, (void)channels;
}

static void apply_nothing(struct compute *c, activation *out, const activation *inp,
                          const struct norm_activation *norm, const activation *residual, int n, size_t space,
                          int channels)
{
    (void)c, (void)out, (void)inp, (void)norm, (void)residual, (void)n, (void)space, (void)channels;
}

static void pool_nothing(struct compute *c, real *pooled, size_t stride, real *bends, const activation *inp,
                         const struct norm_activation *norm, const struct pooled_residual *residual, int n,
                         size_t space, int channels)
{
    (void)c, (void)pooled, (void)stride, (void)bends, (void)inp, (void)norm, (void)residual, (void)n,
        (void)space, (void)channels;
}

static void pool_backward_nothing(struct compute *c, activation *dinp, activation *dresidual, real *dscale,
                                  const real *dpooled, size_t stride, const real *bends,
                                  const activation *inp, const struct norm_activation *norm,
                                  const struct pooled_residual *residual, int n, size_t space, int channels)
{
    (void)c, (void)dinp, (void)dresidual, (void)dscale, (void)dpooled, (void)stride, (void)bends, (void)inp,
        (void)norm, (void)residual, (void)n, (void)space, (void)channels;
}

static void add_nothing(struct compute *c, activation *out, const activation *a, const activation *b,
                        size_t count)
{
    (void)c, (void)out, (void)a, (void)b, (void)count;
}

static void convert_nothing(struct compute *c, activation *out, const real *inp, size_t count)
{
    (void)c, (void)out, (void)inp, (void)count;
}

static void norm_nothing(struct compute *c, activation *out, real *mean, real *rstd, const activation *inp,
                         const activation *residual, real slope, int n, size_t space, int channels)
{
    (void)c, (void)out, (void)mean, (void)rstd, (void)inp, (void)residual, (void)slope, (void)n, (void)space,
        (void)channels;
}

static void convert_nothing_back(struct compute *c, real *out, const activation *inp, size_t count)
{
    (void)c, (void)out, (void)inp, (void)count;
}

static struct compute nothing(void)
{
    return (struct compute){
        .name = "nothing",
        .activation_size = sizeof(real),
        .activations_from_reals = convert_nothing,
        .reals_from_activations = convert_nothing_back,
        .conv3d_forward = conv_nothing,
        .conv3d_backward = conv_backward_nothing,
        .normed_conv3d_forward = normed_conv_nothing,
        .normed_conv3d_backward = normed_conv_backward_nothing,
        .normed_conv3d_pair_backward = normed_conv_pair_nothing,
        .normed_conv3d_work = no_work,
        .linear_forward = linear_nothing,
        .linear_backward = linear_backward_nothing,
        .linear_gelu_forward = linear_gelu_nothing,
        .linear_gelu_backward = linear_gelu_backward_nothing,
        .linear_add_forward = linear_add_nothing,
        .layer_norm_forward = layer_norm_nothing,
        .layer_norm_backward = layer_norm_backward_nothing,
        .instance_norm_moments = moments_of_nothing,
        .instance_norm_forward = norm_nothing,
        .instance_norm_apply = apply_nothing,
        .instance_norm_backward = instance_norm_backward_nothing,
        .window_attention_forward = attention_nothing,
        .window_attention_backward = attention_backward_nothing,
        .gelu_forward = gelu_nothing,
        .gelu_backward = gelu_backward_nothing,
        .patch_merge_forward = merge_nothing,
        .patch_merge_backward = merge_nothing,
        .channel_scale_forward = scale_nothing,
        .channel_scale_backward = scale_nothing_back,
        .pooled_norm_forward = pool_nothing,
        .pooled_norm_backward = pool_backward_nothing,
        .add = add_nothing,
    };
}

/* MiB of the arena: a pass that keeps nothing, what a pass keeps, the most that backward reaches. */
struct use {
    size_t passing, kept, backward;
};

static struct use use_of(const struct model_config *config, int n)
{
    struct compute c = nothing();
    struct model model;
    struct arena arena;
    struct use use;
    assert_int_equal(model_create(&model, config), VOCO_OK);
    assert_int_equal(arena_open(&arena, (size_t)64 << 30), VOCO_OK);
    /* Nothing is read or written through `unused`; of the parameters and their gradients only conv3 of
     * encoder1. */
    real unused[1] = {0};
    real *params = calloc(model.table.total, sizeof *params),
         *grads = calloc(model.table.total, sizeof *grads);
    struct encoder_activations *kept = NULL;

    assert_non_null(params);
    assert_non_null(grads);
    assert_int_equal(encoder_forward(&model, &c, &arena, params, unused, unused, n, NULL), VOCO_OK);
    assert_int_equal(arena_mark(&arena).used, 0);
    use.passing = in_mebibytes(arena.peak);
    const size_t side = (size_t)config->roi;
    assert_in_range(arena.peak, 1,
                    encoder_passing_bytes(config, (size_t)n * side * side * side, sizeof(real)));
    assert_int_equal(encoder_forward(&model, &c, &arena, params, unused, unused, n, &kept), VOCO_OK);
    use.kept = in_mebibytes(arena_mark(&arena).used);
    assert_int_equal(encoder_backward(&model, &c, &arena, grads, params, unused, unused, n, kept), VOCO_OK);
    assert_int_equal(in_mebibytes(arena_mark(&arena).used), use.kept);
    use.backward = in_mebibytes(arena.peak);
    free(params);
    free(grads);
    arena_close(&arena);
    model_free(&model);
    return use;
}

static void a_crop_of_base_takes_what_the_documentation_says(void **state)
{
    (void)state;
    const struct model_config base = {48, 64, 1024, PATCH_MERGING_LEGACY};
    const struct use one = use_of(&base, 1);
    assert_int_equal(one.passing, 105);
    assert_int_equal(one.kept, 304);
    assert_int_equal(one.backward, 401);
    const struct use three = use_of(&base, 3);
    assert_in_range(three.backward, 3 * one.backward - 3, 3 * one.backward + 3);
}

/* A device's memory is taken by it. */
static void boxes_take_no_more_than_is_said(void **state)
{
    (void)state;
    static const int sizes[][3] = {{48, 48, 48}, {48, 64, 80}, {112, 48, 176}, {160, 160, 96}, {48, 48, 496}};
    for (int feature_size = 12; feature_size <= 96; feature_size *= 2) {
        const struct model_config config = {feature_size, 64, 64, PATCH_MERGING_FIXED};
        struct compute c = nothing();
        struct model model;
        struct arena arena;
        real unused[1] = {0};
        assert_int_equal(model_create(&model, &config), VOCO_OK);
        real *params = calloc(model.table.total, sizeof *params);
        assert_non_null(params);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            const int *size = sizes[k];
            const size_t voxels = (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
            const size_t said = encoder_passing_bytes(&config, voxels, c.activation_size);
            assert_int_equal(arena_open(&arena, said), VOCO_OK);
            assert_int_equal(encoder_box_forward(&model, &c, &arena, params, unused, unused, 1, size),
                             VOCO_OK);
            for (int level = 0; level < encoder_levels; level++) {
                assert_int_equal(
                    encoder_box_features(&model, &c, &arena, params, unused, level, unused, size), VOCO_OK);
            }
            assert_in_range(arena.peak, said / 4 * 3, said);
            arena_close(&arena);
        }
        free(params);
        model_free(&model);
    }
}

static void crops_of_huge_fit_in_two_gibibytes_each(void **state)
{
    (void)state;
    const struct model_config huge = {192, 64, 1024, PATCH_MERGING_LEGACY};
    assert_in_range(use_of(&huge, 1).backward, 1, 2048);
}

static void a_small_arena_is_reported_and_left_as_it_was(void **state)
{
    (void)state;
    const struct model_config config = {12, 48, 64, PATCH_MERGING_LEGACY};
    struct compute c = nothing();
    struct model model;
    struct arena arena;
    real unused[1] = {0};
    assert_int_equal(model_create(&model, &config), VOCO_OK);
    real *params = calloc(model.table.total, sizeof *params),
         *grads = calloc(model.table.total, sizeof *grads);
    assert_non_null(params);
    assert_non_null(grads);
    for (size_t size = 0; size <= 32; size += 4) {
        assert_int_equal(arena_open(&arena, size * mebibyte + 64), VOCO_OK);
        struct encoder_activations *kept = (void *)&arena;
        const enum voco_status status = encoder_forward(&model, &c, &arena, params, unused, unused, 1, &kept);
        assert_int_equal(status, VOCO_NO_MEMORY);
        assert_null(kept);
        assert_int_equal(arena_mark(&arena).used, 0);
        assert_non_null(strstr(voco_error_message(), "encoder forward"));
        arena_reset(&arena);
        assert_int_equal(encoder_forward(&model, &c, &arena, params, unused, unused, 1, NULL),
                         size > 8 ? VOCO_OK : VOCO_NO_MEMORY);
        arena_close(&arena);
    }
    /* Room for forward, not for backward. */
    struct encoder_activations *kept = NULL;
    assert_int_equal(arena_open(&arena, 36 * mebibyte), VOCO_OK);
    assert_int_equal(encoder_forward(&model, &c, &arena, params, unused, unused, 1, &kept), VOCO_OK);
    const struct arena_mark mark = arena_mark(&arena);
    assert_int_equal(encoder_backward(&model, &c, &arena, grads, params, unused, unused, 1, kept),
                     VOCO_NO_MEMORY);
    assert_int_equal(arena_mark(&arena).used, mark.used);
    arena_close(&arena);
    free(params);
    free(grads);
    model_free(&model);
}

static void a_failed_operation_is_what_the_pass_reports(void **state)
{
    (void)state;
    const struct model_config config = {12, 48, 64, PATCH_MERGING_LEGACY};
    struct compute c = nothing();
    struct model model;
    struct arena arena;
    real unused[1] = {0};
    assert_int_equal(model_create(&model, &config), VOCO_OK);
    real *params = calloc(model.table.total, sizeof *params),
         *grads = calloc(model.table.total, sizeof *grads);
    assert_non_null(params);
    assert_non_null(grads);
    assert_int_equal(arena_open(&arena, 64 * mebibyte), VOCO_OK);
    struct encoder_activations *kept = (void *)&arena;
    compute_failed(&c, VOCO_UNSUPPORTED, "no such shape");
    assert_int_equal(encoder_forward(&model, &c, &arena, params, unused, unused, 1, &kept), VOCO_UNSUPPORTED);
    assert_null(kept);
    assert_int_equal(arena_mark(&arena).used, 0);
    assert_non_null(strstr(voco_error_message(), "no such shape"));
    arena_close(&arena);
    free(params);
    free(grads);
    model_free(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crop_of_base_takes_what_the_documentation_says),
        cmocka_unit_test(boxes_take_no_more_than_is_said),
        cmocka_unit_test(crops_of_huge_fit_in_two_gibibytes_each),
        cmocka_unit_test(a_small_arena_is_reported_and_left_as_it_was),
        cmocka_unit_test(a_failed_operation_is_what_the_pass_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
