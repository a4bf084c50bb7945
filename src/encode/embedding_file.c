#include "encode/embedding_file.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "formats/npy.h"
#include "formats/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum embedding_format { FORMAT_SAFETENSORS, FORMAT_NPY, FORMAT_CSV, FORMAT_COUNT };

static const char *const endings[FORMAT_COUNT] = {".safetensors", ".npy", ".csv"};

/* What a row of safetensors has beside its values. */
struct row_place {
    int32_t volume;
    int32_t position[3];
    float centre[3];
};

struct embedding_file {
    enum embedding_format format;
    char *path;
    size_t width;
    int mean_only;
    struct embedding_file_header header;
    size_t rows, volumes;
    struct atomic_file out; /* of .npy and .csv */
    FILE *rows_aside;       /* of safetensors: values, until it is known how many; has no name */
    struct row_place *places;
    size_t capacity;
    float *means; /* (volumes, width) */
    json_t *names;
};

static int format_of(const char *path)
{
    const size_t length = strlen(path);
    for (int i = 0; i < FORMAT_COUNT; i++) {
        const size_t tail = strlen(endings[i]);
        if (length > tail && strcmp(path + length - tail, endings[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int is_embedding_file_name(const char *path)
{
    return format_of(path) >= 0;
}

/* A file in the folder of `path`, whose name is gone at once. */
static enum voco_status open_aside(FILE **out, const char *path)
{
    char *name = NULL;
    const char *slash = strrchr(path, '/');
    const int folder = slash != NULL ? (int)(slash - path) + 1 : 0;
    if (asprintf(&name, "%.*s.voco-XXXXXX", folder, path) < 0) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    const int descriptor = mkstemp(name);
    *out = descriptor >= 0 ? fdopen(descriptor, "w+b") : NULL;
    const enum voco_status status = *out != NULL ? VOCO_OK : fail_errno("%s: cannot write there", path);
    if (descriptor >= 0) {
        (void)unlink(name);
    }
    if (descriptor >= 0 && *out == NULL) {
        (void)close(descriptor);
    }
    free(name);
    return status;
}

static void begin_csv(const struct embedding_file *file)
{
    FILE *out = file->out.stream;
    (void)fputs(file->mean_only ? "volume" : "volume,x,y,z,x_mm,y_mm,z_mm", out);
    for (size_t i = 0; i < file->width; i++) {
        (void)fprintf(out, ",e%zu", i);
    }
    (void)fputc('\n', out);
}

enum voco_status embedding_file_open(struct embedding_file **out, const char *path, size_t width,
                                     int mean_only, const struct embedding_file_header *header)
{
    *out = NULL;
    const int format = format_of(path);
    if (format < 0) {
        return fail(VOCO_BAD_INPUT, "%s: its name must end in .safetensors, .npy or .csv", path);
    }
    struct embedding_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    *file = (struct embedding_file){.format = (enum embedding_format)format,
                                    .path = strdup(path),
                                    .width = width,
                                    .mean_only = mean_only,
                                    .header = *header,
                                    .names = json_array()};
    enum voco_status status = VOCO_OK;
    if (file->path == NULL || file->names == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    } else if (format == FORMAT_SAFETENSORS) {
        status = open_aside(&file->rows_aside, path);
    } else {
        status = atomic_file_open(&file->out, path);
    }
    if (status != VOCO_OK) {
        embedding_file_discard(file);
        return status;
    }
    if (format == FORMAT_NPY) {
        const unsigned char room[npy_header_size] = {0};
        (void)fwrite(room, 1, sizeof room, file->out.stream);
    } else if (format == FORMAT_CSV) {
        begin_csv(file);
    }
    *out = file;
    return VOCO_OK;
}

/* A field as RFC 4180 has it. */
static void put_csv_text(FILE *out, const char *text)
{
    const int quoted = strpbrk(text, ",\"\r\n") != NULL;
    if (!quoted) {
        (void)fputs(text, out);
        return;
    }
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            (void)fputc('"', out);
        }
        (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

static void put_csv_row(FILE *out, const char *name, const struct volume_embedding *e, size_t row,
                        int mean_only)
{
    const float *values = mean_only ? e->mean : e->embedding + row * e->width;
    put_csv_text(out, name);
    if (!mean_only) {
        const int *p = e->position[row];
        const double *mm = e->centre[row];
        (void)fprintf(out, ",%d,%d,%d,%.7g,%.7g,%.7g", p[0], p[1], p[2], mm[0], mm[1], mm[2]);
    }
    for (size_t i = 0; i < e->width; i++) {
        (void)fprintf(out, ",%.9g", (double)values[i]);
    }
    (void)fputc('\n', out);
}

static enum voco_status remember(struct embedding_file *file, const char *name,
                                 const struct volume_embedding *e)
{
    const size_t count = file->mean_only ? 0 : e->count, rows = file->rows + count;
    float *means = reallocarray(file->means, (file->volumes + 1) * file->width, sizeof *means);
    file->means = means != NULL ? means : file->means;
    if (rows > file->capacity) {
        struct row_place *places = reallocarray(file->places, 2 * rows, sizeof *places);
        file->places = places != NULL ? places : file->places;
        file->capacity = places != NULL ? 2 * rows : file->capacity;
    }
    if (means == NULL || rows > file->capacity ||
        json_array_append_new(file->names, json_string(name)) != 0) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for %zu rows", file->path, rows);
    }
    memcpy(file->means + file->volumes * file->width, e->mean, file->width * sizeof *e->mean);
    for (size_t i = 0; i < count; i++) {
        struct row_place *place = &file->places[file->rows + i];
        place->volume = (int32_t)file->volumes;
        for (int axis = 0; axis < 3; axis++) {
            place->position[axis] = e->position[i][axis];
            place->centre[axis] = (float)e->centre[i][axis];
        }
    }
    return VOCO_OK;
}

enum voco_status embedding_file_add(struct embedding_file *file, const char *name,
                                    const struct volume_embedding *e)
{
    const size_t rows = file->mean_only ? 1 : e->count;
    FILE *out = file->format == FORMAT_SAFETENSORS ? file->rows_aside : file->out.stream;
    if (file->format == FORMAT_CSV) {
        for (size_t i = 0; i < rows; i++) {
            put_csv_row(out, name, e, i, file->mean_only);
        }
    } else {
        (void)fwrite(file->mean_only ? e->mean : e->embedding, sizeof *e->embedding, rows * e->width, out);
    }
    if (ferror(out)) {
        return fail_errno("%s: cannot write", file->path);
    }
    const enum voco_status status = file->format == FORMAT_SAFETENSORS ? remember(file, name, e) : VOCO_OK;
    file->rows += rows;
    file->volumes++;
    return status;
}

size_t embedding_file_rows(const struct embedding_file *file)
{
    return file->rows;
}

/* ---- the end of each format ---- */

static void put_number(struct safetensors_writer *writer, const char *key, long long value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", value);
    (void)safetensors_writer_metadata(writer, key, text);
}

static void put_metadata(struct safetensors_writer *writer, const struct embedding_file *file,
                         const char *names)
{
    const struct embedding_file_header *header = &file->header;
    (void)safetensors_writer_metadata(writer, "format", "voco-embeddings-1");
    (void)safetensors_writer_metadata(writer, "voco", VOCO_VERSION);
    (void)safetensors_writer_metadata(writer, "checkpoint", header->checkpoint);
    put_number(writer, "step", header->step);
    (void)safetensors_writer_metadata(writer, "rows", file->mean_only ? "volumes" : "crops");
    if (header->preset != NULL) {
        (void)safetensors_writer_metadata(writer, "preset", header->preset);
    }
    if (header->level >= 0) {
        put_number(writer, "level", header->level);
    }
    if (header->roi > 0) {
        put_number(writer, "roi", header->roi);
        put_number(writer, "stride", header->stride);
    }
    (void)safetensors_writer_metadata(writer, "volumes", names);
}

/* The members of all places, one array each. */
struct place_columns {
    int32_t *volume, *position;
    float *centre;
};

static int columns_of(struct place_columns *columns, const struct row_place *places, size_t rows)
{
    columns->volume = calloc(rows + 1, sizeof *columns->volume);
    columns->position = calloc(rows + 1, 3 * sizeof *columns->position);
    columns->centre = calloc(rows + 1, 3 * sizeof *columns->centre);
    if (columns->volume == NULL || columns->position == NULL || columns->centre == NULL) {
        return 0;
    }
    for (size_t i = 0; i < rows; i++) {
        columns->volume[i] = places[i].volume;
        memcpy(columns->position + 3 * i, places[i].position, sizeof places[i].position);
        memcpy(columns->centre + 3 * i, places[i].centre, sizeof places[i].centre);
    }
    return 1;
}

static enum voco_status write_tensors(const struct embedding_file *file, const float *embedding,
                                      const struct place_columns *columns, const char *names)
{
    const int64_t rows = (int64_t)file->rows, width = (int64_t)file->width;
    const int64_t shape[] = {rows, width}, place_shape[] = {rows, 3};
    const int64_t mean_shape[] = {(int64_t)file->volumes, width};
    struct safetensors_writer *writer = NULL;
    const enum voco_status status = safetensors_writer_open(&writer, file->path);
    if (status != VOCO_OK) {
        return status;
    }
    put_metadata(writer, file, names);
    (void)safetensors_writer_declare(writer, "embedding", SAFETENSORS_F32, 2, shape);
    if (!file->mean_only) {
        (void)safetensors_writer_declare(writer, "mean", SAFETENSORS_F32, 2, mean_shape);
        (void)safetensors_writer_declare(writer, "position", SAFETENSORS_I32, 2, place_shape);
        (void)safetensors_writer_declare(writer, "position_mm", SAFETENSORS_F32, 2, place_shape);
        (void)safetensors_writer_declare(writer, "volume", SAFETENSORS_I32, 1, shape);
    }
    (void)safetensors_writer_put(writer, embedding);
    if (!file->mean_only) {
        (void)safetensors_writer_put(writer, file->means);
        (void)safetensors_writer_put(writer, columns->position);
        (void)safetensors_writer_put(writer, columns->centre);
        (void)safetensors_writer_put(writer, columns->volume);
    }
    return safetensors_writer_commit(writer);
}

static enum voco_status commit_safetensors(struct embedding_file *file)
{
    struct place_columns columns = {0};
    const size_t bytes = file->rows * file->width * sizeof(float);
    char *names = json_dumps(file->names, JSON_COMPACT);
    void *embedding = MAP_FAILED;
    enum voco_status status = VOCO_OK;
    if (fflush(file->rows_aside) != 0) {
        status = fail_errno("%s: cannot write", file->path);
        goto done;
    }
    embedding = mmap(NULL, bytes > 0 ? bytes : 1, PROT_READ, MAP_PRIVATE, fileno(file->rows_aside), 0);
    if (embedding == MAP_FAILED) {
        status = fail_errno("%s: cannot read back its rows", file->path);
        goto done;
    }
    if (names == NULL || (!file->mean_only && !columns_of(&columns, file->places, file->rows))) {
        status = fail(VOCO_NO_MEMORY, "%s: out of memory", file->path);
        goto done;
    }
    status = write_tensors(file, embedding, &columns, names);
done:
    if (embedding != MAP_FAILED) {
        (void)munmap(embedding, bytes > 0 ? bytes : 1);
    }
    free(columns.volume);
    free(columns.position);
    free(columns.centre);
    free(names);
    return status;
}

enum voco_status embedding_file_commit(struct embedding_file *file)
{
    enum voco_status status = VOCO_OK;
    if (file->format == FORMAT_SAFETENSORS) {
        status = commit_safetensors(file);
    } else {
        if (file->format == FORMAT_NPY) {
            unsigned char header[npy_header_size];
            npy_header(header, file->rows, file->width);
            if (fflush(file->out.stream) != 0 || fseek(file->out.stream, 0, SEEK_SET) != 0) {
                status = fail_errno("%s: cannot write", file->path);
            }
            (void)fwrite(header, 1, sizeof header, file->out.stream);
        }
        status = status == VOCO_OK ? atomic_file_commit(&file->out) : status;
    }
    embedding_file_discard(file);
    return status;
}

void embedding_file_discard(struct embedding_file *file)
{
    if (file == NULL) {
        return;
    }
    atomic_file_discard(&file->out);
    if (file->rows_aside != NULL) {
        (void)fclose(file->rows_aside);
    }
    json_decref(file->names);
    free(file->means);
    free(file->places);
    free(file->path);
    free(file);
}
