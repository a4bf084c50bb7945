#include "train/recipe.h"

#include "base/error.h"
#include "formats/yaml_reader.h"
#include "train/recipe_settings.h"

#include <stdlib.h>
#include <string.h>

/* The text of a scalar without a zero byte inside; NULL where the event is something else. */
static const char *scalar_text(const struct yaml_reader *reader)
{
    if (reader->event.type != YAML_SCALAR_EVENT) {
        return NULL;
    }
    const char *text = (const char *)reader->event.data.scalar.value;
    return strlen(text) == reader->event.data.scalar.length ? text : NULL;
}

static enum voco_status read_element(struct yaml_reader *reader, struct recipe *recipe,
                                     const struct recipe_setting *setting, int index)
{
    char reason[setting_reason_size];
    const char *text = scalar_text(reader);
    if (text == NULL) {
        return fail(VOCO_BAD_INPUT, "%s:%zu: %s.%s: %s is expected", reader->name, yaml_reader_line(reader),
                    setting->section, setting->name, setting->count == 1 ? "one value" : "a list of values");
    }
    return recipe_setting_assign(recipe, setting, index, text, reason) ? VOCO_OK
                                                                       : yaml_reader_refuse(reader, reason);
}

/* A value, or [a, b, c] where the setting has several. */
static enum voco_status read_value(struct yaml_reader *reader, struct recipe *recipe,
                                   const struct recipe_setting *setting)
{
    enum voco_status status = yaml_reader_next(reader);
    if (status != VOCO_OK || setting->count == 1) {
        return status != VOCO_OK ? status : read_element(reader, recipe, setting, 0);
    }
    int count = 0;
    if (reader->event.type == YAML_SEQUENCE_START_EVENT) {
        status = yaml_reader_next(reader);
        while (status == VOCO_OK && reader->event.type != YAML_SEQUENCE_END_EVENT && count < setting->count) {
            status = read_element(reader, recipe, setting, count++);
            if (status == VOCO_OK) {
                status = yaml_reader_next(reader);
            }
        }
    }
    if (status == VOCO_OK && (reader->event.type != YAML_SEQUENCE_END_EVENT || count != setting->count)) {
        status = fail(VOCO_BAD_INPUT, "%s:%zu: %s.%s: a list of %d values is expected", reader->name,
                      yaml_reader_line(reader), setting->section, setting->name, setting->count);
    }
    return status;
}

/* seen (recipe_setting_count): which settings the file has given so far */
static enum voco_status read_setting(struct yaml_reader *reader, struct recipe *recipe, unsigned char *seen,
                                     const char *section)
{
    char reason[setting_reason_size];
    const char *name = scalar_text(reader);
    if (name == NULL) {
        return yaml_reader_refuse(reader, "the name of a setting is expected");
    }
    const struct recipe_setting *setting = recipe_setting_find(section, name, reason);
    if (setting == NULL) {
        return yaml_reader_refuse(reader, reason);
    }
    unsigned char *given = &seen[setting - recipe_settings];
    if (*given) {
        return fail(VOCO_BAD_INPUT, "%s:%zu: %s.%s is set twice", reader->name, yaml_reader_line(reader),
                    section, name);
    }
    *given = 1;
    return read_value(reader, recipe, setting);
}

static enum voco_status read_section(struct yaml_reader *reader, struct recipe *recipe, unsigned char *seen)
{
    char reason[setting_reason_size];
    char section[setting_text_size];
    const char *name = scalar_text(reader);
    if (name == NULL) {
        return yaml_reader_refuse(reader, "the name of a section is expected");
    }
    if (!recipe_section_known(name, reason)) {
        return yaml_reader_refuse(reader, reason);
    }
    (void)snprintf(section, sizeof section, "%s", name);
    enum voco_status status = yaml_reader_next(reader);
    if (status == VOCO_OK && reader->event.type != YAML_MAPPING_START_EVENT) {
        return fail(VOCO_BAD_INPUT, "%s:%zu: the section \"%s\" has no settings below it", reader->name,
                    yaml_reader_line(reader), section);
    }
    while (status == VOCO_OK && (status = yaml_reader_next(reader)) == VOCO_OK &&
           reader->event.type != YAML_MAPPING_END_EVENT) {
        status = read_setting(reader, recipe, seen, section);
    }
    return status;
}

static enum voco_status read_document(struct yaml_reader *reader, struct recipe *recipe, unsigned char *seen)
{
    enum voco_status status =
        yaml_reader_begin(reader, "not a recipe: sections such as \"model:\" are expected");
    while (status == VOCO_OK && (status = yaml_reader_next(reader)) == VOCO_OK &&
           reader->event.type != YAML_MAPPING_END_EVENT) {
        status = read_section(reader, recipe, seen);
    }
    return status == VOCO_OK ? yaml_reader_end(reader, "a recipe has one document") : status;
}

enum voco_status recipe_parse_yaml(struct recipe *recipe, const char *text, size_t length, const char *name)
{
    recipe_default(recipe);
    struct yaml_reader reader;
    unsigned char *seen = calloc((size_t)recipe_setting_count, 1);
    if (seen == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", name);
    }
    enum voco_status status = yaml_reader_open(&reader, text, length, name);
    if (status == VOCO_OK) {
        status = read_document(&reader, recipe, seen);
    }
    yaml_reader_close(&reader);
    free(seen);
    if (status == VOCO_OK) {
        status = recipe_check(recipe);
        if (status != VOCO_OK) {
            status = add_context(status, "%s", name);
        }
    }
    return status;
}

static void write_setting(FILE *stream, const struct recipe *recipe, const struct recipe_setting *setting)
{
    char value[setting_text_size];
    char line[4 * setting_text_size + 64];
    int used = snprintf(line, sizeof line, "  %s: %s", setting->name, setting->count > 1 ? "[" : "");
    for (int i = 0; i < setting->count; i++) {
        recipe_setting_format(value, recipe, setting, i);
        used += snprintf(line + used, sizeof line - (size_t)used, "%s%s", i == 0 ? "" : ", ", value);
    }
    (void)fprintf(stream, "%s%-*s # %s\n", line, used < 28 ? 28 - used : 0, setting->count > 1 ? "]" : "",
                  setting->help);
}

enum voco_status recipe_write_yaml(FILE *stream, const struct recipe *recipe)
{
    const char *section = "";
    for (int i = 0; i < recipe_setting_count; i++) {
        if (strcmp(section, recipe_settings[i].section) != 0) {
            section = recipe_settings[i].section;
            (void)fprintf(stream, "%s%s:\n", i == 0 ? "" : "\n", section);
        }
        write_setting(stream, recipe, &recipe_settings[i]);
    }
    return ferror(stream) ? fail(VOCO_IO, "cannot write the recipe") : VOCO_OK;
}
