#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"
#include "model/input_channels.h"
#include "train/network_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { name_room = 256 };

/* One of the two writers. */
struct writer {
    struct safetensors_writer *safetensors;
    struct pt_writer *pt;
};

static void declare(struct writer *w, const char *name, enum safetensors_type type, int rank,
                    const int64_t *shape)
{
    assert_int_equal(w->pt != NULL ? pt_writer_declare(w->pt, name, type, rank, shape)
                                   : safetensors_writer_declare(w->safetensors, name, type, rank, shape),
                     VOCO_OK);
}

static void put(struct writer *w, const void *values)
{
    assert_int_equal(w->pt != NULL ? pt_writer_put(w->pt, values)
                                   : safetensors_writer_put(w->safetensors, values),
                     VOCO_OK);
}

static void replace(char text[name_room], const char *old, const char *with)
{
    char rest[name_room];
    char *at = strstr(text, old);
    if (at != NULL) {
        (void)snprintf(rest, sizeof rest, "%s", at + strlen(old));
        (void)snprintf(at, (size_t)(text + name_room - at), "%s%s", with, rest);
    }
}

/* 0 where the file does not have it. */
static int stored_name(char name[name_room], const struct network_file *file, const char *prefix,
                       const char *own)
{
    const char *part = name_in_space(own, file->space);
    if (part == NULL || (file->without != NULL && strstr(own, file->without) != NULL)) {
        return 0;
    }
    (void)snprintf(name, name_room, "%s%s", prefix, part);
    if (file->old_spelling) {
        replace(name, "swinViT.", "swin_vit.");
        replace(name, "mlp.linear1.", "mlp.fc1.");
        replace(name, "mlp.linear2.", "mlp.fc2.");
    }
    return 1;
}

static void put_parameter(struct writer *w, const struct network_file *file, const struct parameter *p,
                          const real *params)
{
    const size_t times = reads_the_image(p) && file->in_channels > 0 ? (size_t)file->in_channels : 1;
    const size_t taps = p->count / (size_t)p->shape[0];
    float *values = malloc(p->count * times * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < p->count * times; i++) {
        values[i] = (float)params[p->offset + i / (taps * times) * taps + i % taps];
    }
    unsigned short *halves = (unsigned short *)values;
    for (size_t i = 0; file->bf16 && i < p->count * times; i++) {
        halves[i] = halves[2 * i + 1];
    }
    put(w, values);
    free(values);
}

/* Declares (values: 0) or puts (1) all tensors: buffers first, as the larger type. */
static void pass(struct writer *w, const struct network_file *file, const struct parameter_table *table,
                 const real *params, const char *prefix, int values)
{
    static const int64_t index_shape[] = {relative_position_tokens, relative_position_tokens};
    static int64_t index[relative_position_tokens * relative_position_tokens];
    char name[name_room];
    char own[parameter_name_size];
    model_relative_position_index(index);
    index[7] += file->wrong_buffers;
    for (int i = 0; file->with_buffers && i < table->count; i++) {
        if (parameter_buffer_after(own, &table->entries[i]) && stored_name(name, file, prefix, own)) {
            if (values) {
                put(w, index);
            } else {
                declare(w, name, SAFETENSORS_I64, 2, index_shape);
            }
        }
    }
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        int64_t shape[parameter_max_rank];
        memcpy(shape, p->shape, sizeof shape);
        shape[1] = reads_the_image(p) && file->in_channels > 0 ? file->in_channels : shape[1];
        if (!stored_name(name, file, prefix, p->name)) {
            continue;
        }
        if (values) {
            put_parameter(w, file, p, params);
        } else {
            declare(w, name, file->bf16 ? SAFETENSORS_BF16 : SAFETENSORS_F32, p->rank, shape);
        }
    }
}

static void write_metadata(struct safetensors_writer *writer, const struct model_config *config)
{
    const struct {
        const char *key;
        int value;
    } numbers[] = {
        {"feature_size", config->feature_size}, {"roi", config->roi}, {"projector", config->projector}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", numbers[i].value);
        assert_int_equal(safetensors_writer_metadata(writer, numbers[i].key, text), VOCO_OK);
    }
    assert_int_equal(
        safetensors_writer_metadata(writer, "patch_merging", patch_merging_name(config->patch_merging)),
        VOCO_OK);
}

void network_file_write(const char *path, const struct network_file *file, const real *params)
{
    static const float extra[2] = {1, 2};
    struct parameter_table table;
    struct writer w = {0};
    assert_int_equal(parameter_table_create(&table, &file->config), VOCO_OK);
    if (file->format == TENSOR_FILE_PT) {
        assert_int_equal(pt_writer_open(&w.pt, path, PT_ORDERED_DICT), VOCO_OK);
    } else {
        assert_int_equal(safetensors_writer_open(&w.safetensors, path), VOCO_OK);
    }
    if (file->with_metadata) {
        write_metadata(w.safetensors, &file->config);
    }
    for (int values = 0; values <= 1; values++) {
        pass(&w, file, &table, params, file->prefix, values);
        if (file->second != NULL) {
            pass(&w, file, &table, params, file->second, values);
        }
        if (file->extra != NULL && values) {
            put(&w, extra);
        } else if (file->extra != NULL) {
            declare(&w, file->extra, SAFETENSORS_F32, 1, (const int64_t[]){2});
        }
    }
    assert_int_equal(w.pt != NULL ? pt_writer_commit(w.pt) : safetensors_writer_commit(w.safetensors),
                     VOCO_OK);
    parameter_table_free(&table);
}

real *network_draw(struct parameter_table *table, const struct model_config *config, unsigned seed)
{
    const struct random_key key = {.seed = seed, .purpose = RANDOM_TEST};
    assert_int_equal(parameter_table_create(table, config), VOCO_OK);
    real *params = calloc(table->total, sizeof *params);
    assert_non_null(params);
    parameters_initialise(params, table, seed);
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        for (size_t j = 0; p->rank == 1 && j < p->count; j++) {
            params[p->offset + j] += (real)random_uniform(&key, (uint32_t)(p->offset + j)) - (real)0.5;
        }
    }
    return params;
}
