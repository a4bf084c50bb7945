/* Ranks that sum arrays on devices for ever: what happens where one is lost (tests/CMakeLists.txt). With the
 * argument "silent" the last of them stops after a while, as a machine does whose network is gone. */
#include "dist/ranks_on_device.h"

#include <signal.h>
#include <string.h>

int main(int argc, char **argv)
{
    enum { count = 100000, until_silence = 30 };
    static float values[count];
    struct ranks ranks;
    struct compute compute;
    const int silent = argc > 1 && strcmp(argv[1], "silent") == 0;
    if (ranks_open(&ranks) != VOCO_OK || !open_test_compute(&compute, &ranks)) {
        return 1;
    }
    for (long k = 0; ranks.size > 1; k++) {
        struct ranks_order order = {.operation = RANKS_SUM, .values = values, .count = count, .scale = 1};
        if (silent && k == until_silence && ranks.rank == ranks.size - 1) {
            (void)raise(SIGSTOP);
        }
        to_test_device(&compute, &order);
        ranks_start(&ranks, &order);
        ranks_finish(&ranks, &order);
        from_test_device(&compute, &order, values);
    }
    close_test_compute(&compute, &ranks);
    ranks_close(&ranks);
    return 0;
}
