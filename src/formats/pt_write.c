#include "formats/pt.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "formats/pt_types.h"
#include "formats/zip_write.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { data_alignment = 64 };

struct pt_writer {
    struct atomic_file file;
    struct zip_writer zip;
    FILE *pickle; /* into pickle_bytes */
    char *pickle_bytes;
    size_t pickle_size;
    json_t *keys[pt_max_depth + 1]; /* of each open dict */
    int depth;                      /* open dicts */
    size_t *tensors;                /* (count), bytes of each */
    size_t count, capacity;
    size_t put; /* tensors written */
    int pickle_written;
    enum voco_status status; /* the first failure ... */
    char message[1024];      /* ... and its words */
};

/* Keeps the thread's present message as the writer's, so that commit can repeat it. */
static enum voco_status failed(struct pt_writer *writer, enum voco_status status)
{
    if (status != VOCO_OK && writer->status == VOCO_OK) {
        writer->status = status;
        (void)snprintf(writer->message, sizeof writer->message, "%s", voco_error_message());
    }
    return status;
}

static enum voco_status earlier_failure(const struct pt_writer *writer)
{
    return writer->status == VOCO_OK ? VOCO_OK : fail(writer->status, "%s", writer->message);
}

static enum voco_status no_memory(struct pt_writer *writer)
{
    return failed(writer, fail(VOCO_NO_MEMORY, "%s: out of memory", writer->file.path));
}

/* ---- the pickle; opcodes as in pt_pickle.c. A failure of the stream is seen when it is closed. ---- */

static void put_bytes(struct pt_writer *writer, const void *bytes, size_t count)
{
    (void)!fwrite(bytes, 1, count, writer->pickle);
}

static void put_opcodes(struct pt_writer *writer, const char *opcodes)
{
    put_bytes(writer, opcodes, strlen(opcodes));
}

static void put_text(struct pt_writer *writer, const char *text)
{
    const uint32_t length = (uint32_t)strlen(text);
    put_opcodes(writer, "X");
    put_bytes(writer, &length, sizeof length);
    put_bytes(writer, text, length);
}

static void put_integer(struct pt_writer *writer, int64_t integer)
{
    if (integer >= INT32_MIN && integer <= INT32_MAX) {
        const int32_t narrow = (int32_t)integer;
        put_opcodes(writer, "J");
        put_bytes(writer, &narrow, sizeof narrow);
    } else {
        put_opcodes(writer, "\x8a\x08"); /* LONG1 of 8 bytes */
        put_bytes(writer, &integer, sizeof integer);
    }
}

static void put_number(struct pt_writer *writer, double number)
{
    uint64_t bits = 0;
    memcpy(&bits, &number, sizeof bits);
    bits = __builtin_bswap64(bits);
    put_opcodes(writer, "G");
    put_bytes(writer, &bits, sizeof bits);
}

static void put_integers(struct pt_writer *writer, int count, const int64_t *integers)
{
    put_opcodes(writer, "(");
    for (int i = 0; i < count; i++) {
        put_integer(writer, integers[i]);
    }
    put_opcodes(writer, "t");
}

/* torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict()) */
static void put_tensor(struct pt_writer *writer, enum safetensors_type type, int rank, const int64_t *shape,
                       int64_t count)
{
    char text[64];
    int64_t strides[safetensors_max_rank];
    int64_t stride = 1;
    for (int i = rank; i-- > 0;) {
        strides[i] = stride;
        stride *= shape[i] > 0 ? shape[i] : 1; /* as PyTorch has it for empty tensors */
    }
    put_opcodes(writer, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(writer, "storage");
    (void)snprintf(text, sizeof text, "ctorch\n%s\n", pt_storage_name(type));
    put_opcodes(writer, text);
    (void)snprintf(text, sizeof text, "%zu", writer->count);
    put_text(writer, text);
    put_text(writer, "cpu");
    put_integer(writer, count);
    put_opcodes(writer, "tQ");
    put_integer(writer, 0);
    put_integers(writer, rank, shape);
    put_integers(writer, rank, strides);
    put_opcodes(writer, "\x89" /* NEWFALSE */
                        "ccollections\nOrderedDict\n)RtR");
}

static enum voco_status begin_dict(struct pt_writer *writer, enum pt_dict kind)
{
    json_t *keys = json_object();
    if (keys == NULL) {
        return no_memory(writer);
    }
    writer->keys[writer->depth++] = keys;
    put_opcodes(writer, kind == PT_ORDERED_DICT ? "ccollections\nOrderedDict\n)R(" : "}(");
    return VOCO_OK;
}

/* ---- the calls ---- */

enum voco_status pt_writer_open(struct pt_writer **writer, const char *path, enum pt_dict root)
{
    *writer = calloc(1, sizeof **writer);
    if (*writer == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    struct pt_writer *w = *writer;
    enum voco_status status = atomic_file_open(&w->file, path);
    if (status == VOCO_OK) {
        w->zip = (struct zip_writer){.stream = w->file.stream, .path = w->file.path};
        w->pickle = open_memstream(&w->pickle_bytes, &w->pickle_size);
        status = w->pickle == NULL ? no_memory(w) : VOCO_OK;
    }
    if (status == VOCO_OK) {
        put_opcodes(w, "\x80\x02"); /* PROTO 2 */
        status = begin_dict(w, root);
    }
    if (status != VOCO_OK) {
        pt_writer_discard(w);
        *writer = NULL;
    }
    return status;
}

/* Writes the key of a new value of the open dict. */
static enum voco_status begin_value(struct pt_writer *writer, const char *key)
{
    if (writer->status != VOCO_OK) {
        return earlier_failure(writer);
    }
    json_t *keys = writer->depth == 0 ? NULL : writer->keys[writer->depth - 1];
    if (keys == NULL || writer->pickle_written || json_object_get(keys, key) != NULL) {
        return failed(writer, fail(VOCO_BAD_INPUT, "%s: \"%s\" is given %s", writer->file.path, key,
                                   keys == NULL || writer->pickle_written ? "too late" : "twice"));
    }
    if (json_object_set_new(keys, key, json_null()) != 0) {
        return failed(writer,
                      fail(VOCO_BAD_INPUT, "%s: the key \"%s\" is not UTF-8 text", writer->file.path, key));
    }
    put_text(writer, key);
    return VOCO_OK;
}

enum voco_status pt_writer_begin(struct pt_writer *writer, const char *key, enum pt_dict kind)
{
    if (writer->status == VOCO_OK && writer->depth == pt_max_depth) {
        return failed(writer, fail(VOCO_BAD_INPUT, "%s: \"%s\": nested more than %d deep", writer->file.path,
                                   key, (int)pt_max_depth));
    }
    const enum voco_status status = begin_value(writer, key);
    return status == VOCO_OK ? begin_dict(writer, kind) : status;
}

static void end_dict(struct pt_writer *writer)
{
    put_opcodes(writer, "u");
    json_decref(writer->keys[--writer->depth]);
    writer->keys[writer->depth] = NULL;
}

enum voco_status pt_writer_end(struct pt_writer *writer)
{
    if (writer->status != VOCO_OK) {
        return earlier_failure(writer);
    }
    if (writer->depth <= 1 || writer->pickle_written) {
        return failed(writer, fail(VOCO_BAD_INPUT, "%s: more dicts end than were begun", writer->file.path));
    }
    end_dict(writer);
    return VOCO_OK;
}

static int is_utf8(const char *text)
{
    json_t *string = json_string(text);
    json_decref(string);
    return string != NULL;
}

enum voco_status pt_writer_scalar(struct pt_writer *writer, const struct stored_scalar *scalar)
{
    const enum voco_status status = begin_value(writer, scalar->name);
    if (status != VOCO_OK) {
        return status;
    }
    switch (scalar->kind) {
    case STORED_NONE:
        put_opcodes(writer, "N");
        break;
    case STORED_BOOL:
        put_opcodes(writer, scalar->integer != 0 ? "\x88" : "\x89");
        break;
    case STORED_INTEGER:
        put_integer(writer, scalar->integer);
        break;
    case STORED_NUMBER:
        put_number(writer, scalar->number);
        break;
    case STORED_TEXT:
        if (strlen(scalar->text) > UINT32_MAX || !is_utf8(scalar->text)) {
            return failed(writer, fail(VOCO_BAD_INPUT, "%s: the value of \"%s\" is not UTF-8 text",
                                       writer->file.path, scalar->name));
        }
        put_text(writer, scalar->text);
        break;
    }
    return VOCO_OK;
}

/* The element count and the bytes, bounded. */
static int measure(size_t *count, size_t *bytes, enum safetensors_type type, int rank, const int64_t *shape)
{
    *count = 1;
    if (rank < 0 || rank > safetensors_max_rank) {
        return 0;
    }
    size_t extent = safetensors_type_size(type); /* without axes of length 0, so that strides fit, too */
    for (int i = 0; i < rank; i++) {
        const size_t axis = shape[i] > 0 ? (size_t)shape[i] : 1;
        if (shape[i] < 0 || __builtin_mul_overflow(extent, axis, &extent) || extent > INT64_MAX) {
            return 0;
        }
        *count *= (size_t)shape[i];
    }
    *bytes = *count * safetensors_type_size(type);
    return 1;
}

static int grow(struct pt_writer *writer)
{
    if (writer->count < writer->capacity) {
        return 1;
    }
    const size_t capacity = writer->capacity == 0 ? 256 : 2 * writer->capacity;
    size_t *grown = reallocarray(writer->tensors, capacity, sizeof *grown);
    if (grown == NULL) {
        return 0;
    }
    writer->tensors = grown;
    writer->capacity = capacity;
    return 1;
}

enum voco_status pt_writer_declare(struct pt_writer *writer, const char *key, enum safetensors_type type,
                                   int rank, const int64_t *shape)
{
    enum voco_status status = begin_value(writer, key);
    if (status != VOCO_OK) {
        return status;
    }
    size_t count = 0;
    size_t bytes = 0;
    if (pt_storage_name(type) == NULL) {
        status = fail(VOCO_UNSUPPORTED, "%s: tensor \"%s\": cannot write the type %s", writer->file.path, key,
                      safetensors_type_name(type));
    } else if (!measure(&count, &bytes, type, rank, shape)) {
        status = fail(VOCO_BAD_INPUT, "%s: tensor \"%s\" has a shape that cannot be", writer->file.path, key);
    } else if (!grow(writer)) {
        return no_memory(writer);
    }
    if (status != VOCO_OK) {
        return failed(writer, status);
    }
    put_tensor(writer, type, rank, shape, (int64_t)count);
    writer->tensors[writer->count++] = bytes;
    return VOCO_OK;
}

static enum voco_status write_entry(struct pt_writer *writer, const char *name, const void *data, size_t size)
{
    return failed(writer, zip_writer_add(&writer->zip, name, data, size, data_alignment));
}

/* data.pkl and the small entries that torch.save writes. */
static enum voco_status write_pickle(struct pt_writer *writer)
{
    if (writer->depth != 1) {
        return failed(writer, fail(VOCO_BAD_INPUT, "%s: a dict has not ended", writer->file.path));
    }
    end_dict(writer);
    put_opcodes(writer, ".");
    const int sound = !ferror(writer->pickle);
    const int closed = fclose(writer->pickle) == 0;
    writer->pickle = NULL;
    writer->pickle_written = 1;
    if (!sound || !closed) {
        return no_memory(writer);
    }
    enum voco_status status =
        write_entry(writer, "archive/data.pkl", writer->pickle_bytes, writer->pickle_size);
    static const struct {
        const char *name;
        const char *content;
    } entries[] = {{"archive/.format_version", "1"},
                   {"archive/.storage_alignment", "64"},
                   {"archive/byteorder", "little"},
                   {"archive/version", "3\n"}};
    for (size_t i = 0; status == VOCO_OK && i < sizeof entries / sizeof entries[0]; i++) {
        status = write_entry(writer, entries[i].name, entries[i].content, strlen(entries[i].content));
    }
    return status;
}

enum voco_status pt_writer_put(struct pt_writer *writer, const void *data)
{
    if (writer->status != VOCO_OK) {
        return earlier_failure(writer);
    }
    if (writer->put == writer->count) {
        return failed(writer,
                      fail(VOCO_BAD_INPUT, "%s: more tensors are written than declared", writer->file.path));
    }
    if (!writer->pickle_written && write_pickle(writer) != VOCO_OK) {
        return writer->status;
    }
    char name[64];
    (void)snprintf(name, sizeof name, "archive/data/%zu", writer->put);
    return write_entry(writer, name, data, writer->tensors[writer->put++]);
}

enum voco_status pt_writer_commit(struct pt_writer *writer)
{
    if (writer->status == VOCO_OK && writer->put < writer->count) {
        (void)failed(writer, fail(VOCO_BAD_INPUT, "%s: %zu tensors were declared, %zu written",
                                  writer->file.path, writer->count, writer->put));
    }
    if (writer->status == VOCO_OK && !writer->pickle_written) { /* a file without tensors */
        (void)write_pickle(writer);
    }
    if (writer->status == VOCO_OK) {
        (void)failed(writer, zip_writer_finish(&writer->zip));
    }
    if (writer->status == VOCO_OK) {
        (void)failed(writer, atomic_file_commit(&writer->file));
    }
    const enum voco_status status = earlier_failure(writer);
    pt_writer_discard(writer);
    return status;
}

void pt_writer_discard(struct pt_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    atomic_file_discard(&writer->file);
    zip_writer_free(&writer->zip);
    if (writer->pickle != NULL) {
        (void)fclose(writer->pickle);
    }
    free(writer->pickle_bytes);
    for (int i = 0; i < writer->depth; i++) {
        json_decref(writer->keys[i]);
    }
    free(writer->tensors);
    free(writer);
}
