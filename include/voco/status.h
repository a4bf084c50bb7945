/* How every function of voco reports failure.
 *
 * A function that can fail returns a `enum voco_status`. Anything but VOCO_OK leaves a message of one line,
 * without a newline, in thread-local storage; voco_error_message() reads it. The library never exits, aborts
 * or prints. */
#ifndef VOCO_STATUS_H
#define VOCO_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

enum voco_status {
    VOCO_OK = 0,
    VOCO_BAD_INPUT,   /* a file or an argument is not what it must be; the message names it and the cause */
    VOCO_IO,          /* the operating system refused: file missing, disk full, ... */
    VOCO_NO_MEMORY,   /* memory, or the budget the caller set for it, is used up */
    VOCO_UNSUPPORTED, /* a valid request that this build or machine cannot serve */
    VOCO_DIVERGED,    /* training produced NaN or infinity too often in a row */
    VOCO_STOPPED,     /* a signal or the caller asked to stop; state was saved */
};

/* The message of the last failure in this thread; valid until the next failure in it. Never NULL. */
const char *voco_error_message(void);

#ifdef __cplusplus
}
#endif

#endif
