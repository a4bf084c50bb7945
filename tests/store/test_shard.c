/* Shards: what is written comes back, and whatever is changed, cut or added is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/folder.h"
#include "base/philox.h"
#include "store/checksum.h"
#include "store/shard.h"
#include "store/shard_index.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char folder[64];
static char path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/voco_shard_XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/shard", folder);
    return 0;
}

static int clear_folder(void **state)
{
    (void)state;
    return remove_folder(folder) == VOCO_OK ? 0 : -1;
}

/* Smooth with a little noise, so that chunks are compressed; zeros beyond y = 64. */
static struct volume new_volume(int nx, int ny, int nz)
{
    struct volume volume = {.size = {nx, ny, nz}};
    volume.data = calloc(volume_count(&volume), sizeof *volume.data);
    assert_non_null(volume.data);
    float *voxel = volume.data;
    for (int z = 0; z < nz; z++) {
        for (int y = 0; y < ny; y++) {
            for (int x = 0; x < nx; x++, voxel++) {
                const struct random_key key = {
                    .seed = 5, .step = (uint64_t)(voxel - volume.data), .purpose = RANDOM_TEST};
                *voxel = y < 64 ? 0.3F + 0.001F * (float)(x + z) + 0.01F * random_uniform(&key, 0) : 0;
            }
        }
    }
    return volume;
}

static void write_volume(const struct volume *volume, int levels, int threads)
{
    const struct prepared_volume prepared = prepared_volume_of(volume);
    uint64_t bytes = 0;
    assert_int_equal(shard_write(&bytes, path, &prepared, levels, 3, threads), VOCO_OK);
}

static unsigned char *read_file(size_t *count)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, 0, SEEK_END), 0);
    *count = (size_t)ftell(stream);
    rewind(stream);
    unsigned char *bytes = malloc(*count);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *count, stream), *count);
    assert_int_equal(fclose(stream), 0);
    return bytes;
}

static void checksums_are_the_published_ones(void **state)
{
    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    unsigned char zeros[32] = {0};
    assert_int_equal(crc32c(zeros, 32), 0x8a9136aa); /* RFC 3720, B.4 */
    unsigned char closed[13] = "123456789";
    crc32c_store(closed + 9, closed, 9);
    assert_true(crc32c_closes(closed, 13));
    closed[3] ^= 1;
    assert_false(crc32c_closes(closed, 13));
    assert_false(crc32c_closes(closed, 3));
}

static void voxels_come_back_within_half_a_level(void **state)
{
    (void)state;
    static const int sizes[][3] = {{1, 1, 1}, {64, 64, 64}, {65, 130, 63}, {200, 7, 129}};
    static const int levels[] = {255, 4095, 65535};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct volume volume = new_volume(sizes[s][0], sizes[s][1], sizes[s][2]);
        for (int l = 0; l < 3; l++) {
            struct shard shard;
            struct chunk_decoder decoder = {0};
            write_volume(&volume, levels[l], 1 + (int)s);
            assert_int_equal(shard_open(&shard, path, sizes[s], levels[l], "x"), VOCO_OK);
            assert_int_equal(shard_verify(&shard), VOCO_OK);
            unsigned char *chunk = malloc(chunk_bytes(levels[l]));
            assert_non_null(chunk);
            for (size_t c = 0; c < shard_chunk_count(sizes[s]); c++) {
                const int corner[3] = {(int)(c % (size_t)shard.grid[0]) * chunk_side,
                                       (int)(c / (size_t)shard.grid[0] % (size_t)shard.grid[1]) * chunk_side,
                                       (int)(c / (size_t)shard.grid[0] / (size_t)shard.grid[1]) * chunk_side};
                assert_int_equal(shard_read_chunk(chunk, &shard, c, &decoder), VOCO_OK);
                for (size_t i = 0; i < chunk_voxels; i++) {
                    const int at[3] = {corner[0] + (int)(i / 4096), corner[1] + (int)(i / 64 % 64),
                                       corner[2] + (int)(i % 64)};
                    double expected = 0;
                    if (at[0] < sizes[s][0] && at[1] < sizes[s][1] && at[2] < sizes[s][2]) {
                        expected = (double)volume.data[((size_t)at[2] * (size_t)sizes[s][1] + (size_t)at[1]) *
                                                           (size_t)sizes[s][0] +
                                                       (size_t)at[0]];
                    }
                    const int stored = levels[l] == 255 ? chunk[i] : chunk[2 * i] | chunk[2 * i + 1] << 8;
                    if (stored > expected * levels[l] + 0.51 || stored < expected * levels[l] - 0.51) {
                        fail_msg("chunk %zu, voxel %zu: %d of %d for %g", c, i, stored, levels[l], expected);
                    }
                }
            }
            free(chunk);
            chunk_decoder_free(&decoder);
            shard_close(&shard);
        }
        volume_free(&volume);
    }
}

