/* TensorBoard's event files: framing and checksums by the format's description, contents by protobuf's own
 * parser. (TensorBoard's judgement: tools/interop/check_events.py.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "formats/tensorboard_events.h"
#include "tensorboard_events.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/voco-events-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* CRC-32C bit by bit, then masked. */
static uint32_t slow_checksum(const unsigned char *data, size_t count)
{
    uint32_t crc = 0xffffffffU;
    for (size_t i = 0; i < count; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0x82f63b78U & (0U - (crc & 1U)));
        }
    }
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

static size_t read_all(unsigned char bytes[65536], const char *path)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    const size_t size = fread(bytes, 1, 65536, stream);
    (void)fclose(stream);
    return size;
}

/* The event of the record at `at`, which moves behind it. */
static Voco__Events__Event *next_event(const unsigned char *bytes, size_t size, size_t *at)
{
    uint64_t length = 0;
    uint32_t checksum = 0;
    assert_true(size - *at >= 16);
    memcpy(&length, bytes + *at, 8);
    memcpy(&checksum, bytes + *at + 8, 4);
    assert_int_equal(checksum, slow_checksum(bytes + *at, 8));
    assert_true(size - *at - 16 >= length);
    memcpy(&checksum, bytes + *at + 12 + length, 4);
    assert_int_equal(checksum, slow_checksum(bytes + *at + 12, length));
    Voco__Events__Event *event = voco__events__event__unpack(NULL, length, bytes + *at + 12);
    assert_non_null(event);
    *at += 16 + length;
    return event;
}

static void the_checksum_of_the_test_is_crc32c(void **state)
{
    (void)state;
    const uint32_t crc = 0xe3069283U; /* of "123456789", RFC 3720 */
    assert_int_equal(slow_checksum((const unsigned char *)"123456789", 9),
                     (uint32_t)(((crc >> 15) | (crc << 17)) + 0xa282ead8U));
}

static void what_is_appended_is_read_back(void **state)
{
    (void)state;
    /* The beginning of a PNG file: 5 x 3, 8 bits, RGB. */
    static const unsigned char png[40] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I',
                                          'H',  'D', 'R', 0,   0,    0,    5,    0,    0, 0, 3, 8,  2};
    const struct tensorboard_scalar scalars[] = {{"loss", 1.25F}, {"loss/intra", -0.5F}, {"z", 0.0F}};
    struct tensorboard_events *events = NULL;
    assert_int_equal(tensorboard_events_create(&events, folder, 7, 1e9 + 0.5), VOCO_OK);
    char path[512];
    (void)snprintf(path, sizeof path, "%s", tensorboard_events_path(events));
    assert_int_equal(strncmp(path + strlen(folder), "/events.out.tfevents.1000000000.", 32), 0);
    assert_int_equal(tensorboard_events_scalars(events, 8, 1e9 + 1, scalars, 3), VOCO_OK);
    assert_int_equal(tensorboard_events_image(events, 9, 1e9 + 2, "crops", png, sizeof png), VOCO_OK);

    unsigned char bytes[65536];
    const size_t size = read_all(bytes, path); /* before the file is closed */
    size_t at = 0;
    Voco__Events__Event *event = next_event(bytes, size, &at);
    assert_int_equal(event->what_case, VOCO__EVENTS__EVENT__WHAT_FILE_VERSION);
    assert_string_equal(event->file_version, "brain.Event:2");
    assert_true(event->wall_time == 1e9 + 0.5);
    voco__events__event__free_unpacked(event, NULL);

    event = next_event(bytes, size, &at);
    assert_int_equal(event->what_case, VOCO__EVENTS__EVENT__WHAT_SESSION_LOG);
    assert_int_equal(event->session_log->status, VOCO__EVENTS__SESSION_LOG__SESSION_STATUS__START);
    assert_int_equal(event->step, 7);
    voco__events__event__free_unpacked(event, NULL);

    event = next_event(bytes, size, &at);
    assert_int_equal(event->step, 8);
    assert_int_equal(event->what_case, VOCO__EVENTS__EVENT__WHAT_SUMMARY);
    assert_int_equal(event->summary->n_value, 3);
    for (size_t i = 0; i < 3; i++) {
        const Voco__Events__Value *value = event->summary->value[i];
        assert_string_equal(value->tag, scalars[i].tag);
        assert_int_equal(value->value_case, VOCO__EVENTS__VALUE__VALUE_SIMPLE_VALUE);
        assert_true(value->simple_value == scalars[i].value);
    }
    voco__events__event__free_unpacked(event, NULL);

    event = next_event(bytes, size, &at);
    assert_int_equal(event->step, 9);
    const Voco__Events__Value *value = event->summary->value[0];
    assert_string_equal(value->tag, "crops");
    assert_int_equal(value->value_case, VOCO__EVENTS__VALUE__VALUE_IMAGE);
    assert_int_equal(value->image->width, 5);
    assert_int_equal(value->image->height, 3);
    assert_int_equal(value->image->colorspace, 3);
    assert_int_equal(value->image->encoded_image_string.len, sizeof png);
    assert_memory_equal(value->image->encoded_image_string.data, png, sizeof png);
    voco__events__event__free_unpacked(event, NULL);
    assert_int_equal(at, size);

    assert_int_equal(tensorboard_events_image(events, 9, 1e9 + 2, "crops", "GIF89a", 6), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "image \"crops\" is no PNG file"));
    assert_int_equal(tensorboard_events_close(events), VOCO_OK);
    assert_int_equal(read_all(bytes, path), size);
    (void)unlink(path);
}

static void two_writers_have_two_files(void **state)
{
    (void)state;
    struct tensorboard_events *events[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tensorboard_events_create(&events[i], folder, 0, 1e9), VOCO_OK);
    }
    assert_string_not_equal(tensorboard_events_path(events[0]), tensorboard_events_path(events[1]));
    for (int i = 0; i < 2; i++) {
        (void)unlink(tensorboard_events_path(events[i]));
        assert_int_equal(tensorboard_events_close(events[i]), VOCO_OK);
    }
}

static void a_missing_folder_is_reported(void **state)
{
    (void)state;
    struct tensorboard_events *events = NULL;
    assert_int_equal(tensorboard_events_create(&events, "/no/such/folder", 0, 1e9), VOCO_IO);
    assert_null(events);
    assert_int_equal(strncmp(voco_error_message(), "/no/such/folder/events.out.", 27), 0);
    assert_int_equal(tensorboard_events_close(events), VOCO_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_of_the_test_is_crc32c),
        cmocka_unit_test(what_is_appended_is_read_back),
        cmocka_unit_test(two_writers_have_two_files),
        cmocka_unit_test(a_missing_folder_is_reported),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
