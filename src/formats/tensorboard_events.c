#include "formats/tensorboard_events.h"

#include "base/error.h"
#include "tensorboard_events.pb-c.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    record_head = 12, /* length and its checksum */
    record_tail = 4,
    png_size_at = 16, /* width, height: in the header, which is the first chunk of every PNG file */
    png_color_at = 25,
    png_least_bytes = 33,
};

struct tensorboard_events {
    FILE *stream;
    char *path;
};

static void store(unsigned char *to, int bytes, uint64_t value)
{
    for (int i = 0; i < bytes; i++) {
        to[i] = (unsigned char)(value >> (8 * i));
    }
}

static uint32_t masked_checksum(unsigned char *data, size_t count)
{
    const uint32_t crc = ~crc32_iscsi(data, (int)count, 0xffffffffU);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

/* Appends one event as a record. */
static enum voco_status append(struct tensorboard_events *events, const Voco__Events__Event *event)
{
    const size_t count = voco__events__event__get_packed_size(event);
    if (count > INT_MAX) {
        return fail(VOCO_BAD_INPUT, "%s: an event of more than 2 GiB", events->path);
    }
    unsigned char *record = malloc(record_head + count + record_tail);
    if (record == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", events->path);
    }
    store(record, 8, count);
    store(record + 8, 4, masked_checksum(record, 8));
    (void)voco__events__event__pack(event, record + record_head);
    store(record + record_head + count, 4, masked_checksum(record + record_head, count));
    const size_t bytes = record_head + count + record_tail;
    const int written = fwrite(record, 1, bytes, events->stream) == bytes && fflush(events->stream) == 0;
    free(record);
    return written ? VOCO_OK : fail_errno("%s: cannot write", events->path);
}

/* Creates a file with a name that no other process has. */
static enum voco_status create_file(struct tensorboard_events *events, const char *folder, double time)
{
    static atomic_uint serial;
    char host[256] = "";
    const size_t size = strlen(folder) + 512;
    events->path = malloc(size);
    if (events->path == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    }
    (void)gethostname(host, sizeof host - 1);
    do {
        (void)snprintf(events->path, size, "%s/events.out.tfevents.%010lld.%s.%07ld.%u", folder,
                       (long long)time, host, (long)getpid(), atomic_fetch_add(&serial, 1U));
        events->stream = fopen(events->path, "wbx");
    } while (events->stream == NULL && errno == EEXIST);
    return events->stream != NULL ? VOCO_OK : fail_errno("%s: cannot create", events->path);
}

enum voco_status tensorboard_events_create(struct tensorboard_events **events, const char *folder,
                                           int64_t first_step, double time)
{
    *events = calloc(1, sizeof **events);
    if (*events == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    }
    enum voco_status status = create_file(*events, folder, time);
    if (status == VOCO_OK) {
        Voco__Events__Event event = VOCO__EVENTS__EVENT__INIT;
        event.wall_time = time;
        event.what_case = VOCO__EVENTS__EVENT__WHAT_FILE_VERSION;
        event.file_version = (char *)"brain.Event:2";
        status = append(*events, &event);
    }
    if (status == VOCO_OK) {
        Voco__Events__SessionLog log = VOCO__EVENTS__SESSION_LOG__INIT;
        Voco__Events__Event event = VOCO__EVENTS__EVENT__INIT;
        log.status = VOCO__EVENTS__SESSION_LOG__SESSION_STATUS__START;
        event.wall_time = time;
        event.step = first_step;
        event.what_case = VOCO__EVENTS__EVENT__WHAT_SESSION_LOG;
        event.session_log = &log;
        status = append(*events, &event);
    }
    if (status != VOCO_OK) {
        if ((*events)->stream != NULL) {
            (void)fclose((*events)->stream);
            (void)unlink((*events)->path);
        }
        free((*events)->path);
        free(*events);
        *events = NULL;
    }
    return status;
}

static enum voco_status append_summary(struct tensorboard_events *events, int64_t step, double time,
                                       Voco__Events__Value **values, size_t count)
{
    Voco__Events__Summary summary = VOCO__EVENTS__SUMMARY__INIT;
    Voco__Events__Event event = VOCO__EVENTS__EVENT__INIT;
    summary.n_value = count;
    summary.value = values;
    event.wall_time = time;
    event.step = step;
    event.what_case = VOCO__EVENTS__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return append(events, &event);
}

enum voco_status tensorboard_events_scalars(struct tensorboard_events *events, int64_t step, double time,
                                            const struct tensorboard_scalar *scalars, size_t count)
{
    Voco__Events__Value *values = calloc(count + 1, sizeof *values);
    Voco__Events__Value **list = calloc(count + 1, sizeof(void *));
    if (values == NULL || list == NULL) {
        free(list);
        free(values);
        return fail(VOCO_NO_MEMORY, "%s: out of memory", events->path);
    }
    for (size_t i = 0; i < count; i++) {
        voco__events__value__init(&values[i]);
        values[i].tag = (char *)scalars[i].tag;
        values[i].value_case = VOCO__EVENTS__VALUE__VALUE_SIMPLE_VALUE;
        values[i].simple_value = scalars[i].value;
        list[i] = &values[i];
    }
    const enum voco_status status = append_summary(events, step, time, list, count);
    free(list);
    free(values);
    return status;
}

static uint32_t big_endian(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* TensorBoard's number for a PNG colour type: grey, RGB, palette, grey and alpha, RGBA. 0: no such type. */
static int colorspace(unsigned char color)
{
    static const int of_color[] = {1, 0, 3, 3, 2, 0, 4};
    return color < sizeof of_color / sizeof of_color[0] ? of_color[color] : 0;
}

enum voco_status tensorboard_events_image(struct tensorboard_events *events, int64_t step, double time,
                                          const char *tag, const void *png, size_t size)
{
    static const unsigned char beginning[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n',
                                              0,    0,   0,   13,  'I',  'H',  'D',  'R'};
    const unsigned char *bytes = png;
    if (size < png_least_bytes || memcmp(bytes, beginning, sizeof beginning) != 0 ||
        big_endian(bytes + png_size_at) > INT32_MAX || big_endian(bytes + png_size_at + 4) > INT32_MAX ||
        colorspace(bytes[png_color_at]) == 0) {
        return fail(VOCO_BAD_INPUT, "%s: image \"%s\" is no PNG file", events->path, tag);
    }
    Voco__Events__Image image = VOCO__EVENTS__IMAGE__INIT;
    Voco__Events__Value value = VOCO__EVENTS__VALUE__INIT;
    Voco__Events__Value *list[] = {&value};
    image.width = (int32_t)big_endian(bytes + png_size_at);
    image.height = (int32_t)big_endian(bytes + png_size_at + 4);
    image.colorspace = colorspace(bytes[png_color_at]);
    image.encoded_image_string.len = size;
    image.encoded_image_string.data = (uint8_t *)bytes;
    value.tag = (char *)tag;
    value.value_case = VOCO__EVENTS__VALUE__VALUE_IMAGE;
    value.image = &image;
    return append_summary(events, step, time, list, 1);
}

const char *tensorboard_events_path(const struct tensorboard_events *events)
{
    return events->path;
}

enum voco_status tensorboard_events_close(struct tensorboard_events *events)
{
    if (events == NULL) {
        return VOCO_OK;
    }
    enum voco_status status = VOCO_OK;
    if (fflush(events->stream) != 0 || fsync(fileno(events->stream)) != 0) {
        status = fail_errno("%s: cannot write", events->path);
    }
    if (fclose(events->stream) != 0 && status == VOCO_OK) {
        status = fail_errno("%s: cannot write", events->path);
    }
    free(events->path);
    free(events);
    return status;
}
