/* A YAML file of settings, event by event: one document, a mapping, in which no part stands for another
 * (anchors, aliases and tags are refused).
 *
 *     yaml_reader_open(&reader, text, length, name);
 *     yaml_reader_begin(&reader, "not a recipe: ...");
 *     yaml_reader_next(&reader);                   a key; up to YAML_MAPPING_END_EVENT
 *     yaml_reader_end(&reader, "a recipe has one document");
 *     yaml_reader_close(&reader);
 *
 * What fails says "NAME:LINE: ..." of the present event. */
#ifndef FORMATS_YAML_READER_H
#define FORMATS_YAML_READER_H

#include "voco/status.h"

#include <stddef.h>
#include <yaml.h>

struct yaml_reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the present one */
    const char *name;   /* of the file; borrowed, as the text is */
};

enum voco_status yaml_reader_open(struct yaml_reader *reader, const char *text, size_t length,
                                  const char *name);
void yaml_reader_close(struct yaml_reader *reader);

/* Goes to the next event. VOCO_BAD_INPUT where the text is no YAML, or one part of it stands for another. */
enum voco_status yaml_reader_next(struct yaml_reader *reader);

/* Goes to the beginning of the document's mapping. Where there is something else, that is what `otherwise`
 * says. */
enum voco_status yaml_reader_begin(struct yaml_reader *reader, const char *otherwise);

/* From the mapping's end to that of the file. Where there is something else, that is what `otherwise` says.
 */
enum voco_status yaml_reader_end(struct yaml_reader *reader, const char *otherwise);

/* Where the present event begins, from 1 on. */
size_t yaml_reader_line(const struct yaml_reader *reader);

/* VOCO_BAD_INPUT, for a reason that belongs to the present event. */
enum voco_status yaml_reader_refuse(const struct yaml_reader *reader, const char *reason);

/* VOCO_NO_MEMORY */
enum voco_status yaml_reader_no_memory(const struct yaml_reader *reader);

#endif
