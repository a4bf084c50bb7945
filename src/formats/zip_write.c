#include "formats/zip_write.h"

#include "base/error.h"

#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>

enum {
    local_header_bytes = 30,
    zip64_local_bytes = 20, /* header of the field, two sizes */
    field_header_bytes = 4,
    most_name_bytes = 1024,
    utf8_names = 0x0800,
    version_plain = 20,
    version_zip64 = 45,
    date_1980_01_01 = 0x21, /* the bytes of a file depend on its content only */
};
static const uint32_t in_zip64 = 0xffffffffU; /* stands where the number is in the zip64 field instead */

struct zip_written {
    char *name;
    uint64_t size;
    uint64_t offset; /* of the local header */
    uint32_t checksum;
};

/* A piece of a header, little-endian whatever the machine. */
struct record {
    unsigned char bytes[128];
    size_t count;
};

static void put(struct record *record, int bytes, uint64_t value)
{
    for (int i = 0; i < bytes; i++) {
        record->bytes[record->count++] = (unsigned char)(value >> (8 * i));
    }
}

static uint32_t narrow(uint64_t value)
{
    return value < in_zip64 ? (uint32_t)value : in_zip64;
}

static enum voco_status write_bytes(struct zip_writer *zip, const void *bytes, size_t count)
{
    if (count > 0 && fwrite(bytes, 1, count, zip->stream) != count) {
        return fail_errno("%s: cannot write", zip->path);
    }
    zip->offset += count;
    return VOCO_OK;
}

static enum voco_status write_record(struct zip_writer *zip, const struct record *record)
{
    return write_bytes(zip, record->bytes, record->count);
}

/* What a local header and an entry of the central directory have in common. */
static void put_common(struct record *record, const struct zip_written *entry, int wide)
{
    put(record, 2, wide ? version_zip64 : version_plain);
    put(record, 2, utf8_names);
    put(record, 2, 0); /* stored */
    put(record, 2, 0); /* time */
    put(record, 2, date_1980_01_01);
    put(record, 4, entry->checksum);
    put(record, 4, narrow(entry->size)); /* compressed */
    put(record, 4, narrow(entry->size));
    put(record, 2, strlen(entry->name));
}

static enum voco_status write_local_header(struct zip_writer *zip, const struct zip_written *entry,
                                           size_t alignment)
{
    const int wide = entry->size >= in_zip64;
    const size_t before = local_header_bytes + strlen(entry->name) + (size_t)(wide ? zip64_local_bytes : 0) +
                          field_header_bytes;
    const size_t padding = (size_t)(-(zip->offset + before)) & (alignment - 1);
    struct record header = {.count = 0};
    put(&header, 4, 0x04034b50);
    put_common(&header, entry, wide);
    put(&header, 2, (uint64_t)(wide ? zip64_local_bytes : 0) + field_header_bytes + padding);
    struct record fields = {.count = 0};
    if (wide) {
        put(&fields, 2, 1);
        put(&fields, 2, 16);
        put(&fields, 8, entry->size);
        put(&fields, 8, entry->size);
    }
    put(&fields, 1, 'F');
    put(&fields, 1, 'B');
    put(&fields, 2, padding);
    char fill[4096];
    memset(fill, 'Z', sizeof fill);
    enum voco_status status = write_record(zip, &header);
    if (status == VOCO_OK) {
        status = write_bytes(zip, entry->name, strlen(entry->name));
    }
    if (status == VOCO_OK) {
        status = write_record(zip, &fields);
    }
    return status == VOCO_OK ? write_bytes(zip, fill, padding) : status;
}

