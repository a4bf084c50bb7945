/* What a cached volume says of itself: the attributes of its Zarr group. */
#ifndef STORE_VOLUME_ATTRIBUTES_H
#define STORE_VOLUME_ATTRIBUTES_H

#include "voco/status.h"

#include "volume/prepare.h"

#include <stdint.h>

struct volume_attributes {
    uint64_t key;         /* store/volume_cache.h */
    char *source;         /* canonical path of the file it was made from; owned */
    struct preset preset; /* how it was prepared */
    int levels;           /* 255, 4095 or 65535: value = stored / levels */
    int size[3];          /* voxels along x, y, z (RAS), padding included */
    double spacing[3];    /* mm */
    double affine[3][4];  /* voxel index -> mm in RAS */
    int window[3];        /* voxels of the array "window"; 0 where there is none */
    /* How the list that it was cached from had it: for a cache that is itself named as DATA. */
    char *name;     /* owned */
    char *set;      /* of a corpus, else ""; owned */
    char split[16]; /* "training", "validation", "test" */
    int repeat;
};

void volume_attributes_free(struct volume_attributes *attributes);

/* Reads FOLDER/zarr.json. VOCO_IO where it is not there, VOCO_BAD_INPUT where it is not what voco writes or
 * its checksum does not match. Free with volume_attributes_free. */
enum voco_status volume_attributes_read(struct volume_attributes *attributes, const char *folder);

/* From text in memory; `name` begins messages. */
enum voco_status volume_attributes_parse(struct volume_attributes *attributes, const char *text,
                                         size_t length, const char *name);

/* Writes FOLDER/zarr.json, replacing what was there in one go. */
enum voco_status volume_attributes_write(const char *folder, const struct volume_attributes *attributes);

#endif
