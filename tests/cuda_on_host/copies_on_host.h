/* What the threads' scheduler (cuda_on_host.cpp) and the copies to shared memory (copies_on_host.cpp), with
 * all barriers but the block's, want of each other. */
#ifndef COPIES_ON_HOST_H
#define COPIES_ON_HOST_H

#include <stdint.h>

namespace cuda_on_host
{

enum { threads_max = 1024 }; /* of a block */

/* ---- of the scheduler ---- */

int current_thread();

/* 0 or 1, as chance has it with this launch; the same when all is run again. */
int tossed(uint32_t what);

/* Others go on until there is news of copies, or of a barrier. */
void wait_at_copies();

/* ---- of the copies ---- */

void forget_copies_of(int thread);
void forget_barriers();
unsigned long news_of_copies(); /* changes with whatever may end a wait */

} // namespace cuda_on_host

#endif
