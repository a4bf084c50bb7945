/* TensorBoard's event files: scalars and images by step, for `tensorboard --logdir`.
 *
 * A file is a row of TFRecords: the length of the data (uint64), its checksum (uint32), the data, the data's
 * checksum; little-endian. A checksum is the CRC-32C, rotated right by 15 bits, plus 0xa282ead8, so that data
 * which holds checksums has none that confirms itself. The data is an Event (tensorboard_events.proto); the
 * first one says "brain.Event:2". Source: tensorflow/core/lib/io/record_writer.h and
 * tensorflow/core/util/events_writer.cc.
 *
 * Records are appended and each is handed to the system at once, so that TensorBoard shows a running
 * training; one that was cut by a crash is the last, and TensorBoard leaves it out. */
#ifndef FORMATS_TENSORBOARD_EVENTS_H
#define FORMATS_TENSORBOARD_EVENTS_H

#include "voco/status.h"

#include <stddef.h>
#include <stdint.h>

struct tensorboard_events;

struct tensorboard_scalar {
    const char *tag; /* "loss/intra": TensorBoard groups by what is before the slash */
    float value;
};

/* Creates a new file events.out.tfevents.SECONDS.HOST.PID.N in the folder, which must exist. What earlier
 * files of the folder hold for `first_step` and later is dropped by TensorBoard: a run that goes on from a
 * checkpoint may have got further before. `time`: seconds since 1970. VOCO_IO where the system refuses. */
enum voco_status tensorboard_events_create(struct tensorboard_events **events, const char *folder,
                                           int64_t first_step, double time);

/* Appends the scalars of a step as one event. */
enum voco_status tensorboard_events_scalars(struct tensorboard_events *events, int64_t step, double time,
                                            const struct tensorboard_scalar *scalars, size_t count);

/* Appends an image, the `size` bytes of a PNG file. VOCO_BAD_INPUT where they do not begin as one. */
enum voco_status tensorboard_events_image(struct tensorboard_events *events, int64_t step, double time,
                                          const char *tag, const void *png, size_t size);

/* The file's path, owned by events. */
const char *tensorboard_events_path(const struct tensorboard_events *events);

/* Syncs, closes and frees; VOCO_IO where what was appended may not be on the disk. NULL is allowed. */
enum voco_status tensorboard_events_close(struct tensorboard_events *events);

#endif
