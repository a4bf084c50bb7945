/* Which process holds a claim, and whether it still runs. */
#ifndef STORE_CLAIM_HOLDER_H
#define STORE_CLAIM_HOLDER_H

#include <stddef.h>

enum { claim_text_size = 256 };

struct claim_holder {
    char host[65];
    char boot[40];      /* identity of the running kernel; "-" where the system does not tell */
    char processes[40]; /* identity of the space of process numbers (a container has its own); or "-" */
    long pid;           /* in that space */
    unsigned long long started; /* clock ticks from the boot to the start of the process; 0: unknown */
};

/* This process. */
void claim_holder_self(struct claim_holder *self);

/* "voco claim\nhost HOST\nboot BOOT\nprocesses SPACE\npid PID\nstarted TICKS\n". */
void claim_holder_format(char text[claim_text_size], const struct claim_holder *holder);

/* Returns 0 where the text is not such a one. */
int claim_holder_parse(struct claim_holder *holder, const char *text);

/* Whether the process is certainly gone, as far as `self` can see its machine's processes; 0 also where it
 * cannot. Another process that has got the same number is not taken for it. */
int claim_holder_is_gone(const struct claim_holder *holder, const struct claim_holder *self);

#endif