static struct zip_written *new_entry(struct zip_writer *zip, const char *name)
{
    if (zip->count == zip->capacity) {
        const size_t capacity = zip->capacity == 0 ? 64 : 2 * zip->capacity;
        struct zip_written *grown = reallocarray(zip->entries, capacity, sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        zip->entries = grown;
        zip->capacity = capacity;
    }
    struct zip_written *entry = &zip->entries[zip->count];
    *entry = (struct zip_written){.name = strdup(name)};
    if (entry->name == NULL) {
        return NULL;
    }
    zip->count++;
    return entry;
}

enum voco_status zip_writer_add(struct zip_writer *zip, const char *name, const void *data, size_t size,
                                size_t alignment)
{
    if (strlen(name) > most_name_bytes) {
        return fail(VOCO_BAD_INPUT, "%s: the name of an entry is longer than %d bytes", zip->path,
                    (int)most_name_bytes);
    }
    struct zip_written *entry = new_entry(zip, name);
    if (entry == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", zip->path);
    }
    entry->size = size;
    entry->offset = zip->offset;
    entry->checksum = size == 0 ? 0 : crc32_gzip_refl(0, data, size);
    const enum voco_status status = write_local_header(zip, entry, alignment);
    return status == VOCO_OK ? write_bytes(zip, data, size) : status;
}

static enum voco_status write_directory_entry(struct zip_writer *zip, const struct zip_written *entry)
{
    struct record field = {.count = 0};
    if (entry->size >= in_zip64) {
        put(&field, 8, entry->size);
        put(&field, 8, entry->size);
    }
    if (entry->offset >= in_zip64) {
        put(&field, 8, entry->offset);
    }
    const int wide = field.count > 0;
    struct record header = {.count = 0};
    put(&header, 4, 0x02014b50);
    put(&header, 2, wide ? version_zip64 : version_plain); /* made by */
    put_common(&header, entry, wide);
    put(&header, 2, field.count + (size_t)(wide ? field_header_bytes : 0));
    put(&header, 2, 0); /* comment */
    put(&header, 2, 0); /* disk */
    put(&header, 2, 0); /* attributes */
    put(&header, 4, 0);
    put(&header, 4, narrow(entry->offset));
    enum voco_status status = write_record(zip, &header);
    if (status == VOCO_OK) {
        status = write_bytes(zip, entry->name, strlen(entry->name));
    }
    if (status == VOCO_OK && wide) {
        struct record about = {.count = 0};
        put(&about, 2, 1);
        put(&about, 2, field.count);
        status = write_record(zip, &about);
    }
    return status == VOCO_OK ? write_record(zip, &field) : status;
}

/* The directory's record and locator of zip64. */
static enum voco_status write_wide_end(struct zip_writer *zip, uint64_t directory)
{
    const uint64_t here = zip->offset;
    struct record end = {.count = 0};
    put(&end, 4, 0x06064b50);
    put(&end, 8, 44); /* bytes of this record that follow */
    put(&end, 2, version_zip64);
    put(&end, 2, version_zip64);
    put(&end, 4, 0);
    put(&end, 4, 0);
    put(&end, 8, zip->count);
    put(&end, 8, zip->count);
    put(&end, 8, here - directory);
    put(&end, 8, directory);
    put(&end, 4, 0x07064b50);
    put(&end, 4, 0);
    put(&end, 8, here);
    put(&end, 4, 1);
    return write_record(zip, &end);
}

enum voco_status zip_writer_finish(struct zip_writer *zip)
{
    const uint64_t directory = zip->offset;
    for (size_t i = 0; i < zip->count; i++) {
        const enum voco_status status = write_directory_entry(zip, &zip->entries[i]);
        if (status != VOCO_OK) {
            return status;
        }
    }
    const uint64_t bytes = zip->offset - directory;
    const uint64_t count = zip->count < 0xffff ? zip->count : 0xffff;
    if (count == 0xffff || directory >= in_zip64 || bytes >= in_zip64) {
        const enum voco_status status = write_wide_end(zip, directory);
        if (status != VOCO_OK) {
            return status;
        }
    }
    struct record end = {.count = 0};
    put(&end, 4, 0x06054b50);
    put(&end, 4, 0); /* disks */
    put(&end, 2, count);
    put(&end, 2, count);
    put(&end, 4, narrow(bytes));
    put(&end, 4, narrow(directory));
    put(&end, 2, 0); /* comment */
    return write_record(zip, &end);
}

void zip_writer_free(struct zip_writer *zip)
{
    for (size_t i = 0; i < zip->count; i++) {
        free(zip->entries[i].name);
    }
    free(zip->entries);
    *zip = (struct zip_writer){0};
}
