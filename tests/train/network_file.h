/* Files of a small network as others write them: other prefixes, names, spellings, formats and types. */
#ifndef TESTS_NETWORK_FILE_H
#define TESTS_NETWORK_FILE_H

#include "compute/real.h"
#include "formats/tensor_file.h"
#include "model/checkpoint_names.h"

struct network_file {
    struct model_config config;
    enum tensor_file_format format;
    enum name_space space;
    const char *prefix;  /* of every name, "" */
    const char *second;  /* once more all, with this prefix; NULL: once */
    int old_spelling;    /* swin_vit, mlp.fc1, mlp.fc2 */
    int with_buffers;    /* relative_position_index */
    int wrong_buffers;   /* with another value in them */
    int with_metadata;   /* feature_size, roi, projector, patch_merging */
    int in_channels;     /* 0: 1; repeated, not divided */
    int bf16;            /* the upper halves of the values */
    const char *without; /* names that have this in them are left out; NULL: none */
    const char *extra;   /* a tensor [2] of this name; NULL: none */
};

/* params is the flat buffer of config's table. A .pt has the names as keys of one dict. */
void network_file_write(const char *path, const struct network_file *file, const real *params);

/* The flat buffer of a new table, drawn from the seed, with norms that are not trivial; free both. */
real *network_draw(struct parameter_table *table, const struct model_config *config, unsigned seed);

#endif
