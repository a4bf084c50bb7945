#include "train/schedule.h"

#include <math.h>

double schedule_learning_rate(const struct schedule *schedule, long long step)
{
    if (schedule->kind == SCHEDULE_CONSTANT) {
        return schedule->learning_rate;
    }
    if (step < schedule->warmup) {
        return schedule->learning_rate * ((double)step / (double)schedule->warmup);
    }
    if (step >= schedule->total) {
        return 0;
    }
    const double pi = 3.14159265358979323846;
    const double passed = (double)(step - schedule->warmup) / (double)(schedule->total - schedule->warmup);
    return schedule->learning_rate * fmax(0, (1 + cos(pi * passed)) / 2);
}
