#include "stop_signals.h"

#include <stddef.h>
#include <unistd.h>

volatile sig_atomic_t stop_asked;

static void ask_to_stop(int signal_number)
{
    if (stop_asked && signal_number == SIGINT) {
        _exit(128 + SIGINT);
    }
    stop_asked = 1;
}

void catch_stop_signals(void)
{
    struct sigaction action = {.sa_handler = ask_to_stop, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGUSR1, &action, NULL);
}
