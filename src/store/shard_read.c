#include "base/error.h"
#include "store/checksum.h"
#include "store/shard.h"
#include "store/shard_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

size_t chunk_bytes(int levels)
{
    return chunk_voxels * stored_voxel_bytes(levels);
}

size_t shard_chunk_count(const int size[3])
{
    size_t count = 1;
    for (int axis = 0; axis < 3; axis++) {
        count *= (size_t)((size[axis] + chunk_side - 1) / chunk_side);
    }
    return count;
}

/* All `count` bytes at `offset`; a file that is too short is damaged. */
static enum voco_status read_at(const struct shard *shard, void *out, size_t count, uint64_t offset)
{
    if (shard->memory != NULL) {
        memcpy(out, shard->memory + offset, count); /* within the bytes that the index was checked against */
        return VOCO_OK;
    }
    size_t done = 0;
    while (done < count) {
        const unsigned long long at = offset + done;
        const ssize_t got = pread(shard->file, (char *)out + done, count - done, (off_t)at);
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0) {
            return fail(VOCO_BAD_INPUT, "%s: damaged: it ends at byte %llu", shard->name, at);
        } else if (errno != EINTR) {
            return fail_errno("%s: cannot read at byte %llu", shard->name, at);
        }
    }
    return VOCO_OK;
}

static uint64_t longest_chunk(int levels)
{
    return ZSTD_compressBound(chunk_bytes(levels)) + crc32c_bytes;
}

/* Size, levels, file or memory and bytes are set. */
static enum voco_status read_index(struct shard *shard)
{
    const size_t count = shard_chunk_count(shard->size);
    const size_t bytes = shard_index_bytes(count);
    for (int axis = 0; axis < 3; axis++) {
        shard->grid[axis] = (shard->size[axis] + chunk_side - 1) / chunk_side;
    }
    if (bytes > shard->bytes) {
        return fail(VOCO_BAD_INPUT, "%s: damaged: %llu bytes are too few for an index of %zu chunks",
                    shard->name, (unsigned long long)shard->bytes, count);
    }
    unsigned char *index = malloc(bytes);
    shard->chunks = calloc(count, sizeof *shard->chunks);
    enum voco_status status = VOCO_OK;
    if (index == NULL || shard->chunks == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: no memory for an index of %zu chunks", shard->name, count);
    } else {
        status = read_at(shard, index, bytes, shard->bytes - bytes);
    }
    if (status == VOCO_OK) {
        const char *wrong =
            shard_index_decode(shard->chunks, count, index, shard->bytes, longest_chunk(shard->levels));
        status = wrong == NULL ? VOCO_OK : fail(VOCO_BAD_INPUT, "%s: damaged: %s", shard->name, wrong);
    }
    free(index);
    return status;
}

static enum voco_status begin(struct shard *shard, const int size[3], int levels, const char *name)
{
    *shard = (struct shard){.size = {size[0], size[1], size[2]}, .levels = levels, .file = -1};
    shard->name = strdup(name);
    return shard->name != NULL ? VOCO_OK : fail(VOCO_NO_MEMORY, "%s: out of memory", name);
}

