/* One GPU for each rank: what is taken for a mistake of who started them. */
#include "base/error.h"
#include "base/log.h"
#include "train/rank_gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#undef fail /* that of base/error.h */

static struct rank_gpu gpu(unsigned char identity, int visible, int host_size)
{
    return (struct rank_gpu){
        .identity = {{1, 2, [15] = identity}}, .visible = visible, .host_size = host_size};
}

/* Two machines with two GPUs each; and one task a GPU, which sees no other. */
static void a_gpu_for_each_is_right(void **state)
{
    (void)state;
    const struct rank_gpu machines[] = {gpu(1, 2, 2), gpu(2, 2, 2), gpu(3, 2, 2), gpu(4, 2, 2)};
    const struct rank_gpu tasks[] = {gpu(1, 1, 3), gpu(2, 1, 3), gpu(3, 1, 3)};
    assert_int_equal(rank_gpus_check(machines, 4, 0), VOCO_OK);
    assert_int_equal(rank_gpus_check(tasks, 3, 0), VOCO_OK);
}

static void count_lines(enum log_level level, const char *line, void *context)
{
    *(int *)context += level == LOG_WARNING && strstr(line, "processes 0 and 2 share a GPU") != NULL;
}

static void a_shared_gpu_is_refused_unless_asked_for(void **state)
{
    (void)state;
    int lines = 0;
    const struct rank_gpu gpus[] = {gpu(1, 2, 4), gpu(2, 2, 4), gpu(1, 2, 4), gpu(2, 2, 4)};
    assert_int_equal(rank_gpus_check(gpus, 4, 0), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "processes 0 and 2 would compute on the same GPU: 4 were"));
    assert_non_null(strstr(voco_error_message(), "they see 2 GPUs"));
    assert_non_null(strstr(voco_error_message(), "mpirun -n 2"));
    log_set_sink(count_lines, &lines);
    assert_int_equal(rank_gpus_check(gpus, 4, 1), VOCO_OK);
    log_set_sink(NULL, NULL);
    assert_int_equal(lines, 1);
}

/* They have no identity to compare; what they lack is said elsewhere. */
static void ranks_without_a_gpu_share_none(void **state)
{
    (void)state;
    struct rank_gpu gpus[] = {gpu(0, 0, 2), gpu(0, 0, 2)};
    gpus[0].failed = gpus[1].failed = 1;
    assert_int_equal(rank_gpus_check(gpus, 2, 0), VOCO_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_for_each_is_right),
        cmocka_unit_test(a_shared_gpu_is_refused_unless_asked_for),
        cmocka_unit_test(ranks_without_a_gpu_share_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
