/* The encoder and the student's projector there and back, on any implementation, and how far two are apart.
 */
#ifndef TESTS_GPU_ENCODER_PASS_H
#define TESTS_GPU_ENCODER_PASS_H

#include "model/model.h"

/* What a pass gives; the host's. */
struct pass {
    struct parameter_table table;
    float *embedding, *z, *grads;
    size_t embeddings, zs;
};

/* n crops through encoder and projector; back through the projector from a gradient of z, and through the
 * encoder from a gradient of the embeddings that is given too. (The projector's own is no measure: with few
 * rows a BatchNorm's is mostly what was rounded.) What fails ends the program. */
void pass_through(struct pass *pass, struct compute *c, const struct model_config *config, int n);
void free_pass(struct pass *pass);

/* Gives `expected` the z and the student's gradient that c makes of the embeddings of `found`. Projectors
 * compute in float32 whatever the precision, so that from the same embeddings they come to the same; from
 * embeddings that differ they do not: BatchNorm over few rows magnifies it (two rows that are alike in a
 * channel become -1 and 1). */
void project_same_embeddings(struct pass *expected, struct compute *c, const struct model_config *config,
                             int n, const struct pass *found);

void require_ok(enum voco_status status);

/* |found - expected| / |expected| in L2, infinite where there is a NaN or nothing but zero is expected. */
double relative_distance(const float *found, const float *expected, size_t count);

/* Relative distances. */
struct allowed {
    double embedding, all, parameter; /* of the backbone's gradient: as one vector, and of each parameter */
    double z, projector;              /* of the student's gradient, as one vector */
};

/* Print, and return whether something is wrong. */
int compare(const char *what, const struct pass *found, const struct pass *expected,
            const struct allowed *allowed);
int differ_in_bits(const struct pass *a, const struct pass *b);

#endif
