/* Embeddings of a whole volume: of sliding crops, each with its place, and their mean; and the dense feature
 * map of a level. */
#ifndef ENCODE_EMBED_VOLUME_H
#define ENCODE_EMBED_VOLUME_H

#include "encode/pretrained_encoder.h"
#include "volume/volume.h"

/* One row a crop, in the order of sliding_crop_place. */
struct volume_embedding {
    size_t count;
    size_t width;        /* E, or the channels of one level */
    float *embedding;    /* (count, width) */
    float *mean;         /* (width): over the crops, summed in double */
    int (*position)[3];  /* (count) the first voxel of the crop, x, y, z */
    double (*centre)[3]; /* (count) the crop's centre in mm, RAS, as the volume's affine has it */
};

/* How a volume is taken apart. */
struct embedding_choice {
    int whole;  /* 1: the volume is one box; 0: crops of R^3 */
    int stride; /* of the crops, in voxels; 0: R / 2 */
    int level;  /* 0 to 4: that level only; -1: all five, one behind the other */
};

/* Told after each pass, to show progress; NULL: nobody is told. */
typedef void (*embedding_progress)(size_t done, size_t total, void *context);

/* Embeds the volume. Where `whole` is set its size must be one that encoder_box_check allows. Free with
 * volume_embedding_free, also after a failure. */
enum voco_status embed_volume(struct volume_embedding *out, struct pretrained_encoder *encoder,
                              const struct volume *volume, const struct embedding_choice *choice,
                              embedding_progress progress, void *context);
void volume_embedding_free(struct volume_embedding *embedding);

/* The features of a level over a whole volume. Token (i, j, k) is that of the voxels from (i, j, k) stride
 * on, (stride)^3 of them; the affine is that of the tokens' centres. */
struct feature_map {
    int size[3]; /* tokens along x, y, z: the volume's voxels / stride, rounded up */
    int channels;
    double affine[3][4]; /* token index -> mm in RAS */
    float *data;         /* (channels, z, y, x), x fastest */
};

/* choice->level is 0 to 4. Where crops overlap a token is the mean of what each crop has there; crops begin
 * at multiples of the level's stride, see encode/sliding_crops.h. VOCO_BAD_INPUT where choice->stride leaves
 * gaps between them. Free with feature_map_free, also after a
 * failure. */
enum voco_status map_features(struct feature_map *out, struct pretrained_encoder *encoder,
                              const struct volume *volume, const struct embedding_choice *choice,
                              embedding_progress progress, void *context);
void feature_map_free(struct feature_map *map);

/* Bytes of the map that map_features would make. */
double feature_map_bytes(const struct pretrained_encoder *encoder, int level, const int size[3]);

#endif