static void the_bytes_do_not_depend_on_the_threads(void **state)
{
    (void)state;
    struct volume volume = new_volume(150, 70, 140);
    write_volume(&volume, 255, 1);
    size_t count = 0;
    unsigned char *one = read_file(&count);
    write_volume(&volume, 255, 3);
    size_t again = 0;
    unsigned char *three = read_file(&again);
    assert_int_equal(count, again);
    assert_memory_equal(one, three, count);
    free(one);
    free(three);
    volume_free(&volume);
}

static void chunks_of_zeros_take_no_room(void **state)
{
    (void)state;
    struct volume volume = new_volume(64, 128, 64);
    struct shard shard;
    write_volume(&volume, 255, 1);
    assert_int_equal(shard_open(&shard, path, volume.size, 255, "x"), VOCO_OK);
    assert_true(shard.chunks[0].bytes > 0);
    assert_int_equal(shard.chunks[1].bytes, 0);
    assert_int_equal(shard.bytes, shard.chunks[0].bytes + shard_index_bytes(2));
    shard_close(&shard);
    volume_free(&volume);
}

static void every_changed_byte_is_noticed(void **state)
{
    (void)state;
    struct volume volume = new_volume(70, 20, 66);
    write_volume(&volume, 255, 1);
    size_t count = 0;
    unsigned char *bytes = read_file(&count);
    for (size_t i = 0; i<count; i += count> 20000 ? count / 20000 + 1 : 1) {
        struct shard shard;
        const unsigned char kept = bytes[i];
        bytes[i] ^= (unsigned char)(1 << i % 8);
        enum voco_status status = shard_open_memory(&shard, bytes, count, volume.size, 255, "case 7");
        if (status == VOCO_OK) {
            status = shard_verify(&shard);
            shard_close(&shard);
        }
        assert_int_equal(status, VOCO_BAD_INPUT);
        assert_true(strncmp(voco_error_message(), "case 7: damaged: ", 17) == 0);
        bytes[i] = kept;
    }
    free(bytes);
    volume_free(&volume);
}

static void a_file_that_was_cut_or_grew_is_refused(void **state)
{
    (void)state;
    struct volume volume = new_volume(70, 20, 66);
    write_volume(&volume, 255, 1);
    size_t count = 0;
    unsigned char *bytes = read_file(&count);
    struct shard shard;
    for (size_t length = 0; length < count; length += length < count - 100 ? 997 : 1) {
        assert_int_equal(shard_open_memory(&shard, bytes, length, volume.size, 255, "x"), VOCO_BAD_INPUT);
    }
    /* The index stays at the end, with bytes that nobody owns in front. */
    unsigned char *longer = malloc(count + 5);
    assert_non_null(longer);
    memset(longer, 0, 5);
    memcpy(longer + 5, bytes, count);
    assert_int_equal(shard_open_memory(&shard, longer, count + 5, volume.size, 255, "x"), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "longer or shorter"));
    free(longer);
    free(bytes);
    volume_free(&volume);
}

static void an_index_that_lies_is_refused(void **state)
{
    (void)state;
    enum { file_bytes = 1000 };
    const uint64_t room = file_bytes - shard_index_bytes(2);
    const struct {
        struct shard_chunk chunks[2];
        int good;
    } cases[] = {
        {{{0, 500}, {500, room - 500}}, 1},  {{{0, room}, {0, 0}}, 1},
        {{{0, 500}, {500, room - 499}}, 0},  {{{0, 500}, {500, room - 501}}, 0},
        {{{room, 500}, {0, room - 500}}, 0}, {{{UINT64_MAX - 3, 500}, {0, room - 500}}, 0},
        {{{0, UINT64_MAX - 1}, {0, 2}}, 0},  {{{0, 4}, {4, room - 4}}, 0}, /* no frame before the checksum */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned char index[64];
        struct shard_chunk chunks[2];
        assert_true(shard_index_bytes(2) <= sizeof index);
        shard_index_encode(index, cases[i].chunks, 2);
        const char *wrong = shard_index_decode(chunks, 2, index, file_bytes, 2000);
        assert_true(cases[i].good ? wrong == NULL : wrong != NULL);
        assert_non_null(shard_index_decode(chunks, 2, index, file_bytes, 450));
    }
}

static void a_full_disk_is_said(void **state)
{
    (void)state;
    struct volume volume = new_volume(200, 64, 64);
    const struct prepared_volume prepared = prepared_volume_of(&volume);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit small = {10000, before.rlim_max};
    uint64_t bytes = 0;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const enum voco_status status = shard_write(&bytes, path, &prepared, 255, 3, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, VOCO_IO);
    assert_non_null(strstr(voco_error_message(), path));
    volume_free(&volume);
}

int main(void)
{
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums_are_the_published_ones),
        cmocka_unit_test(voxels_come_back_within_half_a_level),
        cmocka_unit_test(the_bytes_do_not_depend_on_the_threads),
        cmocka_unit_test(chunks_of_zeros_take_no_room),
        cmocka_unit_test(every_changed_byte_is_noticed),
        cmocka_unit_test(a_file_that_was_cut_or_grew_is_refused),
        cmocka_unit_test(an_index_that_lies_is_refused),
        cmocka_unit_test(a_full_disk_is_said),
    };
    return cmocka_run_group_tests(tests, make_folder, clear_folder);
}
