#include "store/volume_cache.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/name_hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char magic[8] = "VOCOVOL";
static const char suffix[] = ".volume";

enum {
    format_version = 1,
    header_unit = 4096, /* voxels start on a page */
    longest_axis = 1 << 20,
    seconds_until_abandoned = 600,
};

struct cache_header {
    char magic[8];
    uint32_t version;
    uint32_t header_checksum;
    uint32_t voxel_checksum;
    uint32_t header_bytes;
    uint64_t key;
    int32_t size[3];
    uint32_t source_bytes;
    double spacing[3];
    double affine[3][4];
    char preset[32];
};
_Static_assert(sizeof(struct cache_header) == 200, "the header lies in files as it lies in memory");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "cache files are little-endian");

/* Temporaries of processes that were killed. One that another process is writing now has just been touched.
 */
static enum voco_status remove_abandoned(const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return fail_errno("%s: cannot read the folder", folder);
    }
    const time_t now = time(NULL);
    const struct dirent *item = NULL;
    while ((item = readdir(dir)) != NULL) {
        struct stat info;
        if (is_atomic_temporary(item->d_name) && strstr(item->d_name, suffix) != NULL &&
            fstatat(dirfd(dir), item->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode) &&
            now - info.st_mtime > seconds_until_abandoned) {
            (void)unlinkat(dirfd(dir), item->d_name, 0);
        }
    }
    closedir(dir);
    return VOCO_OK;
}

enum voco_status volume_cache_open(struct volume_cache *cache, const char *folder,
                                   const struct preset *preset, const int window[3])
{
    *cache = (struct volume_cache){.preset = *preset, .window = {window[0], window[1], window[2]}};
    enum voco_status status = make_folders(folder);
    if (status == VOCO_OK) {
        status = remove_abandoned(folder);
    }
    if (status == VOCO_OK) {
        cache->folder = strdup(folder);
        if (cache->folder == NULL) {
            status = fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
        }
    }
    return status;
}

void volume_cache_close(struct volume_cache *cache)
{
    free(cache->folder);
    *cache = (struct volume_cache){0};
}

/* Each field by itself: a struct's padding is not defined. */
static uint64_t entry_key(const struct volume_cache *cache, const char *source, const struct stat *info)
{
    const struct preset *preset = &cache->preset;
    const uint64_t version = format_version;
    const int64_t facts[] = {(int64_t)info->st_size, (int64_t)info->st_mtim.tv_sec,
                             (int64_t)info->st_mtim.tv_nsec, preset->intensity, preset->window};
    struct name_hash hash;
    name_hash_start(&hash);
    name_hash_add(&hash, &version, sizeof version);
    name_hash_add_text(&hash, source);
    name_hash_add(&hash, facts, sizeof facts);
    name_hash_add_text(&hash, preset->name);
    name_hash_add(&hash, preset->spacing, sizeof preset->spacing);
    name_hash_add(&hash, &preset->low, sizeof preset->low);
    name_hash_add(&hash, &preset->high, sizeof preset->high);
    name_hash_add(&hash, cache->window, sizeof cache->window);
    return name_hash_value(&hash);
}

/* The file's name without .nii or .nii.gz, in characters that are safe everywhere, and not too long. */
static void readable_name(char *name, size_t room, const char *source)
{
    const char *slash = strrchr(source, '/');
    const char *base = slash != NULL ? slash + 1 : source;
    const char *extension = strstr(base, ".nii");
    const size_t length = extension != NULL && extension > base ? (size_t)(extension - base) : strlen(base);
    size_t i = 0;
    for (; i < length && i + 1 < room; i++) {
        const char c = base[i];
        const int safe =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
        name[i] = safe ? c : '_';
    }
    name[i] = '\0';
}

enum voco_status cache_entry_of(struct cache_entry *entry, const struct volume_cache *cache,
                                const char *source)
{
    *entry = (struct cache_entry){0};
    enum voco_status status = VOCO_OK;
    struct stat info;
    entry->source = realpath(source, NULL);
    if (entry->source == NULL || stat(entry->source, &info) != 0) {
        status = fail_errno("%s: cannot open", source);
        goto failed;
    }
    entry->key = entry_key(cache, entry->source, &info);
    char name[80];
    readable_name(name, sizeof name, entry->source);
    if (asprintf(&entry->path, "%s/%s-%016llx%s", cache->folder, name, (unsigned long long)entry->key,
                 suffix) < 0) {
        entry->path = NULL;
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", source);
        goto failed;
    }
    return VOCO_OK;
failed:
    cache_entry_free(entry);
    return status;
}

