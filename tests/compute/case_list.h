/* What a file *_cases.c is made of: it has the operations of one subject, what a test computes by each,
 * forward and backward, from inputs that depend on the shape alone, and the shapes. */
#ifndef TESTS_COMPUTE_CASE_LIST_H
#define TESTS_COMPUTE_CASE_LIST_H

#include "operation_cases.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

struct case_list {
    struct operation_case *cases;
    size_t count, max;
};

/* `family` is one of operation_families. What is returned has yet to be named, and told what it needs
 * (is_there). */
struct operation_case *append_case(struct case_list *list, const char *family, operation run,
                                   const void *shape, double work, int large);

__attribute__((format(printf, 2, 3))) void name_case(struct operation_case *it, const char *format, ...);

/* Those of each file. */
void list_convolution_cases(struct case_list *list);
void list_linear_cases(struct case_list *list);
void list_norm_cases(struct case_list *list);
void list_attention_cases(struct case_list *list);
void list_elementwise_cases(struct case_list *list);
void list_patch_merge_cases(struct case_list *list);
void list_optimiser_cases(struct case_list *list);
void list_loss_cases(struct case_list *list);
void list_crop_cases(struct case_list *list);

#endif
