/* A device whose memory is not the host's, for tests on machines without a GPU: the operations of another
 * implementation, done by another thread, one after the other, at some later moment.
 *
 * It is as strict as compute.h: its arrays may be touched by its operations and copies alone (what else does
 * is a segmentation fault, unless the device happens to be at work), the host's side of a copy is read or
 * written when its turn comes, and what is not ordered by `wait` or `follow` happens in either order. */
#ifndef DEVICE_ON_HOST_H
#define DEVICE_ON_HOST_H

#ifdef __cplusplus
extern "C" {
#endif
#include "compute/compute.h"

/* As compute_open of `implementation` with one thread, in float32. */
enum voco_status open_device_on_host(struct compute *c, const char *implementation);

#ifdef __cplusplus
}
#endif

#endif
