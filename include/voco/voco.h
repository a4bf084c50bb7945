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

/* Copies the crop of roi^3 voxels that starts at voxel (x, y, z) into crop (roi, roi, roi) in the network's
 * order: x slowest, z fastest. VOCO_BAD_INPUT where it does not lie inside. */
enum voco_status voco_volume_crop(float *crop, const struct voco_volume *volume, const int start[3], int roi);
void voco_volume_free(struct voco_volume *volume);

/* ---- encoder ---- */

struct voco_encoder;

/* Opens a checkpoint of voco, or a safetensors file of weights under the published names. threads: 0 for all
 * cores. Close with voco_encoder_close. */
enum voco_status voco_encoder_open(struct voco_encoder **encoder, const char *path, int threads);
void voco_encoder_close(struct voco_encoder *encoder);

/* R, the voxels an axis of a crop that the encoder was trained with. */
int voco_encoder_roi(const struct voco_encoder *encoder);

/* E = 24 C, the length of an embedding: the global average pools of its five levels (C, C, 2C, 4C, 16C
 * channels). */
int voco_encoder_width(const struct voco_encoder *encoder);

/* embedding (count, E) of crops (count, R, R, R), axes x, y, z with z fastest, intensities as prepared. Crops
 * are embedded independently of each other. */
enum voco_status voco_encoder_embed(struct voco_encoder *encoder, float *embedding, const float *crops,
                                    int count);

#ifdef __cplusplus
}
#endif

#endif
