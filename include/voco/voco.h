/* voco: self-supervised pre-training (Volume Contrast) for 3D medical images, as a library.
 *
 * What a program needs that uses a pre-trained encoder: prepare a volume as training did, cut crops, embed
 * them.
 *
 *     struct voco_encoder *encoder;
 *     if (voco_encoder_open(&encoder, "run/checkpoint-00002000.safetensors", 0) != VOCO_OK) {
 *         fprintf(stderr, "%s\n", voco_error_message());
 *     }
 *     const int roi = voco_encoder_roi(encoder);                       R, voxels an axis of a crop
 *     float *embedding = malloc(sizeof(float) * voco_encoder_width(encoder));
 *     voco_encoder_embed(encoder, embedding, crop, 1);                 crop: R x R x R floats
 *     voco_encoder_close(encoder);
 *
 * Training is done by the program `voco` (voco pretrain). Functions of one encoder must not be called from
 * two threads at once; different encoders are independent. Errors: voco/status.h. */
#ifndef VOCO_VOCO_H
#define VOCO_VOCO_H

#include "voco/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0". */
const char *voco_version(void);

/* ---- volumes ---- */

struct voco_volume {
    int size[3]; /* voxels along x, y, z; x varies fastest: voxel (x, y, z) is data[(z * ny + y) * nx + x] */
    double spacing[3];   /* mm between voxel centres */
    double affine[3][4]; /* voxel index (x, y, z, 1) -> mm in RAS: x to the right, y to the front, z up */
    float *data;         /* intensities in [0, 1]; free with voco_volume_free */
};

/* Reads a NIfTI file and prepares it as the network sees it: RAS, resampled, windowed to [0, 1], cropped to
 * the foreground, zero-padded to at least `roi` voxels an axis. preset: "abdomen", "chest", "headneck" (CT in
 * HU) or "mr". */
enum voco_status voco_volume_prepare(struct voco_volume *volume, const char *path, const char *preset,
                                     int roi);

/* Reads a NIfTI file as it is: its voxels, scaled as it says, on its own axes. */
enum voco_status voco_volume_read(struct voco_volume *volume, const char *path);

/* Copies the crop of roi^3 voxels that starts at voxel (x, y, z) into crop (roi, roi, roi) in the network's
 * order: x slowest, z fastest. VOCO_BAD_INPUT where it does not lie inside. */
enum voco_status voco_volume_crop(float *crop, const struct voco_volume *volume, const int start[3], int roi);
void voco_volume_free(struct voco_volume *volume);

/* ---- encoder ---- */

struct voco_encoder;

/* Opens a checkpoint of voco, a run's folder (its newest checkpoint), or an encoder of whoever: safetensors
 * or .pt, under the names of voco, of MONAI's SwinUNETR or of the published checkpoints. threads: 0 for all
 * cores. Close with voco_encoder_close. */
enum voco_status voco_encoder_open(struct voco_encoder **encoder, const char *path, int threads);

/* What may be chosen; zeros and NULLs are what voco_encoder_open takes. */
struct voco_encoder_options {
    int threads;
    const char *compute;       /* "cpu", "reference" */
    const char *precision;     /* "float32", "bf16" */
    const char *patch_merging; /* "legacy", "fixed", "v2", of a file of weights that does not say it */
};
enum voco_status voco_encoder_open_with(struct voco_encoder **encoder, const char *path,
                                        const struct voco_encoder_options *options);
void voco_encoder_close(struct voco_encoder *encoder);

/* R, the voxels an axis of a crop that the encoder was trained with. */
int voco_encoder_roi(const struct voco_encoder *encoder);

/* How training prepared its volumes, for voco_volume_prepare: "abdomen", ...; "abdomen" where the file holds
 * weights only. */
const char *voco_encoder_preset(const struct voco_encoder *encoder);

/* E = 24 C, the length of an embedding: the global average pools of its five levels (C, C, 2C, 4C, 16C
 * channels). */
int voco_encoder_width(const struct voco_encoder *encoder);

/* embedding (count, E) of crops (count, R, R, R), axes x, y, z with z fastest, intensities as prepared. Crops
 * are embedded independently of each other. */
enum voco_status voco_encoder_embed(struct voco_encoder *encoder, float *embedding, const float *crops,
                                    int count);

/* embedding (E) of one box of any size: each axis a multiple of 16, from 48 on; axes as of crops. */
enum voco_status voco_encoder_embed_box(struct voco_encoder *encoder, float *embedding, const float *box,
                                        const int size[3]);

/* One of the five levels whose pools make the embedding. */
struct voco_level {
    int first;    /* its part of the embedding: [first, first + channels) */
    int channels; /* C, C, 2 C, 4 C, 16 C */
    int stride;   /* voxels an axis of a token: 1, 2, 4, 8, 32 */
};

/* level: 0 to 4. */
struct voco_level voco_encoder_level(const struct voco_encoder *encoder, int level);

/* features (d, h, w, channels) of a level of one box, before pooling, with d = size[0] / stride rounded up
 * and so on; features[t] are of the token of the voxels from t stride on. */
enum voco_status voco_encoder_features(struct voco_encoder *encoder, float *features, int level,
                                       const float *box, const int size[3]);

/* Embeddings of a whole volume: of crops that slide over it, `stride` voxels apart (0: R / 2), the last of
 * each axis ending with the volume, x slowest. An axis shorter than R is filled up with zeros. Free with
 * voco_embeddings_free, also after a failure. */
struct voco_embeddings {
    size_t count;        /* crops */
    float *embedding;    /* (count, E) */
    float *mean;         /* (E) */
    int (*position)[3];  /* (count) first voxel of each crop */
    double (*centre)[3]; /* (count) its centre in mm, RAS */
};
enum voco_status voco_encoder_embed_volume(struct voco_encoder *encoder, struct voco_embeddings *embeddings,
                                           const struct voco_volume *volume, int stride);
void voco_embeddings_free(struct voco_embeddings *embeddings);

#ifdef __cplusplus
}
#endif

#endif
