/* Names of the network's tensors: every published name is recognised in every space, behind every wrapper and
 * in the older spellings; what is not one of them is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/checkpoint_names.h"

#include <stdio.h>
#include <string.h>

static const struct model_config base = {48, 64, 1024, PATCH_MERGING_LEGACY};

struct names {
    struct parameter_table table;
    struct name_index index;
};

static struct names names;

static int open_names(void **state)
{
    (void)state;
    return parameter_table_create(&names.table, &base) != VOCO_OK ||
           name_index_create(&names.index, &names.table) != VOCO_OK;
}

static int close_names(void **state)
{
    (void)state;
    name_index_free(&names.index);
    parameter_table_free(&names.table);
    return 0;
}

/* Calls `check` for each name of PyTorch's own list. */
static int for_each_published_name(void (*check)(const char *name))
{
    int count = 0;
    char line[256];
    FILE *list = fopen(VOCO_SPEC_TABLES "/state_dict_B.txt", "r");
    assert_non_null(list);
    while (fgets(line, sizeof line, list) != NULL) {
        line[strcspn(line, " ")] = '\0';
        check(line);
        count++;
    }
    (void)fclose(list);
    return count;
}

/* `stored` is the parameter (or the buffer behind it) `own`. */
static void assert_known(const char *stored, const char *own, enum name_space space, size_t wrapper,
                         int moment)
{
    struct known_name known;
    char buffer[parameter_name_size];
    if (!recognise_name(&known, &names.index, stored)) {
        fail_msg("%s is not recognised", stored);
    }
    const struct parameter *parameter = &names.table.entries[known.parameter];
    if (is_relative_position_index(own)) {
        assert_true(known.is_buffer);
        assert_true(parameter_buffer_after(buffer, parameter));
        assert_string_equal(buffer, own);
    } else {
        assert_false(known.is_buffer);
        assert_string_equal(parameter->name, own);
    }
    assert_int_equal(known.space, space);
    assert_int_equal(known.wrapper, wrapper);
    assert_int_equal(known.moment, moment);
}

static void check_spaces_and_wrappers(const char *own)
{
    static const char *const wrappers[] = {
        "", "module.", "state_dict.", "model.state_dict.module.", "student.", "network_weights.backbone."};
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++) {
        for (int space = NAMES_VOCO; space <= NAMES_SWIN; space++) {
            const char *part = name_in_space(own, (enum name_space)space);
            char stored[512];
            if (part == NULL ||
                (strcmp(wrappers[i], "network_weights.backbone.") == 0 && space != NAMES_VOCO)) {
                continue; /* there "backbone." belongs to the name */
            }
            (void)snprintf(stored, sizeof stored, "%s%s", wrappers[i], part);
            assert_known(stored, own, (enum name_space)space, strlen(wrappers[i]), -1);
        }
    }
    char moment[512];
    (void)snprintf(moment, sizeof moment, "optimizer.max_exp_avg_sq.%s", own);
    assert_known(moment, own, NAMES_VOCO, 0, 2);
    (void)snprintf(moment, sizeof moment, "module.optimizer.exp_avg.%s", own);
    assert_known(moment, own, NAMES_VOCO, strlen("module."), 0);
}

static void every_published_name_is_recognised_in_every_space(void **state)
{
    (void)state;
    assert_int_equal(for_each_published_name(check_spaces_and_wrappers), 157);
}

static void older_spellings_are_recognised(void **state)
{
    (void)state;
    assert_known("module.swin_vit.layers2.0.blocks.1.mlp.fc2.bias",
                 "backbone.swinViT.layers2.0.blocks.1.mlp.linear2.bias", NAMES_MONAI, 7, -1);
    assert_known("backbone.swin_vit.layers4c.0.layer.conv1.conv.weight",
                 "backbone.swinViT.layers4c.0.layer.conv1.conv.weight", NAMES_VOCO, 0, -1);
    assert_known("swin_vit.layers1.0.blocks.0.attn.relative_position_index",
                 "backbone.swinViT.layers1.0.blocks.0.attn.relative_position_index", NAMES_MONAI, 0, -1);
    assert_known("module.layers1.0.blocks.0.mlp.fc1.weight",
                 "backbone.swinViT.layers1.0.blocks.0.mlp.linear1.weight", NAMES_SWIN, 7, -1);
}

static void other_names_are_not_recognised(void **state)
{
    (void)state;
    static const char *const others[] = {
        "",
        ".",
        "swinViT",
        "decoder1.transp_conv.conv.weight",
        "out.conv.conv.weight",
        "encoder5.layer.conv1.conv.weight",
        "encoder1.layer.conv1.conv.weight.",
        "xencoder1.layer.conv1.conv.weight",
        "swinViT.layers3.0.blocks.2.norm1.weight",
        "xswin_vit.patch_embed.proj.bias.x",
        "layer1.0.weight",
        "student.layer4.0.weight",
        "optimizer.state.0.exp_avg",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct known_name known;
        if (recognise_name(&known, &names.index, others[i])) {
            fail_msg("%s is taken for %s", others[i], names.table.entries[known.parameter].name);
        }
    }
    char longest[5000]; /* a known name behind much else, and one that never ends */
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    struct known_name known;
    assert_false(recognise_name(&known, &names.index, longest));
    static const char name[] = ".encoder1.layer.conv1.conv.weight";
    memcpy(longest + sizeof longest - sizeof name, name, sizeof name);
    assert_true(recognise_name(&known, &names.index, longest));
    assert_int_equal(known.wrapper, sizeof longest - sizeof name + 1);
}

static void only_known_words_are_wrappers(void **state)
{
    (void)state;
    assert_true(is_known_wrapper("", 0));
    assert_true(is_known_wrapper("state_dict.module.backbone.", 27));
    assert_true(is_known_wrapper("network_weights.swinViT", 16));
    assert_false(is_known_wrapper("teacher.", 8));
    assert_false(is_known_wrapper("state_dict.modul.", 17));
    assert_false(is_known_wrapper("state_dict..", 12));
}

static void name_spaces_have_names(void **state)
{
    (void)state;
    enum name_space space = NAMES_VOCO;
    assert_int_equal(name_space_from_name(&space, "monai"), VOCO_OK);
    assert_int_equal(space, NAMES_MONAI);
    assert_int_equal(name_space_from_name(&space, "swin"), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "voco, monai"));
    assert_string_equal(name_in_space("backbone.encoder1.x", NAMES_MONAI), "encoder1.x");
    assert_null(name_in_space("backbone.encoder1.x", NAMES_SWIN));
    assert_null(name_in_space("student.layer1.0.weight", NAMES_MONAI));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_published_name_is_recognised_in_every_space),
        cmocka_unit_test(older_spellings_are_recognised),
        cmocka_unit_test(other_names_are_not_recognised),
        cmocka_unit_test(only_known_words_are_wrappers),
        cmocka_unit_test(name_spaces_have_names),
    };
    return cmocka_run_group_tests(tests, open_names, close_names);
}
