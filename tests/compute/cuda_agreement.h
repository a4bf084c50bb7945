/* Holds the cuda implementation, on a GPU or on a processor, against "reference". */
#ifndef TESTS_COMPUTE_CUDA_AGREEMENT_H
#define TESTS_COMPUTE_CUDA_AGREEMENT_H

#include "operation_cases.h"

/* Cases whose family or name holds `filter` (NULL: all), whose operations c has, and whose work is at most
 * max_work: in float32, bf16 and TF32 (each may be NULL: left out), twice for equal bits. Prints what differs
 * most and returns how many disagree. The oracle computes on all threads of OpenMP first. */
int count_disagreements(struct compute *float32, struct compute *bf16, struct compute *tf32,
                        const char *filter, double max_work);

#endif
