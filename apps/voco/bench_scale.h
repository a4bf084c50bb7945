/* voco bench --scale: what a step would take on many GPUs (train/scale_model.h). */
#ifndef APPS_BENCH_SCALE_H
#define APPS_BENCH_SCALE_H

#include "train/scale_model.h"

/* Prints the estimates for 1, 8, 64 and 512 GPUs with what they assume. */
enum voco_status print_scale(const struct recipe *recipe, const char *name,
                             const struct scale_assumptions *assumptions, int json);

#endif
