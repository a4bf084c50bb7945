#include "json_report.h"

#include <string.h>

enum { label_width = 20 };

/* "feature_size" -> "feature size", filled up with spaces to `width` columns. */
static void show_label(FILE *out, const char *key, int indent, int width)
{
    int used = fprintf(out, "%*s", indent, "");
    for (const char *p = key; *p != '\0'; p++) {
        (void)fputc(*p == '_' ? ' ' : *p, out);
        used++;
    }
    (void)fprintf(out, "%*s", used < width ? width - used : 0, "");
}

static void show_scalar(FILE *out, const json_t *value)
{
    if (json_is_string(value)) {
        for (const char *p = json_string_value(value); *p != '\0'; p++) {
            (void)fputc((unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p, out);
        }
    } else if (json_is_integer(value)) {
        (void)fprintf(out, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        (void)fprintf(out, "%.6g", json_real_value(value));
    } else {
        (void)fputs(json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-", out);
    }
}

/* A scalar, or a list of scalars with spaces between. */
static void show_value(FILE *out, const json_t *value)
{
    if (!json_is_array(value)) {
        show_scalar(out, value);
        return;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        (void)fputs(i == 0 ? "" : " ", out);
        show_scalar(out, json_array_get(value, i));
    }
}

/* Columns that the first member of a row needs at most. */
static int first_column_width(const json_t *rows)
{
    size_t width = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        const json_t *first = json_object_iter_value(json_object_iter(row));
        width = json_string_length(first) > width ? json_string_length(first) : width;
    }
    return (int)(width < 120 ? width : 120);
}

/* "name  type  48 1 2" of an object, "1 0 0" of a list. */
static void show_row(FILE *out, const json_t *row, int first_width)
{
    if (json_is_array(row)) {
        show_value(out, row);
        return;
    }
    int first = 1;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)row, key, value)
    {
        (void)fputs(first ? "" : "  ", out);
        show_value(out, value);
        const int used = first ? (int)json_string_length(value) : first_width;
        (void)fprintf(out, "%*s", used < first_width ? first_width - used : 0, "");
        first = 0;
    }
}

static void show_rows(FILE *out, const json_t *rows, int indent)
{
    const int width = first_column_width(rows);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        (void)fprintf(out, "%*s", indent, "");
        show_row(out, json_array_get(rows, i), width);
        (void)fputc('\n', out);
    }
}

static void show_object(FILE *out, const json_t *object, int indent)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)object, key, value)
    {
        const json_t *first = json_array_get(value, 0);
        const int has_lines = json_is_object(value) || json_is_object(first) || json_is_array(first);
        show_label(out, key, indent, has_lines ? 0 : label_width);
        (void)fputc(has_lines ? '\n' : ' ', out);
        if (json_is_object(value)) {
            show_object(out, value, indent + 2);
        } else if (has_lines) {
            show_rows(out, value, indent + 2);
        } else {
            show_value(out, value);
            (void)fputc('\n', out);
        }
    }
}

void json_report_show(FILE *out, const json_t *report)
{
    show_object(out, report, 0);
}

void json_report_dump(FILE *out, const json_t *report)
{
    (void)json_dumpf(report, out, JSON_INDENT(2));
    (void)fputc('\n', out);
}
