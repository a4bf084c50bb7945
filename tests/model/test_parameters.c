/* The parameter table against the published lists (names, shapes, order), the counts of voco.md, and the
 * statistics of the initialisation against its closed form. */
#include "model/parameters.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct model_config base = {48, 64, 1024, PATCH_MERGING_LEGACY};
static const struct model_config small = {6, 48, 32, PATCH_MERGING_LEGACY};

/* "name (a, b, c)" or "name (a,)", as Python prints a shape. */
static void write_line(char *line, size_t size, const char *name, int rank, const int64_t *shape,
                       const char *type)
{
    size_t used = (size_t)snprintf(line, size, "%s (", name);
    for (int axis = 0; axis < rank; axis++) {
        used +=
            (size_t)snprintf(line + used, size - used, axis == 0 ? "%lld" : ", %lld", (long long)shape[axis]);
    }
    snprintf(line + used, size - used, rank == 1 ? ",) %s\n" : ") %s\n", type);
}

static void expect_line(FILE *list, const char *line)
{
    char published[256];
    assert_non_null(fgets(published, sizeof published, list));
    assert_string_equal(line, published);
}

static void check_against(const char *file, int feature_size)
{
    FILE *list = fopen(file, "r");
    assert_non_null(list);
    const struct model_config config = {feature_size, 64, 1024, PATCH_MERGING_LEGACY};
    struct parameter_table table;
    assert_int_equal(parameter_table_create(&table, &config), VOCO_OK);
    for (int i = 0; i < table.count; i++) {
        const struct parameter *p = &table.entries[i];
        char line[256];
        char buffer[parameter_name_size];
        write_line(line, sizeof line, p->name, p->rank, p->shape, "float32");
        expect_line(list, line);
        assert_false(is_relative_position_index(p->name));
        if (parameter_buffer_after(buffer, p)) {
            write_line(line, sizeof line, buffer, 2, (const int64_t[]){343, 343}, "int64");
            expect_line(list, line);
            assert_true(is_relative_position_index(buffer));
        }
    }
    assert_int_equal(fgetc(list), EOF);
    parameter_table_free(&table);
    assert_int_equal(fclose(list), 0);
}

static void names_shapes_and_order_are_the_published_ones(void **state)
{
    (void)state;
    check_against(VOCO_SPEC_TABLES "/state_dict_B.txt", 48);
    check_against(VOCO_SPEC_TABLES "/state_dict_L.txt", 96);
    check_against(VOCO_SPEC_TABLES "/state_dict_H.txt", 192);
}

static void parameter_counts_are_the_published_ones(void **state)
{
    (void)state;
    const struct {
        int feature_size;
        size_t backbone, all;
    } known[] = {
        {48, 53164146, 59723890},
        {96, 211999362, 220918402},
        {192, 847276194, 860913826},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const struct model_config config = {known[i].feature_size, 64, 1024, PATCH_MERGING_FIXED};
        struct parameter_table table;
        assert_int_equal(parameter_table_create(&table, &config), VOCO_OK);
        assert_int_equal(parameter_elements(&table, GROUP_BACKBONE), known[i].backbone);
        assert_int_equal(parameter_elements(&table, GROUP_TEACHER), known[i].all);
        parameter_table_free(&table);
    }
}

static void offsets_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    struct parameter_table table;
    assert_int_equal(parameter_table_create(&table, &small), VOCO_OK);
    size_t end = 0;
    enum parameter_group group = GROUP_BACKBONE;
    for (int i = 0; i < table.count; i++) {
        const struct parameter *p = &table.entries[i];
        assert_int_equal(p->offset % parameter_alignment, 0);
        assert_true(p->offset >= end && p->offset < end + parameter_alignment);
        assert_true(p->group >= group);
        group = p->group;
        end = p->offset + p->count;
        assert_true(end <= (group == GROUP_BACKBONE  ? table.backbone
                            : group == GROUP_STUDENT ? table.trained
                                                     : table.total));
        assert_true(p->offset >= (group == GROUP_BACKBONE  ? 0
                                  : group == GROUP_STUDENT ? table.backbone
                                                           : table.trained));
    }
    parameter_table_free(&table);
}

