#include "formats/yaml_reader.h"

#include "base/error.h"

enum voco_status yaml_reader_open(struct yaml_reader *reader, const char *text, size_t length,
                                  const char *name)
{
    *reader = (struct yaml_reader){.name = name};
    if (!yaml_parser_initialize(&reader->parser)) {
        return yaml_reader_no_memory(reader);
    }
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, length);
    return VOCO_OK;
}

void yaml_reader_close(struct yaml_reader *reader)
{
    yaml_event_delete(&reader->event);
    yaml_parser_delete(&reader->parser);
}

/* What makes one part of the text stand for another, or for a type of its own. */
static int has_properties(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return 1;
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor != NULL || event->data.sequence_start.tag != NULL;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL;
    default:
        return 0;
    }
}

enum voco_status yaml_reader_next(struct yaml_reader *reader)
{
    yaml_event_delete(&reader->event);
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        if (reader->parser.error == YAML_MEMORY_ERROR) {
            return yaml_reader_no_memory(reader);
        }
        return fail(VOCO_BAD_INPUT, "%s:%zu: not YAML: %s", reader->name,
                    reader->parser.problem_mark.line + 1, reader->parser.problem);
    }
    return has_properties(&reader->event)
               ? yaml_reader_refuse(reader, "anchors, aliases and tags have no use here")
               : VOCO_OK;
}

enum voco_status yaml_reader_begin(struct yaml_reader *reader, const char *otherwise)
{
    enum voco_status status = yaml_reader_next(reader); /* the stream's start */
    if (status == VOCO_OK) {
        status = yaml_reader_next(reader);
    }
    if (status == VOCO_OK && reader->event.type == YAML_STREAM_END_EVENT) {
        return fail(VOCO_BAD_INPUT, "%s: is empty", reader->name);
    }
    if (status == VOCO_OK) {
        status = yaml_reader_next(reader);
    }
    return status == VOCO_OK && reader->event.type != YAML_MAPPING_START_EVENT
               ? yaml_reader_refuse(reader, otherwise)
               : status;
}

enum voco_status yaml_reader_end(struct yaml_reader *reader, const char *otherwise)
{
    enum voco_status status = yaml_reader_next(reader); /* the document's end */
    if (status == VOCO_OK) {
        status = yaml_reader_next(reader);
    }
    return status == VOCO_OK && reader->event.type != YAML_STREAM_END_EVENT
               ? yaml_reader_refuse(reader, otherwise)
               : status;
}

size_t yaml_reader_line(const struct yaml_reader *reader)
{
    return reader->event.start_mark.line + 1;
}

enum voco_status yaml_reader_refuse(const struct yaml_reader *reader, const char *reason)
{
    return fail(VOCO_BAD_INPUT, "%s:%zu: %s", reader->name, yaml_reader_line(reader), reason);
}

enum voco_status yaml_reader_no_memory(const struct yaml_reader *reader)
{
    return fail(VOCO_NO_MEMORY, "%s: out of memory", reader->name);
}