void cache_entry_free(struct cache_entry *entry)
{
    free(entry->source);
    free(entry->path);
    *entry = (struct cache_entry){0};
}

int cache_entry_is_good(const struct cache_entry *entry)
{
    struct cached_volume volume;
    if (cached_volume_open(&volume, entry->path) != VOCO_OK || volume.source == NULL) {
        return 0;
    }
    const int good = volume.key == entry->key && strcmp(volume.source, entry->source) == 0 &&
                     cached_volume_verify(&volume, entry->path) == VOCO_OK;
    cached_volume_close(&volume);
    return good;
}

static uint16_t quantised(float value)
{
    if (!(value > 0.0F)) {
        return 0;
    }
    return value < 1.0F ? (uint16_t)lrint((double)value * 65535.0) : 65535;
}

/* Writes the voxels and returns their checksum; a failed write stays in the stream's error flag. */
static uint32_t write_voxels(FILE *stream, const float *data, size_t count)
{
    enum { piece = 16384 };
    uint16_t buffer[piece];
    uint32_t checksum = 0;
    for (size_t done = 0; done < count;) {
        const size_t length = count - done < piece ? count - done : piece;
        for (size_t i = 0; i < length; i++) {
            buffer[i] = quantised(data[done + i]);
        }
        const size_t bytes = length * sizeof buffer[0];
        checksum = crc32_gzip_refl(checksum, (const unsigned char *)buffer, bytes);
        if (fwrite(buffer, 1, bytes, stream) != bytes) {
            break;
        }
        done += length;
    }
    return checksum;
}

/* The whole header block, zeros included, for `header->header_bytes`. NULL: no memory. */
static unsigned char *header_block(struct cache_header *header, const char *source)
{
    unsigned char *block = calloc(1, header->header_bytes);
    if (block == NULL) {
        return NULL;
    }
    header->header_checksum = 0;
    memcpy(block, header, sizeof *header);
    memcpy(block + sizeof *header, source, header->source_bytes);
    header->header_checksum = crc32_gzip_refl(0, block, header->header_bytes);
    memcpy(block, header, sizeof *header);
    return block;
}

enum voco_status volume_cache_store(const struct volume_cache *cache, const struct cache_entry *entry,
                                    const struct volume *volume)
{
    const size_t source_bytes = strlen(entry->source);
    if (source_bytes > INT_MAX - 2 * header_unit) {
        return fail(VOCO_BAD_INPUT, "a path of %zu bytes is too long", source_bytes);
    }
    struct cache_header header = {
        .version = format_version, .key = entry->key, .source_bytes = (uint32_t)source_bytes};
    header.header_bytes =
        (uint32_t)((sizeof header + source_bytes + 1 + header_unit - 1) / header_unit * header_unit);
    memcpy(header.magic, magic, sizeof magic);
    memcpy(header.preset, cache->preset.name, sizeof header.preset);
    memcpy(header.spacing, volume->spacing, sizeof header.spacing);
    memcpy(header.affine, volume->affine, sizeof header.affine);
    size_t count = 1;
    for (int axis = 0; axis < 3; axis++) {
        if (volume->size[axis] < 1 || volume->size[axis] > longest_axis) {
            return fail(VOCO_BAD_INPUT, "%s: a volume of %d x %d x %d voxels cannot be cached", entry->source,
                        volume->size[0], volume->size[1], volume->size[2]);
        }
        header.size[axis] = volume->size[axis];
        count *= (size_t)volume->size[axis];
    }

    struct atomic_file file;
    enum voco_status status = atomic_file_open(&file, entry->path);
    if (status != VOCO_OK) {
        return status;
    }
    /* The header's checksums are known last: its place is left free first. */
    if (fseek(file.stream, (long)header.header_bytes, SEEK_SET) != 0) {
        status = fail_errno("%s: cannot write", entry->path);
        goto failed;
    }
    header.voxel_checksum = write_voxels(file.stream, volume->data, count);
    unsigned char *block = header_block(&header, entry->source);
    if (block == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", entry->path);
        goto failed;
    }
    if (!ferror(file.stream) && fseek(file.stream, 0, SEEK_SET) == 0) {
        (void)fwrite(block, 1, header.header_bytes, file.stream);
    }
    free(block);
    return atomic_file_commit(&file);
failed:
    atomic_file_discard(&file);
    return status;
}

