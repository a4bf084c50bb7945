#include "store/shard.h"

#include "base/error.h"
#include "base/team.h"
#include "store/checksum.h"
#include "store/shard_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

/* A compressed chunk on its way to the file. */
struct packed_chunk {
    unsigned char *bytes;
    size_t count; /* 0: zeros */
    int failed;
};

/* What one thread works with. */
struct packer {
    ZSTD_CCtx *context;
    void *voxels;
};

static void pack_chunk(struct packed_chunk *out, struct packer *packer, const struct prepared_volume *volume,
                       const int grid[3], size_t chunk, int levels)
{
    const size_t nx = (size_t)grid[0];
    const size_t ny = (size_t)grid[1];
    const int start[3] = {(int)(chunk % nx) * chunk_side, (int)(chunk / nx % ny) * chunk_side,
                          (int)(chunk / nx / ny) * chunk_side};
    const int extent[3] = {chunk_side, chunk_side, chunk_side};
    out->count = 0;
    out->failed = 0;
    if (!prepared_volume_block(packer->voxels, levels, volume, start, extent)) {
        return;
    }
    const size_t room = ZSTD_compressBound(chunk_bytes(levels));
    const size_t count =
        ZSTD_compress2(packer->context, out->bytes, room, packer->voxels, chunk_bytes(levels));
    if (ZSTD_isError(count)) {
        out->failed = 1;
        return;
    }
    crc32c_store(out->bytes + count, out->bytes, count);
    out->count = count + crc32c_bytes;
}

static int packers_create(struct packer *packers, int threads, int levels, int level)
{
    for (int i = 0; i < threads; i++) {
        packers[i].voxels = malloc(chunk_bytes(levels));
        packers[i].context = ZSTD_createCCtx();
        if (packers[i].voxels == NULL || packers[i].context == NULL ||
            ZSTD_isError(ZSTD_CCtx_setParameter(packers[i].context, ZSTD_c_compressionLevel, level))) {
            return 0;
        }
    }
    return 1;
}

static void packers_free(struct packer *packers, int threads)
{
    for (int i = 0; packers != NULL && i < threads; i++) {
        free(packers[i].voxels);
        ZSTD_freeCCtx(packers[i].context);
    }
    free(packers);
}

/* One round of chunks, packed side by side. */
struct packing {
    struct packed_chunk *packed;
    struct packer *packers;
    const struct prepared_volume *volume;
    const int *grid;
    size_t first; /* chunk of item 0 */
    int levels;
};

static void pack_item(void *context, int item, int member)
{
    const struct packing *packing = context;
    pack_chunk(&packing->packed[item], &packing->packers[member], packing->volume, packing->grid,
               packing->first + (size_t)item, packing->levels);
}

/* The chunks one behind the other; their places go to `chunks`. */
static enum voco_status write_chunks(FILE *stream, struct shard_chunk *chunks,
                                     const struct prepared_volume *volume, const int grid[3], int levels,
                                     int level, int threads)
{
    enum voco_status status = VOCO_OK;
    const size_t chunk_count = shard_chunk_count(volume->size);
    const size_t at_once = threads > 1 ? (size_t)threads * 4 : 1;
    const size_t room = ZSTD_compressBound(chunk_bytes(levels)) + crc32c_bytes;
    struct packer *packers = calloc((size_t)threads, sizeof *packers);
    struct packed_chunk *packed = calloc(at_once, sizeof *packed);
    unsigned char *bytes = malloc(at_once * room);
    struct team *team = team_gather(threads);
    if (packers == NULL || packed == NULL || bytes == NULL || team == NULL ||
        !packers_create(packers, threads, levels, level)) {
        status = fail(VOCO_NO_MEMORY, "no memory to compress with %d threads", threads);
        goto done;
    }
    for (size_t i = 0; i < at_once; i++) {
        packed[i].bytes = bytes + i * room;
    }
    struct packing packing = {packed, packers, volume, grid, 0, levels};
    uint64_t offset = 0;
    for (; packing.first < chunk_count; packing.first += at_once) {
        const size_t left = chunk_count - packing.first;
        const size_t count = left < at_once ? left : at_once;
        team_begin(team, (int)count, pack_item, &packing);
        team_finish(team);
        for (size_t i = 0; i < count; i++) {
            if (packed[i].failed) {
                status = fail(VOCO_NO_MEMORY, "no memory to compress");
                goto done;
            }
            chunks[packing.first + i] =
                (struct shard_chunk){packed[i].count > 0 ? offset : 0, packed[i].count};
            offset += packed[i].count;
            (void)fwrite(packed[i].bytes, 1, packed[i].count, stream); /* a failure stays in ferror */
        }
    }

done:
    team_dismiss(team);
    packers_free(packers, threads);
    free(packed);
    free(bytes);
    return status;
}

static enum voco_status write_index(FILE *stream, const struct shard_chunk *chunks, size_t count)
{
    const size_t bytes = shard_index_bytes(count);
    unsigned char *index = malloc(bytes);
    if (index == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for an index of %zu chunks", count);
    }
    shard_index_encode(index, chunks, count);
    (void)fwrite(index, 1, bytes, stream);
    free(index);
    return VOCO_OK;
}

enum voco_status shard_write(uint64_t *bytes, const char *path, const struct prepared_volume *volume,
                             int levels, int level, int threads)
{
    int grid[3];
    for (int axis = 0; axis < 3; axis++) {
        if (volume->size[axis] < 1 || volume->size[axis] > shard_longest_axis) {
            return fail(VOCO_BAD_INPUT, "a volume of %d x %d x %d voxels cannot be cached", volume->size[0],
                        volume->size[1], volume->size[2]);
        }
        grid[axis] = (volume->size[axis] + chunk_side - 1) / chunk_side;
    }
    enum voco_status status = VOCO_OK;
    const size_t count = shard_chunk_count(volume->size);
    struct shard_chunk *chunks = calloc(count, sizeof *chunks);
    if (chunks == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for an index of %zu chunks", count);
    }
    FILE *stream = fopen(path, "wb");
    if (stream == NULL) {
        status = fail_errno("%s: cannot write", path);
        goto done;
    }
    status = write_chunks(stream, chunks, volume, grid, levels, level, threads);
    if (status == VOCO_OK) {
        status = write_index(stream, chunks, count);
    }
    if (status == VOCO_OK && (fflush(stream) != 0 || ferror(stream) || fsync(fileno(stream)) != 0)) {
        status = fail_errno("%s: cannot write", path);
    }
    *bytes = status == VOCO_OK ? (uint64_t)ftell(stream) : 0;

done:
    if (stream != NULL && fclose(stream) != 0 && status == VOCO_OK) {
        status = fail_errno("%s: cannot write", path);
    }
    free(chunks);
    return status;
}
