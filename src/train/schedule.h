/* The learning rate over the steps (voco.md section 4). */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

enum schedule_kind {
    SCHEDULE_COSINE, /* linear warm-up, then half a cosine down to zero */
    SCHEDULE_CONSTANT,
};

struct schedule {
    enum schedule_kind kind;
    double learning_rate; /* at the top: 1e-4 in the published recipe */
    long long warmup;     /* steps; 5 000 published. Not used by SCHEDULE_CONSTANT, as is `total`. */
    long long total;      /* steps at which the cosine reaches zero; 2 000 000 published */
};

/* The learning rate of step `step`, counted from 0: learning_rate times step / warmup while step < warmup (so
 * the first step has 0), then times (1 + cos(pi (step - warmup) / (total - warmup))) / 2, and 0 from `total`
 * on. */
double schedule_learning_rate(const struct schedule *schedule, long long step);

#endif
