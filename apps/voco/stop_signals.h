/* Ending long work in order when the user or the batch system asks for it. */
#ifndef APPS_STOP_SIGNALS_H
#define APPS_STOP_SIGNALS_H

#include <signal.h>

/* Non-zero once a signal has asked to stop. */
extern volatile sig_atomic_t stop_asked;

/* From now on SIGINT, SIGTERM and SIGUSR1 set `stop_asked`; a second SIGINT ends the program at once, with
 * the status that a shell gives it. */
void catch_stop_signals(void);

#endif