static void each_teacher_parameter_lies_one_distance_behind_its_twin(void **state)
{
    (void)state;
    struct parameter_table table;
    assert_int_equal(parameter_table_create(&table, &small), VOCO_OK);
    int twins = 0;
    for (int i = 0; i < table.count; i++) {
        const struct parameter *p = &table.entries[i];
        if (p->group != GROUP_STUDENT) {
            continue;
        }
        char name[parameter_name_size];
        snprintf(name, sizeof name, "teacher%s", p->name + strlen("student"));
        const struct parameter *twin = parameter_find(&table, name);
        assert_non_null(twin);
        assert_int_equal(twin->offset - p->offset, table.teacher_distance);
        assert_int_equal(twin->count, p->count);
        twins++;
    }
    assert_int_equal(twins, 6);
    assert_null(parameter_find(&table, "student.layer4.0.weight"));
    parameter_table_free(&table);
}

static void wrong_configurations_are_refused(void **state)
{
    (void)state;
    const struct model_config wrong[] = {
        {0, 64, 64, PATCH_MERGING_LEGACY},   {-3, 64, 64, PATCH_MERGING_LEGACY},
        {10, 64, 64, PATCH_MERGING_LEGACY},  {771, 64, 64, PATCH_MERGING_LEGACY},
        {12, 32, 64, PATCH_MERGING_LEGACY},  {12, 40, 64, PATCH_MERGING_LEGACY},
        {12, 56, 64, PATCH_MERGING_LEGACY},  {12, 528, 64, PATCH_MERGING_LEGACY},
        {12, -64, 64, PATCH_MERGING_LEGACY}, {12, 64, 0, PATCH_MERGING_LEGACY},
        {12, 64, 70000, PATCH_MERGING_V2},   {12, 64, 64, (enum patch_merging)3},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct parameter_table table;
        assert_int_equal(model_config_check(&wrong[i]), VOCO_BAD_INPUT);
        assert_int_equal(parameter_table_create(&table, &wrong[i]), VOCO_BAD_INPUT);
    }
    assert_int_equal(model_config_check(&base), VOCO_OK);
    assert_int_equal(model_config_check(&(struct model_config){3, 48, 1, PATCH_MERGING_V2}), VOCO_OK);
}

static void merging_orders_have_names(void **state)
{
    (void)state;
    const char *const names[] = {"legacy", "fixed", "v2"};
    const enum patch_merging orders[] = {PATCH_MERGING_LEGACY, PATCH_MERGING_FIXED, PATCH_MERGING_V2};
    for (int i = 0; i < 3; i++) {
        enum patch_merging order;
        assert_int_equal(patch_merging_from_name(&order, names[i]), VOCO_OK);
        assert_int_equal(order, orders[i]);
        assert_string_equal(patch_merging_name(order), names[i]);
    }
    enum patch_merging order;
    assert_int_equal(patch_merging_from_name(&order, "Legacy"), VOCO_BAD_INPUT);
}

static void relative_position_index_is_that_of_a_window_of_7(void **state)
{
    (void)state;
    int64_t *index = malloc(sizeof *index * relative_position_tokens * relative_position_tokens);
    assert_non_null(index);
    model_relative_position_index(index);
    /* Equal positions share the centre; opposite corners are the ends of the table. */
    for (int a = 0; a < relative_position_tokens; a++) {
        assert_int_equal(index[a * relative_position_tokens + a], (2197 - 1) / 2);
    }
    assert_int_equal(index[342], 0);
    assert_int_equal(index[342 * relative_position_tokens], 2196);
    assert_int_equal(index[1], (2197 - 1) / 2 - 1);
    assert_int_equal(index[7], (2197 - 1) / 2 - 13);
    assert_int_equal(index[49], (2197 - 1) / 2 - 169);
    free(index);
}

/* Mean and variance of each drawn parameter within 6 standard errors of U(-b, b) or N(0, 0.02). */
static void check_statistics(const struct parameter *p, const real *values)
{
    double sum = 0;
    double squares = 0;
    double largest = 0;
    for (size_t j = 0; j < p->count; j++) {
        const double v = (double)values[p->offset + j];
        sum += v;
        squares += v * v;
        largest = fmax(largest, fabs(v));
    }
    const double n = (double)p->count;
    const int uniform = p->init == INIT_UNIFORM;
    const double variance = uniform ? p->bound * p->bound / 3 : 0.02 * 0.02;
    const double fourth_moment_ratio = uniform ? 9.0 / 5.0 : 3.0;
    assert_true(fabs(sum / n) < 6 * sqrt(variance / n));
    assert_true(fabs(squares / n / variance - 1) < 6 * sqrt((fourth_moment_ratio - 1) / n));
    assert_true(largest <= (uniform ? p->bound : 2.0));
    if (uniform && p->count > 2000) {
        assert_true(largest > 0.99 * p->bound);
    }
}

