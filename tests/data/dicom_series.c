#include "dicom_series.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

struct bytes {
    unsigned char data[16384];
    size_t count;
};

static void put_uint(struct bytes *out, unsigned long value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        assert_true(out->count < sizeof out->data);
        out->data[out->count++] = (unsigned char)(value >> 8 * i);
    }
}

/* An element of any representation; `length` is even. */
static void put_element(struct bytes *out, unsigned group, unsigned element, const char *vr,
                        const void *value, size_t length)
{
    put_uint(out, group, 2);
    put_uint(out, element, 2);
    put_uint(out, (unsigned char)vr[0], 1);
    put_uint(out, (unsigned char)vr[1], 1);
    if (strcmp(vr, "OB") == 0 || strcmp(vr, "OW") == 0) {
        put_uint(out, 0, 2);
        put_uint(out, length, 4);
    } else {
        put_uint(out, length, 2);
    }
    assert_true(length <= sizeof out->data - out->count);
    memcpy(out->data + out->count, value, length);
    out->count += length;
}

/* Text, padded to an even length as its representation wants it. */
static void put_text(struct bytes *out, unsigned group, unsigned element, const char *vr, const char *text)
{
    char padded[128];
    size_t length = strlen(text);
    assert_true(length + 1 < sizeof padded);
    snprintf(padded, sizeof padded, "%s", text);
    if (length % 2 == 1) {
        padded[length++] = strcmp(vr, "UI") == 0 ? '\0' : ' ';
    }
    put_element(out, group, element, vr, padded, length);
}

static void put_short(struct bytes *out, unsigned group, unsigned element, unsigned value)
{
    const unsigned char bytes[2] = {(unsigned char)value, (unsigned char)(value >> 8)};
    put_element(out, group, element, "US", bytes, 2);
}

static void put_meta(struct bytes *out, const char *instance)
{
    struct bytes meta = {.count = 0};
    put_element(&meta, 0x0002, 0x0001, "OB", "\0\1", 2);
    put_text(&meta, 0x0002, 0x0002, "UI", "1.2.840.10008.5.1.4.1.1.2");
    put_text(&meta, 0x0002, 0x0003, "UI", instance);
    put_text(&meta, 0x0002, 0x0010, "UI", "1.2.840.10008.1.2.1");
    put_text(&meta, 0x0002, 0x0012, "UI", "1.2.826.0.1.3680043.2.1143");
    unsigned char length[4];
    for (int i = 0; i < 4; i++) {
        length[i] = (unsigned char)(meta.count >> 8 * i);
    }
    out->count = 128; /* the preamble: zeros */
    memcpy(out->data + out->count, "DICM", 4);
    out->count += 4;
    put_element(out, 0x0002, 0x0000, "UL", length, 4);
    memcpy(out->data + out->count, meta.data, meta.count);
    out->count += meta.count;
}

static void put_identity(struct bytes *out, const struct dicom_slice *slice, const char *instance)
{
    char text[64];
    put_text(out, 0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL");
    put_text(out, 0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.1.1.2");
    put_text(out, 0x0008, 0x0018, "UI", instance);
    put_text(out, 0x0008, 0x0020, "DA", "20240101");
    put_text(out, 0x0008, 0x0030, "TM", "120000");
    put_text(out, 0x0008, 0x0060, "CS", "CT");
    put_text(out, 0x0008, 0x0070, "LO", "TEST");
    put_text(out, 0x0010, 0x0010, "PN", "PHANTOM");
    put_text(out, 0x0010, 0x0020, "LO", "P1");
    snprintf(text, sizeof text, "%g", slice->spacing);
    put_text(out, 0x0018, 0x0050, "DS", text);
    put_text(out, 0x0020, 0x000D, "UI", "1.2.826.0.1.3680043.2.1143.1");
    snprintf(text, sizeof text, "1.2.826.0.1.3680043.2.1143.1.%d", slice->series);
    put_text(out, 0x0020, 0x000E, "UI", text);
    snprintf(text, sizeof text, "%d", slice->series);
    put_text(out, 0x0020, 0x0011, "IS", text);
    snprintf(text, sizeof text, "%d", slice->instance);
    put_text(out, 0x0020, 0x0013, "IS", text);
}

static void put_geometry(struct bytes *out, const struct dicom_slice *slice)
{
    char text[64];
    snprintf(text, sizeof text, "-10\\-20\\%g", slice->spacing * slice->instance);
    put_text(out, 0x0020, 0x0032, "DS", text);
    put_text(out, 0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0");
    put_text(out, 0x0020, 0x0052, "UI", "1.2.826.0.1.3680043.2.1143.9");
    put_short(out, 0x0028, 0x0002, 1);
    put_text(out, 0x0028, 0x0004, "CS", "MONOCHROME2");
    put_short(out, 0x0028, 0x0010, (unsigned)slice->rows);
    put_short(out, 0x0028, 0x0011, (unsigned)slice->columns);
    snprintf(text, sizeof text, "%g\\%g", slice->spacing, slice->spacing);
    put_text(out, 0x0028, 0x0030, "DS", text);
    put_short(out, 0x0028, 0x0100, 16);
    put_short(out, 0x0028, 0x0101, 16);
    put_short(out, 0x0028, 0x0102, 15);
    put_short(out, 0x0028, 0x0103, 1);
    put_text(out, 0x0028, 0x1052, "DS", "-1024");
    put_text(out, 0x0028, 0x1053, "DS", "1");
}

void put_dicom_slice(const char *path, const struct dicom_slice *slice)
{
    static struct bytes out;
    unsigned char pixels[2 * 64 * 64];
    char instance[64];
    memset(&out, 0, sizeof out);
    snprintf(instance, sizeof instance, "1.2.826.0.1.3680043.2.1143.1.%d.%d", slice->series, slice->instance);
    put_meta(&out, instance);
    put_identity(&out, slice, instance);
    put_geometry(&out, slice);
    const size_t count = (size_t)slice->columns * (size_t)slice->rows;
    for (size_t i = 0; i < count; i++) {
        const unsigned value = (unsigned)(slice->series * 100 + slice->instance) + (unsigned)i % 7;
        pixels[2 * i] = (unsigned char)value;
        pixels[2 * i + 1] = (unsigned char)(value >> 8);
    }
    put_element(&out, 0x7FE0, 0x0010, "OW", pixels, 2 * count);
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(out.data, 1, out.count, stream), out.count);
    assert_int_equal(fclose(stream), 0);
}
