#include "nifti_bytes.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *checked(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

struct nifti_sample plain_sample(int nx, int ny, int nz)
{
    return (struct nifti_sample){
        .version = 1,
        .dim = {3, nx, ny, nz, 1, 1, 1, 1},
        .datatype = 16,
        .voxel_bytes = 4,
        .pixdim = {1, 1, 1, 1},
        .units = 2,
        .sform_code = 1,
        .srow = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}},
    };
}

static void put(unsigned char *bytes, int big_endian, const void *value, int width)
{
    const unsigned char *from = value;
    for (int i = 0; i < width; i++) {
        bytes[i] = from[big_endian ? width - 1 - i : i]; /* the machine of the tests is little endian */
    }
}

static void put_integer(unsigned char *bytes, int big_endian, int64_t value, int width)
{
    for (int i = 0; i < width; i++) {
        bytes[big_endian ? width - 1 - i : i] = (unsigned char)((uint64_t)value >> (8 * i));
    }
}

static void put_real(unsigned char *bytes, int big_endian, double value, int width)
{
    const float single = (float)value;
    put(bytes, big_endian, width == 4 ? (const void *)&single : (const void *)&value, width);
}

static void put_text(unsigned char *bytes, const char *text, int length)
{
    for (int i = 0; i < length; i++) {
        bytes[i] = (unsigned char)text[i];
    }
}

/* Where a field lies in NIfTI-1 and -2, and how wide one of its numbers is. */
struct field {
    int offset[2], width[2];
};

static const struct field field_dim = {{40, 16}, {2, 8}};
static const struct field field_datatype = {{70, 12}, {2, 2}};
static const struct field field_bitpix = {{72, 14}, {2, 2}};
static const struct field field_pixdim = {{76, 104}, {4, 8}};
static const struct field field_slope = {{112, 176}, {4, 8}};
static const struct field field_inter = {{116, 184}, {4, 8}};
static const struct field field_units = {{123, 500}, {1, 4}};
static const struct field field_qform_code = {{252, 344}, {2, 4}};
static const struct field field_sform_code = {{254, 348}, {2, 4}};
static const struct field field_quatern = {{256, 352}, {4, 8}};
static const struct field field_qoffset = {{268, 376}, {4, 8}};
static const struct field field_srow = {{280, 400}, {4, 8}};

static void set_integer(unsigned char *head, const struct nifti_sample *s, struct field field, int index,
                        int64_t value)
{
    const int v = s->version - 1;
    put_integer(head + field.offset[v] + index * field.width[v], s->big_endian, value, field.width[v]);
}

static void set_real(unsigned char *head, const struct nifti_sample *s, struct field field, int index,
                     double value)
{
    const int v = s->version - 1;
    put_real(head + field.offset[v] + index * field.width[v], s->big_endian, value, field.width[v]);
}

static void fill_head(unsigned char *head, const struct nifti_sample *s, double voxel_offset)
{
    put_integer(head, s->big_endian, s->version == 1 ? 348 : 540, 4);
    for (int i = 0; i < 8; i++) {
        set_integer(head, s, field_dim, i, s->dim[i]);
        set_real(head, s, field_pixdim, i, s->pixdim[i]);
    }
    set_integer(head, s, field_datatype, 0, s->datatype);
    set_integer(head, s, field_bitpix, 0, 8 * s->voxel_bytes);
    set_real(head, s, field_slope, 0, s->slope);
    set_real(head, s, field_inter, 0, s->inter);
    set_integer(head, s, field_units, 0, s->units);
    set_integer(head, s, field_qform_code, 0, s->qform_code);
    set_integer(head, s, field_sform_code, 0, s->sform_code);
    for (int i = 0; i < 3; i++) {
        set_real(head, s, field_quatern, i, s->quatern[i]);
        set_real(head, s, field_qoffset, i, s->qoffset[i]);
        for (int column = 0; column < 4; column++) {
            set_real(head, s, field_srow, 4 * i + column, s->srow[i][column]);
        }
    }
    if (s->version == 1) {
        put_real(head + 108, s->big_endian, voxel_offset, 4);
        put_text(head + 344, s->magic != NULL ? s->magic : "n+1", 3);
    } else {
        put_integer(head + 168, s->big_endian, (int64_t)voxel_offset, 8);
        put_text(head + 4, s->magic != NULL ? s->magic : "n+2", 3);
        put_text(head + 8, "\r\n\032\n", 4);
    }
}

unsigned char *nifti_file_bytes(size_t *count, const struct nifti_sample *sample, const void *voxels,
                                size_t voxel_count)
{
    const double least = sample->version == 1 ? 352 : 544;
    const double stated = sample->voxel_offset != 0 ? sample->voxel_offset : least;
    const size_t gap = stated >= least && stated < 1e6 ? (size_t)stated : (size_t)least;
    const size_t width = (size_t)sample->voxel_bytes;
    *count = gap + voxel_count * width;
    unsigned char *bytes = checked(calloc(1, *count));
    fill_head(bytes, sample, stated);
    for (size_t i = 0; i < voxel_count; i++) {
        put(bytes + gap + i * width, sample->big_endian, (const unsigned char *)voxels + i * width,
            (int)width);
    }
    return bytes;
}

static uint32_t crc_of(const unsigned char *bytes, size_t count)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        }
    }
    return ~crc;
}

unsigned char *gzip_bytes(size_t *packed_count, const unsigned char *bytes, size_t count)
{
    enum { block = 65535 };
    static const unsigned char head[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
    unsigned char *packed = checked(malloc(count + count / block * 5 + 64));
    memcpy(packed, head, sizeof head);
    size_t at = sizeof head;
    size_t done = 0;
    do {
        const size_t piece = count - done < block ? count - done : block;
        packed[at] = done + piece == count;
        put_integer(packed + at + 1, 0, (int64_t)piece, 2);
        put_integer(packed + at + 3, 0, (int64_t)(piece ^ 0xffff), 2);
        memcpy(packed + at + 5, bytes + done, piece);
        at += 5 + piece;
        done += piece;
    } while (done < count);
    put_integer(packed + at, 0, crc_of(bytes, count), 4);
    put_integer(packed + at + 4, 0, (int64_t)count, 4);
    *packed_count = at + 8;
    return packed;
}

static char folder[256];

const char *test_folder(void)
{
    if (folder[0] == '\0') {
        const char *parent = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/voco_volume_XXXXXX", parent != NULL ? parent : "/tmp");
        checked(mkdtemp(folder));
    }
    return folder;
}

void remove_test_folder(void)
{
    DIR *entries = folder[0] != '\0' ? opendir(folder) : NULL;
    if (entries == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        (void)unlinkat(dirfd(entries), entry->d_name, 0);
    }
    closedir(entries);
    (void)rmdir(folder);
}

const char *test_path(const char *name)
{
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

const char *write_test_file(const char *name, const void *bytes, size_t count)
{
    const char *path = test_path(name);
    FILE *file = checked(fopen(path, "wb"));
    if (fwrite(bytes, 1, count, file) != count || fclose(file) != 0) {
        abort();
    }
    return path;
}

unsigned char *read_test_file(size_t *count, const char *path)
{
    FILE *file = checked(fopen(path, "rb"));
    (void)fseek(file, 0, SEEK_END);
    *count = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = checked(malloc(*count + 1));
    if (fread(bytes, 1, *count, file) != *count) {
        abort();
    }
    (void)fclose(file);
    return bytes;
}
