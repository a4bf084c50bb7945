#include "rank_output.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int loud = -1; /* standard error, where the program's is silent */
static int silent_out = -1;
static char prefix[32];

static void silence(void)
{
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (loud < 0 && nowhere >= 0) {
        loud = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        silent_out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        (void)dup2(nowhere, STDERR_FILENO);
        (void)dup2(nowhere, STDOUT_FILENO);
    }
    if (nowhere >= 0) {
        (void)close(nowhere);
    }
}

static void speak(void)
{
    if (loud >= 0) {
        (void)dup2(loud, STDERR_FILENO);
        (void)dup2(silent_out, STDOUT_FILENO);
        (void)close(loud);
        (void)close(silent_out);
        loud = -1;
    }
}

void rank_output_of(const struct ranks *ranks, int all)
{
    (void)fflush(stdout);
    (void)fflush(stderr);
    prefix[0] = '\0';
    if (all && ranks->size > 1) {
        (void)snprintf(prefix, sizeof prefix, "[rank %d] ", ranks->rank);
        speak();
    } else if (ranks->rank > 0) {
        silence();
    }
}

void rank_output_line(const char *line)
{
    (void)fflush(stderr);
    (void)dprintf(loud >= 0 ? loud : STDERR_FILENO, "%s\n", line);
}

const char *rank_output_prefix(void)
{
    return prefix;
}
