#include "thread_waiting.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

/* libgomp's own number of turns (manual, GOMP_SPINCOUNT) where threads outnumber processors: some 10 to 70
 * microseconds. */
static const char few_turns[] = "1000";
static const char own_program[] = "/proc/self/exe";

void wait_with_little_spinning(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL) {
        return;
    }
    if (setenv("GOMP_SPINCOUNT", few_turns, 1) != 0) {
        return;
    }
    char path[PATH_MAX];
    const ssize_t length = readlink(own_program, path, sizeof path - 1);
    if (length > 0) {
        path[length] = '\0';
        (void)execv(path, argv); /* by its name, which ps and killall go by */
    }
    (void)execv(own_program, argv); /* where that fails, too, the program goes on as it is */
}
