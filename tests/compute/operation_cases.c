#include "case_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

const char *const operation_families[] = {"conv3d",
                                          "normed_conv3d",
                                          "linear",
                                          "fused_linear",
                                          "mlp",
                                          "normed_linear",
                                          "layer_norm",
                                          "instance_norm",
                                          "norm_in_steps",
                                          "pooled_norm",
                                          "attention",
                                          "large_scores",
                                          "attention_apart",
                                          "channel_scale",
                                          "gelu",
                                          "gelu_sweep",
                                          "patch_merge",
                                          "add",
                                          "optimiser",
                                          "sum_in_order",
                                          "not_finite",
                                          "parameters",
                                          "mask",
                                          "contrast_loss",
                                          "crops",
                                          NULL};

static int is_family(const char *name)
{
    size_t k = 0;
    while (operation_families[k] != NULL && strcmp(operation_families[k], name) != 0) {
        k++;
    }
    return operation_families[k] != NULL;
}

struct operation_case *append_case(struct case_list *list, const char *family, operation run,
                                   const void *shape, double work, int large)
{
    assert_true(list->count < list->max);
    assert_true(is_family(family)); /* or no test would ask for it */
    struct operation_case *it = &list->cases[list->count++];
    *it = (struct operation_case){.family = family, .run = run, .shape = shape, .work = work, .large = large};
    return it;
}

void name_case(struct operation_case *it, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(it->name, sizeof it->name, format, arguments);
    va_end(arguments);
}

size_t list_operation_cases(struct operation_case *cases, size_t max)
{
    struct case_list list = {cases, 0, max};
    list_convolution_cases(&list);
    list_linear_cases(&list);
    list_norm_cases(&list);
    list_attention_cases(&list);
    list_elementwise_cases(&list);
    list_patch_merge_cases(&list);
    list_optimiser_cases(&list);
    list_loss_cases(&list);
    list_crop_cases(&list);
    return list.count;
}
