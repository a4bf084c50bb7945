/* Reading the fields of metadata with every one checked, and closing an object with a checksum. Private to
 * this folder. */
#ifndef STORE_JSON_FIELDS_H
#define STORE_JSON_FIELDS_H

#include "voco/status.h"

#include <jansson.h>
#include <stddef.h>

/* The root object of a JSON file of at most 1 MiB, or of text; NULL after a failure, whose status is in
 * *status. `name` begins messages. json_decref it. */
json_t *json_object_read(enum voco_status *status, const char *path, const char *name);
json_t *json_object_parse(enum voco_status *status, const char *text, size_t length, const char *name);

/* Fields of an object; each returns 1, or 0 where the field is missing or is something else. Integers lie in
 * [least, most], numbers are finite. Arrays have exactly `count` elements. */
int json_field_integers(int *out, int count, const json_t *object, const char *key, int least, int most);
int json_field_integer(int *out, const json_t *object, const char *key, int least, int most);
int json_field_numbers(double *out, int count, const json_t *object, const char *key);
int json_field_number(double *out, const json_t *object, const char *key);

/* The text of a field, which must have fewer than `room` bytes; NULL where it is missing or is something
 * else. */
const char *json_field_text(const json_t *object, const char *key, size_t room);

json_t *json_integers(const int *values, int count);
json_t *json_numbers(const double *values, int count);

/* Puts "checksum" into `holder`, which is `object` or lies in it: the CRC-32C, as a number, of `object`
 * without that field, written compactly with sorted keys and 17 digits. json_checksum_matches: also 1 where
 * there is none. Return 0 for want of memory. */
int json_add_checksum(json_t *object, json_t *holder);
int json_checksum_matches(json_t *object, json_t *holder);

/* Writes the object indented, as PATH, in one go (base/atomic_file.h). */
enum voco_status json_object_write(const char *path, const json_t *object);

#endif
