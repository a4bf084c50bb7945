/* A few threads that work through numbered items together, round after round. Between rounds they sleep:
 * unlike OpenMP's, which spin for milliseconds, they cost nothing where other work wants the cores. */
#ifndef BASE_TEAM_H
#define BASE_TEAM_H

struct team;

/* Does item number `item`; `member` says who does it, 0 (the caller) to threads - 1, so that each can have
 * memory of its own. */
typedef void team_work(void *context, int item, int member);

/* The calling thread and threads - 1 others, or fewer where the system refuses them. NULL where there is no
 * memory. End with team_dismiss, between rounds. */
struct team *team_gather(int threads);

/* The others start on the items 0 to items - 1, each done once, in any order. */
void team_begin(struct team *team, int items, team_work *work, void *context);

/* The caller joins in; returns when all items are done. */
void team_finish(struct team *team);

void team_dismiss(struct team *team); /* NULL is fine */

#endif
