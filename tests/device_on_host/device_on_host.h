/* A device whose memory is not the host's, for tests on machines without a GPU: the operations of another
 * implementation, done by another thread, one after the other, at some later moment.
 *
 * It is as strict as compute.h: its arrays may be touched by its operations and copies alone (what else does
 * is a segmentation fault, unless the device happens to be at work), the host's side of a copy is read or
 * written when its turn comes, and what is not ordered by `wait` or `follow` happens in either order. What
 * has no place in a recording ends the program with a message. */
#ifndef DEVICE_ON_HOST_H
#define DEVICE_ON_HOST_H

#ifdef __cplusplus
extern "C" {
#endif
#include "compute/compute.h"

/* As compute_open of `implementation` with one thread, in float32. */
enum voco_status open_device_on_host(struct compute *c, const char *implementation);

/* From now on it has the fused operations of that implementation as well, which compute.h lets one do
 * without: an MLP, and a linear layer of normed rows. Without them layers go another way, as wide ones do. */
void device_fuses_operations(struct compute *c);

/* Of the recordings of a device. A test may set what it likes. */
struct recordings_on_host {
    int made;  /* so far */
    int most;  /* to be made: the next one fails. Any number when the device is opened */
    int moved; /* how often the device's own memory has: what was recorded before cannot be replayed */
};
struct recordings_on_host *device_recordings(struct compute *c);

#ifdef __cplusplus
}
#endif

#endif