/* Everything that is read from a file is checked here, before it is used. */
static enum voco_status check_header(const unsigned char *bytes, size_t length, struct cache_header *header,
                                     const char *path)
{
    if (length < header_unit || memcmp(bytes, magic, sizeof magic) != 0) {
        return fail(VOCO_BAD_INPUT, "%s: not a cached volume", path);
    }
    memcpy(header, bytes, sizeof *header);
    if (header->version != format_version) {
        return fail(VOCO_BAD_INPUT, "%s: a cached volume of version %u, this program reads version %d", path,
                    header->version, format_version);
    }
    if (header->header_bytes < header_unit || header->header_bytes > length ||
        header->header_bytes % header_unit != 0 ||
        header->source_bytes >= header->header_bytes - sizeof *header) {
        return fail(VOCO_BAD_INPUT, "%s: cut short or damaged in its header", path);
    }
    static const unsigned char no_checksum[sizeof header->header_checksum];
    const size_t before = offsetof(struct cache_header, header_checksum);
    const size_t after = before + sizeof header->header_checksum;
    uint32_t checksum = crc32_gzip_refl(0, bytes, before);
    checksum = crc32_gzip_refl(checksum, no_checksum, sizeof no_checksum);
    checksum = crc32_gzip_refl(checksum, bytes + after, header->header_bytes - after);
    if (checksum != header->header_checksum || bytes[sizeof *header + header->source_bytes] != 0) {
        return fail(VOCO_BAD_INPUT, "%s: damaged in its header", path);
    }
    uint64_t expected = sizeof(uint16_t);
    for (int axis = 0; axis < 3; axis++) {
        if (header->size[axis] < 1 || header->size[axis] > longest_axis) {
            return fail(VOCO_BAD_INPUT, "%s: damaged in its header", path);
        }
        expected *= (uint64_t)header->size[axis]; /* at most 2^61 */
    }
    if (length - header->header_bytes != expected) {
        return fail(VOCO_BAD_INPUT, "%s: holds %zu bytes of voxels where its header says %llu", path,
                    length - header->header_bytes, (unsigned long long)expected);
    }
    return VOCO_OK;
}

enum voco_status cached_volume_open(struct cached_volume *volume, const char *path)
{
    *volume = (struct cached_volume){0};
    enum voco_status status = VOCO_OK;
    struct stat info;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &info) != 0) {
        status = fail_errno("%s: cannot open", path);
        goto done;
    }
    if (!S_ISREG(info.st_mode) || info.st_size < header_unit) {
        status = fail(VOCO_BAD_INPUT, "%s: not a cached volume", path);
        goto done;
    }
    volume->mapped_bytes = (size_t)info.st_size;
    volume->mapping = mmap(NULL, volume->mapped_bytes, PROT_READ, MAP_SHARED, file, 0);
    if (volume->mapping == MAP_FAILED) {
        volume->mapping = NULL;
        status = fail_errno("%s: cannot map into memory", path);
        goto done;
    }
    struct cache_header header = {0};
    const unsigned char *bytes = volume->mapping;
    status = check_header(bytes, volume->mapped_bytes, &header, path);
    if (status != VOCO_OK) {
        goto done;
    }
    for (int axis = 0; axis < 3; axis++) {
        volume->size[axis] = header.size[axis];
    }
    memcpy(volume->spacing, header.spacing, sizeof volume->spacing);
    memcpy(volume->affine, header.affine, sizeof volume->affine);
    memcpy(volume->preset, header.preset, sizeof volume->preset);
    volume->preset[sizeof volume->preset - 1] = '\0';
    volume->source = (const char *)bytes + sizeof header;
    volume->voxels = (const uint16_t *)(bytes + header.header_bytes);
    volume->key = header.key;
    volume->voxel_checksum = header.voxel_checksum;
done:
    if (file >= 0) {
        close(file);
    }
    if (status != VOCO_OK) {
        cached_volume_close(volume);
    }
    return status;
}

void cached_volume_close(struct cached_volume *volume)
{
    if (volume->mapping != NULL) {
        (void)munmap(volume->mapping, volume->mapped_bytes);
    }
    *volume = (struct cached_volume){0};
}

enum voco_status cached_volume_verify(const struct cached_volume *volume, const char *path)
{
    const size_t count = (size_t)volume->size[0] * (size_t)volume->size[1] * (size_t)volume->size[2];
    const uint32_t checksum =
        crc32_gzip_refl(0, (const unsigned char *)volume->voxels, count * sizeof(uint16_t));
    if (checksum != volume->voxel_checksum) {
        return fail(VOCO_BAD_INPUT, "%s: damaged: the checksum of its voxels does not match", path);
    }
    return VOCO_OK;
}
