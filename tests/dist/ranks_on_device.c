#include "dist/ranks_on_device.h"

#include "base/log.h"

#include <stdio.h>

/* What ends a job says so. */
static void print_error(enum log_level level, const char *line)
{
    if (level == LOG_ERROR) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

#ifdef TEST_DEVICE

#include "device_on_host/device_on_host.h"

#include <stdlib.h>
#include <string.h>

static void listen(enum log_level level, const char *line, void *context)
{
    int *as_wanted = context;
    const char *wanted = ranks_nccl_is_off() ? "which is slower" : "by NCCL 2.21.5";
    *as_wanted |= strstr(line, wanted) != NULL;
    print_error(level, line);
}

int open_test_compute(struct compute *c, struct ranks *ranks)
{
    static int as_wanted;
    log_set_sink(listen, &as_wanted);
    if (open_device_on_host(c, "cpu") != VOCO_OK || ranks_join_device(ranks, c) != VOCO_OK) {
        (void)fprintf(stderr, "%s\n", voco_error_message());
        return 0;
    }
    return as_wanted;
}

#else

static void listen(enum log_level level, const char *line, void *context)
{
    (void)context;
    print_error(level, line);
}

int open_test_compute(struct compute *c, struct ranks *ranks)
{
    (void)ranks;
    log_set_sink(listen, NULL);
    return compute_open(c, "cpu", 1, PRECISION_FLOAT32) == VOCO_OK;
}

#endif

void close_test_compute(struct compute *c, struct ranks *ranks)
{
    ranks_leave_device(ranks);
    compute_close(c);
}

void to_test_device(struct compute *c, struct ranks_order *order)
{
    const size_t bytes = order->count * sizeof(float);
    if (c->separate_memory) {
        float *copy = c->allocate(c, bytes);
        c->to_device(c, copy, order->values, bytes);
        order->values = copy;
        order->on_device = 1;
    }
}

void from_test_device(struct compute *c, struct ranks_order *order, void *values)
{
    if (order->on_device) {
        c->to_host(c, values, order->values, order->count * sizeof(float));
        c->wait(c);
        c->release(c, order->values);
        order->values = values;
        order->on_device = 0;
    }
}
