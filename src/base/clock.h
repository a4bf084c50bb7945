/* Time that only goes forward, for measuring how long something took. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/* Seconds since some fixed moment. */
double seconds_now(void);

/* Seconds that this process's threads have computed, all together, whoever else was at work. */
double cpu_seconds_now(void);

#endif
