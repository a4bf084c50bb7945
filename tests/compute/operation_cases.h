/* Every operation in the shapes that one implementation is held against another in: odd ones and those of the
 * network (voco.md section 2; R = 48 and 64, C = 3 to 48). They lie in the files *_cases.c, one for a
 * subject; case_list.h says what such a file is made of. */
#ifndef TESTS_COMPUTE_OPERATION_CASES_H
#define TESTS_COMPUTE_OPERATION_CASES_H

#include "agreement.h"

struct operation_case {
    const char *family; /* the operation, in a word that does not change */
    char name[112];     /* with its shape */
    operation run;
    const void *shape; /* what `run` takes */
    double work;       /* of the reference, about: multiplications, or elements times what each costs */
    int large;         /* the network's own tensors, for implementations that are fast enough */
    int (*is_there)(const struct compute *c); /* where an implementation may lack operations */
};

/* The shape of a case of "conv3d", on which its tolerance depends. */
struct convolution {
    struct conv3d_shape shape;
    int has_bias, wants_dinp;
};

/* Writes as many as there are; ends the test where that is more than max. */
enum { operation_cases_max = 512 };
size_t list_operation_cases(struct operation_case *cases, size_t max);

/* Families in their order, ending in NULL. */
extern const char *const operation_families[];

#endif
