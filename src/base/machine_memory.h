/* How much memory the machine has to give, and how much this process takes: in bytes, as Linux tells. */
#ifndef BASE_MACHINE_MEMORY_H
#define BASE_MACHINE_MEMORY_H

#include <stdint.h>

/* What this process may still take without pushing others out: MemAvailable of /proc/meminfo or, where that
 * is less, what the limits of its control groups (version 1 or 2, its own and those above it) leave beside
 * the file pages that they can drop. 0 where the system does not say. */
uint64_t memory_available(void);

/* The same of a machine whose proc and sys lie in the folder `root`; "" is this one. */
uint64_t memory_available_at(const char *root);

/* What this process has in memory now, and the most that it ever had (VmHWM). 0 where the system does not
 * say. */
uint64_t memory_resident(void);
uint64_t memory_peak(void);

/* Gives back to the system what freed blocks still hold, so that memory_resident shows what is in use. */
void memory_give_back(void);

#endif
