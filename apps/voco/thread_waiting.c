#include "thread_waiting.h"

#include <stdlib.h>
#include <unistd.h>

/* libgomp's own number of turns (manual, GOMP_SPINCOUNT) where threads outnumber processors: some 10 to 70
 * microseconds. */
static const char few_turns[] = "1000";

void wait_with_little_spinning(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL) {
        return;
    }
    if (setenv("GOMP_SPINCOUNT", few_turns, 1) == 0) {
        (void)execv("/proc/self/exe", argv); /* where it fails the program goes on as it is */
    }
}
