#include "store/claim_holder.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Words only: no spaces or control characters, never empty. */
static void keep_to_one_word(char *text, size_t room)
{
    for (char *c = text; *c != '\0'; c++) {
        *c = (unsigned char)*c <= 0x20 || *c == 0x7f ? '_' : *c;
    }
    if (text[0] == '\0' && room > 1) {
        memcpy(text, "-", 2);
    }
}

static void read_boot(char boot[40])
{
    boot[0] = '\0';
    FILE *stream = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (stream != NULL) {
        if (fscanf(stream, "%39s", boot) != 1) {
            boot[0] = '\0';
        }
        (void)fclose(stream);
    }
    keep_to_one_word(boot, 40);
}

static void read_process_space(char space[40])
{
    const ssize_t length = readlink("/proc/self/ns/pid", space, 39);
    space[length > 0 ? length : 0] = '\0';
    keep_to_one_word(space, 40);
}

/* The start of a process and its state ('Z': dead, not yet buried) from /proc (man 5 proc). Returns 0 where
 * it is not there. */
static int look_at_process(long pid, unsigned long long *started, char *state)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *stream = fopen(path, "r");
    if (stream == NULL) {
        return 0;
    }
    const size_t length = fread(text, 1, sizeof text - 1, stream);
    (void)fclose(stream);
    text[length] = '\0';
    const char *behind_name = strrchr(text, ')'); /* the name may have spaces and parentheses */
    return behind_name != NULL &&
           sscanf(behind_name + 1,
                  " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", state,
                  started) == 2;
}

void claim_holder_self(struct claim_holder *self)
{
    char state = '\0';
    *self = (struct claim_holder){.pid = (long)getpid()};
    if (gethostname(self->host, sizeof self->host) != 0) {
        self->host[0] = '\0';
    }
    self->host[sizeof self->host - 1] = '\0';
    keep_to_one_word(self->host, sizeof self->host);
    read_boot(self->boot);
    read_process_space(self->processes);
    if (!look_at_process(self->pid, &self->started, &state)) {
        self->started = 0;
    }
}

void claim_holder_format(char text[claim_text_size], const struct claim_holder *holder)
{
    (void)snprintf(text, claim_text_size,
                   "voco claim\nhost %s\nboot %s\nprocesses %s\npid %ld\nstarted %llu\n", holder->host,
                   holder->boot, holder->processes, holder->pid, holder->started);
}

int claim_holder_parse(struct claim_holder *holder, const char *text)
{
    *holder = (struct claim_holder){0};
    return sscanf(text, "voco claim host %64s boot %39s processes %39s pid %ld started %llu", holder->host,
                  holder->boot, holder->processes, &holder->pid, &holder->started) == 5 &&
           holder->pid > 0;
}

int claim_holder_is_gone(const struct claim_holder *holder, const struct claim_holder *self)
{
    if (strcmp(holder->host, self->host) != 0 || strcmp(holder->boot, self->boot) != 0 ||
        strcmp(holder->processes, self->processes) != 0) {
        return 0;
    }
    unsigned long long started = 0;
    char state = '\0';
    if (holder->started != 0 && look_at_process(holder->pid, &started, &state)) {
        return started != holder->started || state == 'Z' || state == 'X';
    }
    return kill((pid_t)holder->pid, 0) != 0 && errno == ESRCH;
}
