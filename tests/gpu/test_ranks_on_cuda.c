/* What ranks ask of a GPU for their sums (ranks_join_device), as far as one GPU can show it: a job of one
 * rank, through the second queue, by NCCL where libnccl.so.2 is found and by way of the host. Skipped, with
 * 77, where there is no GPU. */
#include "base/error.h"
#include "base/log.h"
#include "compute/compute.h"
#include "dist/bf16_rounding.h"
#include "dist/nccl_library.h"
#include "dist/ranks.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void print_line(enum log_level level, const char *line, void *context)
{
    (void)level;
    (void)context;
    printf("    %s\n", line);
}

/* One rank's sum is scale times what it has, in bf16 rounded before and after. Operations before and after
 * the order are queued and nobody waits for them: they halve the values 20 times, double them 20 times, and
 * halve the sum. */
static int sum_is_right(const struct ranks *ranks, struct compute *c, size_t count, enum ranks_form form)
{
    enum { operations = 40 };
    const float scale = 0.75F;
    float *host = malloc(count * sizeof *host), *wanted = malloc(count * sizeof *wanted);
    float *values = c->allocate(c, count * sizeof *values), *zeros = c->allocate(c, count * sizeof *zeros);
    assert_non_null(host);
    assert_non_null(wanted);
    for (size_t i = 0; i < count; i++) {
        host[i] = sinf((float)i) * 3;
        const float sum = scale * (form == RANKS_BF16 ? rounded_to_bf16(host[i]) : host[i]);
        wanted[i] = 0.5F * (form == RANKS_BF16 ? rounded_to_bf16(sum) : sum);
    }
    c->to_device(c, values, host, count * sizeof *values);
    c->zero(c, zeros, count);
    for (int k = 0; k < operations; k++) {
        c->moving_average(c, values, NULL, zeros, k < operations / 2 ? 0.5F : 2, count);
    }
    struct ranks_order order = {.operation = RANKS_SUM,
                                .values = values,
                                .count = count,
                                .scale = scale,
                                .form = form,
                                .on_device = 1};
    ranks_start(ranks, &order);
    ranks_finish(ranks, &order);
    c->moving_average(c, values, NULL, zeros, 0.5F, count);
    c->to_host(c, host, values, count * sizeof *values);
    c->wait(c);
    const int right = compute_status(c) == VOCO_OK && memcmp(host, wanted, count * sizeof *host) == 0;
    printf("    a sum of %zu in %s: %s\n", count, form == RANKS_BF16 ? "bf16" : "float32",
           right ? "right" : "WRONG");
    c->release(c, values);
    c->release(c, zeros);
    free(host);
    free(wanted);
    return right;
}

static int sums_are_right(struct compute *c, int in_bf16)
{
    static const size_t counts[] = {1, 17, 4099, 4194304};
    struct ranks ranks = ranks_alone();
    int right = 1;
    assert_int_equal(ranks_join_device(&ranks, c), VOCO_OK);
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        right = sum_is_right(&ranks, c, counts[k], RANKS_FLOAT32) && right;
        right = (!in_bf16 || sum_is_right(&ranks, c, counts[k], RANKS_BF16)) && right;
    }
    ranks_leave_device(&ranks);
    return right;
}

static int nccl_is_there(void)
{
    struct nccl_library nccl;
    const int is_there = nccl_library_open(&nccl) == VOCO_OK;
    nccl_library_close(&nccl);
    return is_there;
}

int main(void)
{
    struct compute c;
    const enum voco_status status = compute_open(&c, "cuda", 0, PRECISION_BF16);
    if (status == VOCO_UNSUPPORTED) {
        printf("skipped: no device: %s\n", voco_error_message());
        return 77;
    }
    assert_int_equal(status, VOCO_OK);
    log_set_sink(print_line, NULL);
    int right = sums_are_right(&c, nccl_is_there());
    (void)setenv("VOCO_NCCL", "0", 1);
    right = sums_are_right(&c, 0) && right; /* in the host's memory a job of one rank rounds nothing */
    compute_close(&c);
    return !right;
}
