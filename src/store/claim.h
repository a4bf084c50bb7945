/* Who works on what, when several processes or machines fill one cache folder: a claim says that one of them
 * is at a volume, so that the others take the next.
 *
 * The claim on a volume is a file FOLDER/.KEY.claim that says which process holds it
 * (store/claim_holder.h). It appears under its name by link(2), which is atomic on network file systems too;
 * where a file system has no links, by exclusive creation. While a claim is held, a thread touches its file
 * every 20 seconds. It is stale, and may be taken over, when its process is gone from this machine, or when
 * nobody has touched it for 3 minutes by the clock of the file server.
 *
 * Claims only spare work. Two processes that hold the same one, after a pause of more than 3 minutes for
 * example, do the same work twice; both write the same bytes and rename them into place, so neither is
 * harmed. */
#ifndef STORE_CLAIM_H
#define STORE_CLAIM_H

#include "voco/status.h"

#include "store/claim_holder.h"

#include <stdint.h>

enum { claim_touch_seconds = 20, claim_stale_seconds = 180 };

/* The claims that this process holds in one folder. May be used by several threads at once. */
struct claims;

/* Writes nothing: a folder that can only be read is no error. VOCO_NO_MEMORY, also where no thread can be
 * started. Close with claims_close, which gives back what is still held; NULL is no error there. */
enum voco_status claims_open(struct claims **claims, const char *folder);
void claims_close(struct claims *claims);

/* Tries to get the claim on a volume; never waits. *taken: 1 where it is now held by the caller, 0 where
 * another, or another thread of this process, has it; then *holder, where not NULL, says who (all zero where
 * that cannot be read). VOCO_IO, naming the folder, where no file can be written there. */
enum voco_status claim_take(struct claims *claims, uint64_t key, int *taken, struct claim_holder *holder);

/* Gives it back. */
void claim_drop(struct claims *claims, uint64_t key);

/* Removes what killed processes left: claims and unfinished files of processes that are gone from this
 * machine, and those that nobody has touched for an hour. What cannot be removed stays. */
void claims_remove_abandoned(const char *folder);

#endif
