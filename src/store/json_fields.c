#include "store/json_fields.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "store/checksum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char checksum_key[] = "checksum";
enum { longest_metadata = 1 << 20 };

json_t *json_object_parse(enum voco_status *status, const char *text, size_t length, const char *name)
{
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        *status = root == NULL
                      ? fail(VOCO_BAD_INPUT, "%s: damaged: line %d: %s", name, error.line, error.text)
                      : fail(VOCO_BAD_INPUT, "%s: damaged: not a JSON object", name);
        json_decref(root);
        return NULL;
    }
    *status = VOCO_OK;
    return root;
}

json_t *json_object_read(enum voco_status *status, const char *path, const char *name)
{
    json_t *root = NULL;
    FILE *stream = fopen(path, "rbe");
    char *text = stream != NULL ? malloc(longest_metadata) : NULL;
    if (stream == NULL) {
        *status = fail_errno("%s: cannot open", path);
    } else if (text == NULL) {
        *status = fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    } else {
        const size_t length = fread(text, 1, longest_metadata, stream);
        if (ferror(stream)) {
            *status = fail_errno("%s: cannot read", path);
        } else if (length == longest_metadata) {
            *status = fail(VOCO_BAD_INPUT, "%s: too long for metadata", path);
        } else {
            root = json_object_parse(status, text, length, name);
        }
    }
    free(text);
    if (stream != NULL) {
        (void)fclose(stream);
    }
    return root;
}

static int integer_of(int *out, const json_t *value, int least, int most)
{
    const json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < least || number > most) {
        return 0;
    }
    *out = (int)number;
    return 1;
}

static int number_of(double *out, const json_t *value)
{
    *out = json_number_value(value);
    return json_is_number(value) && isfinite(*out);
}

int json_field_integer(int *out, const json_t *object, const char *key, int least, int most)
{
    return integer_of(out, json_object_get(object, key), least, most);
}

int json_field_number(double *out, const json_t *object, const char *key)
{
    return number_of(out, json_object_get(object, key));
}

int json_field_integers(int *out, int count, const json_t *object, const char *key, int least, int most)
{
    const json_t *list = json_object_get(object, key);
    int good = json_array_size(list) == (size_t)count;
    for (int i = 0; good && i < count; i++) {
        good = integer_of(&out[i], json_array_get(list, (size_t)i), least, most);
    }
    return good;
}

int json_field_numbers(double *out, int count, const json_t *object, const char *key)
{
    const json_t *list = json_object_get(object, key);
    int good = json_array_size(list) == (size_t)count;
    for (int i = 0; good && i < count; i++) {
        good = number_of(&out[i], json_array_get(list, (size_t)i));
    }
    return good;
}

const char *json_field_text(const json_t *object, const char *key, size_t room)
{
    const json_t *value = json_object_get(object, key);
    return json_string_length(value) < room ? json_string_value(value) : NULL;
}

json_t *json_integers(const int *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        (void)json_array_append_new(list, json_integer(values[i]));
    }
    return list;
}

json_t *json_numbers(const double *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        (void)json_array_append_new(list, json_real(values[i]));
    }
    return list;
}

/* The holder has no checksum at this moment. */
static int checksum_of(json_int_t *checksum, const json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    if (text == NULL) {
        return 0;
    }
    *checksum = crc32c(text, strlen(text));
    free(text);
    return 1;
}

int json_add_checksum(json_t *object, json_t *holder)
{
    json_int_t checksum = 0;
    (void)json_object_del(holder, checksum_key);
    return checksum_of(&checksum, object) &&
           json_object_set_new(holder, checksum_key, json_integer(checksum)) == 0;
}

int json_checksum_matches(json_t *object, json_t *holder)
{
    json_t *stated = json_incref(json_object_get(holder, checksum_key));
    if (stated == NULL) {
        return 1;
    }
    json_int_t checksum = 0;
    (void)json_object_del(holder, checksum_key);
    const int matches =
        json_is_integer(stated) && checksum_of(&checksum, object) && json_integer_value(stated) == checksum;
    return json_object_set_new(holder, checksum_key, stated) == 0 && matches;
}

enum voco_status json_object_write(const char *path, const json_t *object)
{
    struct atomic_file file;
    enum voco_status status = atomic_file_open(&file, path);
    if (status != VOCO_OK) {
        return status;
    }
    char *text = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    if (text == NULL) {
        atomic_file_discard(&file);
        return fail(VOCO_NO_MEMORY, "%s: out of memory", path);
    }
    (void)fprintf(file.stream, "%s\n", text);
    free(text);
    return atomic_file_commit(&file);
}
