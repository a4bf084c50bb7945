/* How many processors there are to share work between. */
#ifndef BASE_PROCESSORS_H
#define BASE_PROCESSORS_H

/* Those that are online: at least 1, at most 256. */
int processor_count(void);

#endif