enum voco_status shard_open(struct shard *shard, const char *path, const int size[3], int levels,
                            const char *name)
{
    enum voco_status status = begin(shard, size, levels, name);
    if (status != VOCO_OK) {
        return status;
    }
    struct stat info;
    shard->file = open(path, O_RDONLY | O_CLOEXEC);
    if (shard->file < 0 || fstat(shard->file, &info) != 0) {
        status = fail_errno("%s: cannot open", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = fail(VOCO_BAD_INPUT, "%s: is not a file", path);
    } else {
        shard->bytes = (uint64_t)info.st_size;
        status = read_index(shard);
    }
    if (status != VOCO_OK) {
        shard_close(shard);
    }
    return status;
}

enum voco_status shard_open_memory(struct shard *shard, const void *bytes, size_t count, const int size[3],
                                   int levels, const char *name)
{
    enum voco_status status = begin(shard, size, levels, name);
    if (status == VOCO_OK) {
        shard->memory = bytes;
        shard->bytes = count;
        status = read_index(shard);
    }
    if (status != VOCO_OK) {
        shard_close(shard);
    }
    return status;
}

void shard_close(struct shard *shard)
{
    if (shard->name != NULL && shard->file >= 0) {
        (void)close(shard->file);
    }
    free(shard->chunks);
    free(shard->name);
    *shard = (struct shard){.file = -1};
}

/* Runs of neighbours in the file are announced as one. */
void shard_prefetch(const struct shard *shard, const int first[3], const int end[3])
{
    if (shard->file < 0) {
        return;
    }
    uint64_t from = 0;
    uint64_t to = 0;
    for (int z = first[2]; z < end[2]; z++) {
        for (int y = first[1]; y < end[1]; y++) {
            for (int x = first[0]; x < end[0]; x++) {
                const size_t number =
                    ((size_t)z * (size_t)shard->grid[1] + (size_t)y) * (size_t)shard->grid[0] + (size_t)x;
                const struct shard_chunk chunk = shard->chunks[number];
                if (chunk.bytes > 0 && chunk.offset != to) {
                    if (to > from) {
                        (void)posix_fadvise(shard->file, (off_t)from, (off_t)(to - from),
                                            POSIX_FADV_WILLNEED);
                    }
                    from = chunk.offset;
                    to = from;
                }
                to += chunk.bytes;
            }
        }
    }
    if (to > from) {
        (void)posix_fadvise(shard->file, (off_t)from, (off_t)(to - from), POSIX_FADV_WILLNEED);
    }
}

void chunk_decoder_free(struct chunk_decoder *decoder)
{
    (void)ZSTD_freeDCtx(decoder->context);
    free(decoder->compressed);
    *decoder = (struct chunk_decoder){0};
}

static enum voco_status make_ready(struct chunk_decoder *decoder, size_t bytes)
{
    if (decoder->context == NULL) {
        decoder->context = ZSTD_createDCtx();
    }
    if (bytes > decoder->capacity) {
        free(decoder->compressed);
        decoder->compressed = malloc(bytes);
        decoder->capacity = decoder->compressed != NULL ? bytes : 0;
    }
    return decoder->context != NULL && decoder->compressed != NULL
               ? VOCO_OK
               : fail(VOCO_NO_MEMORY, "no memory to decode a chunk of %zu bytes", bytes);
}

/* Reads a stored chunk into the decoder and checks it; the frame is then *frame bytes long. */
static enum voco_status fetch(size_t *frame, const struct shard *shard, size_t number,
                              struct chunk_decoder *decoder)
{
    const struct shard_chunk chunk = shard->chunks[number];
    enum voco_status status = make_ready(decoder, longest_chunk(shard->levels));
    if (status != VOCO_OK || decoder->compressed == NULL) {
        return status;
    }
    status = read_at(shard, decoder->compressed, chunk.bytes, chunk.offset);
    if (status == VOCO_OK && !crc32c_closes(decoder->compressed, chunk.bytes)) {
        const unsigned long long first = chunk.offset;
        const unsigned long long end = chunk.offset + chunk.bytes;
        status =
            fail(VOCO_BAD_INPUT, "%s: damaged: the checksum of chunk %zu, byte %llu to %llu, does not match",
                 shard->name, number, first, end);
    }
    *frame = chunk.bytes - crc32c_bytes;
    return status;
}

enum voco_status shard_read_chunk(void *out, const struct shard *shard, size_t chunk,
                                  struct chunk_decoder *decoder)
{
    const size_t bytes = chunk_bytes(shard->levels);
    if (shard->chunks[chunk].bytes == 0) {
        memset(out, 0, bytes);
        return VOCO_OK;
    }
    size_t frame = 0;
    enum voco_status status = fetch(&frame, shard, chunk, decoder);
    if (status != VOCO_OK) {
        return status;
    }
    const size_t got = ZSTD_decompressDCtx(decoder->context, out, bytes, decoder->compressed, frame);
    if (got != bytes) {
        return fail(VOCO_BAD_INPUT, "%s: damaged: chunk %zu does not unpack to %zu bytes", shard->name, chunk,
                    bytes);
    }
    return VOCO_OK;
}

enum voco_status shard_verify(const struct shard *shard)
{
    struct chunk_decoder decoder = {0};
    enum voco_status status = VOCO_OK;
    const size_t count = shard_chunk_count(shard->size);
    for (size_t chunk = 0; status == VOCO_OK && chunk < count; chunk++) {
        size_t frame = 0;
        if (shard->chunks[chunk].bytes > 0) {
            status = fetch(&frame, shard, chunk, &decoder);
        }
    }
    chunk_decoder_free(&decoder);
    return status;
}
