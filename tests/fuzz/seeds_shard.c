/* Seeds for fuzz_shard: a small cached volume's metadata and its shards, each behind the byte that says what
 * it is. seeds_shard FOLDER */
#include "base/folder.h"
#include "store/volume_cache.h"
#include "store/zarr_metadata.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed;

/* FOLDER/NAME: the byte, then what is in the file at `from`. */
static void add_seed(const char *folder, const char *name, int kind, const char *from)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *in = fopen(from, "rb");
    FILE *out = fopen(path, "wb");
    failed |= in == NULL || out == NULL;
    if (in != NULL && out != NULL) {
        (void)fputc(kind, out);
        for (int byte = fgetc(in); byte != EOF; byte = fgetc(in)) {
            (void)fputc(byte, out);
        }
    }
    failed |= out != NULL && fclose(out) != 0;
    if (in != NULL) {
        (void)fclose(in);
    }
}

static void fill(struct volume *volume)
{
    for (size_t i = 0; i < volume_count(volume); i++) {
        volume->data[i] = i % 65 < 40 ? (float)(i % 17) / 17.0F : 0.0F;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: seeds_shard FOLDER\n");
        return 2;
    }
    char path[512];
    char file[640];
    struct volume volume = {.size = {65, 40, 64}, .spacing = {1.5, 1.5, 1.5}};
    volume.data = malloc(volume_count(&volume) * sizeof(float));
    if (volume.data == NULL) {
        return 1;
    }
    fill(&volume);
    const struct prepared_volume prepared = prepared_volume_of(&volume);
    for (int bits = 8; bits <= 12; bits += 4) {
        struct cache_settings settings = {.window = {48, 48, 16}, .levels = levels_of_bits(bits), .level = 3};
        (void)preset_from_name(&settings.preset, "chest");
        (void)snprintf(path, sizeof path, "%s/seed-0000000000000001.ome.zarr", argv[1]);
        const struct cache_entry entry = {.key = 1, .source = path, .path = path};
        const struct cache_request request = {.source = path,
                                              .name = "seed",
                                              .set = "",
                                              .split = "training",
                                              .repeat = 1,
                                              .settings = &settings};
        uint64_t bytes = 0;
        failed |= cache_entry_store(&bytes, &entry, &request, &prepared, NULL, 1) != VOCO_OK;
        (void)snprintf(file, sizeof file, "%s/zarr.json", path);
        add_seed(argv[1], "group", 0, file);
        (void)snprintf(file, sizeof file, "%s/0/zarr.json", path);
        add_seed(argv[1], bits == 8 ? "array-8" : "array-12", 1, file);
        (void)snprintf(file, sizeof file, "%s/0/c/0/0/0", path);
        add_seed(argv[1], bits == 8 ? "shard-8" : "shard-12", bits == 8 ? 2 : 3, file);
        add_seed(argv[1], bits == 8 ? "mended-8" : "mended-12", bits == 8 ? 4 : 5, file);
        failed |= remove_folder(path) != VOCO_OK;
    }
    free(volume.data);
    return failed;
}