static double bound_of(const struct parameter_table *table, const char *name)
{
    const struct parameter *p = parameter_find(table, name);
    assert_non_null(p);
    assert_int_equal(p->init, INIT_UNIFORM);
    return p->bound;
}

static void initial_values_follow_their_distributions(void **state)
{
    (void)state;
    struct parameter_table table;
    assert_int_equal(parameter_table_create(&table, &small), VOCO_OK);
    real *values = malloc(table.total * sizeof *values);
    assert_non_null(values);
    memset(values, 0xff, table.total * sizeof *values);
    parameters_initialise(values, &table, 7);
    size_t end = 0;
    for (int i = 0; i < table.count; i++) {
        const struct parameter *p = &table.entries[i];
        for (; end < p->offset; end++) {
            assert_true(values[end] == 0);
        }
        end = p->offset + p->count;
        if (p->init == INIT_UNIFORM || p->init == INIT_TRUNCATED_NORMAL) {
            check_statistics(p, values);
            continue;
        }
        assert_non_null(strstr(p->name, "norm"));
        assert_int_equal(p->init == INIT_ONE, strstr(p->name, ".weight") != NULL);
        for (size_t j = 0; j < p->count; j++) {
            assert_true(values[p->offset + j] == (p->init == INIT_ONE ? 1 : 0));
        }
    }
    for (; end < table.total; end++) {
        assert_true(values[end] == 0);
    }
    /* fan_in = 2^3, 6, 4 x 6, 8 x 6, 27 x 6, 24 x 6; a bias has its weight's bound. */
    const struct {
        const char *name;
        double fan_in;
    } known[] = {
        {"backbone.swinViT.patch_embed.proj.weight", 8},
        {"backbone.swinViT.patch_embed.proj.bias", 8},
        {"backbone.swinViT.layers1.0.blocks.1.attn.qkv.bias", 6},
        {"backbone.swinViT.layers1.0.blocks.1.mlp.linear2.bias", 24},
        {"backbone.swinViT.layers1.0.downsample.reduction.weight", 48},
        {"backbone.encoder1.layer.conv1.conv.weight", 27},
        {"backbone.encoder1.layer.conv2.conv.weight", 162},
        {"backbone.encoder1.layer.conv3.conv.weight", 1},
        {"teacher.layer1.0.bias", 144},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_float_equal(bound_of(&table, known[i].name), 1 / sqrt(known[i].fan_in), 1e-12);
    }
    assert_int_equal(
        parameter_find(&table, "backbone.swinViT.layers4.0.blocks.1.attn.relative_position_bias_table")->init,
        INIT_TRUNCATED_NORMAL);
    free(values);
    parameter_table_free(&table);
}

static void seeds_decide_and_the_teacher_has_its_own_draw(void **state)
{
    (void)state;
    struct parameter_table table;
    assert_int_equal(parameter_table_create(&table, &small), VOCO_OK);
    const size_t bytes = table.total * sizeof(real);
    real *first = malloc(bytes);
    real *again = malloc(bytes);
    real *other = malloc(bytes);
    assert_non_null(first);
    assert_non_null(again);
    assert_non_null(other);
    parameters_initialise(first, &table, 7);
    parameters_initialise(again, &table, 7);
    parameters_initialise(other, &table, 8);
    assert_memory_equal(first, again, bytes);
    for (int i = 0; i < table.count; i++) {
        const struct parameter *p = &table.entries[i];
        if (p->init == INIT_UNIFORM || p->init == INIT_TRUNCATED_NORMAL) {
            assert_memory_not_equal(first + p->offset, other + p->offset, p->count * sizeof(real));
        }
        if (p->group == GROUP_STUDENT) {
            assert_memory_not_equal(first + p->offset, first + p->offset + table.teacher_distance,
                                    p->count * sizeof(real));
        }
    }
    free(first);
    free(again);
    free(other);
    parameter_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_shapes_and_order_are_the_published_ones),
        cmocka_unit_test(parameter_counts_are_the_published_ones),
        cmocka_unit_test(offsets_are_aligned_and_do_not_overlap),
        cmocka_unit_test(each_teacher_parameter_lies_one_distance_behind_its_twin),
        cmocka_unit_test(wrong_configurations_are_refused),
        cmocka_unit_test(merging_orders_have_names),
        cmocka_unit_test(relative_position_index_is_that_of_a_window_of_7),
        cmocka_unit_test(initial_values_follow_their_distributions),
        cmocka_unit_test(seeds_decide_and_the_teacher_has_its_own_draw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
