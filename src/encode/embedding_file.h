/* The file that embeddings are written to, in the format of its name (docs/formats.md):
 *
 *     .safetensors  embedding (n, E) and what belongs to each row
 *     .npy          (n, E) float32
 *     .csv          a line per row: volume, place, values
 *
 * Volumes are added one by one and need not fit into memory together. The file appears when it is committed,
 * whole. */
#ifndef ENCODE_EMBEDDING_FILE_H
#define ENCODE_EMBEDDING_FILE_H

#include "encode/embed_volume.h"

struct embedding_file;

/* 1 where the name ends like one of the formats. */
int is_embedding_file_name(const char *path);

/* What the file says of itself (metadata of safetensors; the other formats have no place for it). */
struct embedding_file_header {
    const char *checkpoint;
    const char *preset; /* NULL: volumes as they are */
    int level;          /* -1: all */
    int roi, stride;    /* of crops; 0: whole volumes */
    long long step;
};

/* width: values a row. mean_only: one row a volume, its mean, in place of a row a crop. VOCO_BAD_INPUT for
 * another name, VOCO_IO where nothing can be written there. */
enum voco_status embedding_file_open(struct embedding_file **file, const char *path, size_t width,
                                     int mean_only, const struct embedding_file_header *header);

/* Adds the rows of the next volume. `name` is copied. */
enum voco_status embedding_file_add(struct embedding_file *file, const char *name,
                                    const struct volume_embedding *embedding);

/* Rows so far. */
size_t embedding_file_rows(const struct embedding_file *file);

/* Ends the file and frees `file`, whatever happens. */
enum voco_status embedding_file_commit(struct embedding_file *file);

/* Gives up and frees; nothing appears. NULL is allowed. */
void embedding_file_discard(struct embedding_file *file);

#endif
