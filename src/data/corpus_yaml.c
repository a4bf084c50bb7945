#include "data/corpus.h"

#include "base/error.h"
#include "base/word_distance.h"
#include "data/dataset_entries.h"
#include "data/dataset_list.h"
#include "formats/yaml_reader.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum set_key {
    KEY_NAME,
    KEY_ROOT,
    KEY_LIST,
    KEY_USE,
    KEY_PRESET,
    KEY_SPACING,
    KEY_WINDOW,
    KEY_TAKE,
    KEY_REPEAT,
    KEY_SPLIT,
    KEY_COUNT,
};

static const char *const set_keys[] = {"name",   "root", "list",   "use",   "preset", "spacing",
                                       "window", "take", "repeat", "split", NULL};
static const char *const corpus_keys[] = {"root", "sets", NULL};
static const char *const take_names[] = {"crop", "resize", NULL}; /* enum window_kind */

static const double least_spacing = 0.01, most_spacing = 100.0; /* mm */
static const double most_intensity = 100000.0;
static const long most_repeats = 1000;

/* A set as it is written; what its keys mean together is settled when all are known. */
struct written_set {
    struct corpus_set set;
    size_t lines[KEY_COUNT]; /* where each key stands; 0: not there */
    size_t line;
    struct preset named;
    double spacing[3];
    double window[2];
    int take;
};

static enum voco_status refuse_key(const struct yaml_reader *reader, const char *key, const char *reason)
{
    return fail(VOCO_BAD_INPUT, "%s:%zu: %s: %s", reader->name, yaml_reader_line(reader), key, reason);
}

/* The text of a scalar: not empty, not too long, without control characters; else NULL. */
static const char *scalar_text(const struct yaml_reader *reader)
{
    if (reader->event.type != YAML_SCALAR_EVENT || reader->event.data.scalar.length == 0 ||
        reader->event.data.scalar.length > (size_t)corpus_longest_text) {
        return NULL;
    }
    const char *text = (const char *)reader->event.data.scalar.value;
    for (size_t i = 0; i < reader->event.data.scalar.length; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return NULL;
        }
    }
    return text;
}

static int index_of(const char *text, const char *const *names)
{
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

/* "crop, resize" */
static void join(char *text, size_t size, const char *const *names)
{
    size_t used = 0;
    for (int i = 0; names[i] != NULL && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
}

static enum voco_status unknown_key(const struct yaml_reader *reader, const char *typed, const char *where,
                                    const char *const *keys)
{
    int distance = 1 + (int)strnlen(typed, 31) / 3;
    const char *nearest = NULL;
    for (int i = 0; keys[i] != NULL; i++) {
        const int d = word_distance(typed, keys[i]);
        if (d <= distance && (nearest == NULL || d < distance)) {
            nearest = keys[i];
            distance = d;
        }
    }
    if (nearest != NULL) {
        return fail(VOCO_BAD_INPUT, "%s:%zu: %s has no key \"%.64s\", did you mean \"%s\"?", reader->name,
                    yaml_reader_line(reader), where, typed, nearest);
    }
    char all[128] = "";
    join(all, sizeof all, keys);
    return fail(VOCO_BAD_INPUT, "%s:%zu: %s has no key \"%.64s\": there are %s", reader->name,
                yaml_reader_line(reader), where, typed, all);
}

/* ---- values ---- */

static enum voco_status copy_text(const struct yaml_reader *reader, char **out, const char *key)
{
    const char *text = scalar_text(reader);
    if (text == NULL) {
        return refuse_key(reader, key, "one line of text is expected");
    }
    *out = strdup(text);
    return *out != NULL ? VOCO_OK : yaml_reader_no_memory(reader);
}

static enum voco_status read_text(struct yaml_reader *reader, char **out, const char *key)
{
    const enum voco_status status = yaml_reader_next(reader);
    return status == VOCO_OK ? copy_text(reader, out, key) : status;
}

static enum voco_status read_choice(struct yaml_reader *reader, int *out, const char *key,
                                    const char *const *names)
{
    const char *text = scalar_text(reader);
    *out = text != NULL ? index_of(text, names) : -1;
    if (*out >= 0) {
        return VOCO_OK;
    }
    char all[128] = "";
    join(all, sizeof all, names);
    return fail(VOCO_BAD_INPUT, "%s:%zu: %s: one of %s is expected", reader->name, yaml_reader_line(reader),
                key, all);
}

static enum voco_status read_number(struct yaml_reader *reader, double *out, const char *key, double least,
                                    double most)
{
    const char *text = scalar_text(reader);
    char *end = NULL;
    *out = text != NULL ? strtod(text, &end) : NAN;
    if (text != NULL && end != text && *end == '\0' && *out >= least && *out <= most) {
        return VOCO_OK;
    }
    return fail(VOCO_BAD_INPUT, "%s:%zu: %s: a number from %g to %g is expected", reader->name,
                yaml_reader_line(reader), key, least, most);
}

/* [a, b, ...] with exactly `count` numbers. */
static enum voco_status read_numbers(struct yaml_reader *reader, double *out, int count, const char *key,
                                     double least, double most)
{
    enum voco_status status = yaml_reader_next(reader);
    int read = 0;
    if (status == VOCO_OK && reader->event.type == YAML_SEQUENCE_START_EVENT) {
        status = yaml_reader_next(reader);
        while (status == VOCO_OK && reader->event.type != YAML_SEQUENCE_END_EVENT && read < count) {
            status = read_number(reader, &out[read++], key, least, most);
            if (status == VOCO_OK) {
                status = yaml_reader_next(reader);
            }
        }
    }
    if (status == VOCO_OK && (reader->event.type != YAML_SEQUENCE_END_EVENT || read != count)) {
        status = fail(VOCO_BAD_INPUT, "%s:%zu: %s: a list of %d numbers is expected", reader->name,
                      yaml_reader_line(reader), key, count);
    }
    return status;
}

static enum voco_status add_list(struct yaml_reader *reader, struct corpus_set *set)
{
    if (set->list_count == corpus_most_lists) {
        return refuse_key(reader, "list", "too many");
    }
    char **grown = reallocarray(set->lists, (size_t)set->list_count + 1, sizeof *grown);
    if (grown == NULL) {
        return yaml_reader_no_memory(reader);
    }
    set->lists = grown;
    const enum voco_status status = copy_text(reader, &set->lists[set->list_count], "list");
    set->list_count += status == VOCO_OK;
    return status;
}

static enum voco_status add_part(struct yaml_reader *reader, struct corpus_set *set)
{
    int part = 0;
    const enum voco_status status = read_choice(reader, &part, "use", dataset_split_names);
    if (status == VOCO_OK && part >= 0) {
        set->use |= 1U << part;
    }
    return status;
}

/* One value or a list of them, each handed to `add`. */
static enum voco_status read_one_or_more(struct yaml_reader *reader, struct corpus_set *set, const char *key,
                                         enum voco_status (*add)(struct yaml_reader *, struct corpus_set *))
{
    enum voco_status status = yaml_reader_next(reader);
    if (status != VOCO_OK || reader->event.type != YAML_SEQUENCE_START_EVENT) {
        return status == VOCO_OK ? add(reader, set) : status;
    }
    int count = 0;
    while ((status = yaml_reader_next(reader)) == VOCO_OK && reader->event.type != YAML_SEQUENCE_END_EVENT) {
        status = add(reader, set);
        if (status != VOCO_OK) {
            return status;
        }
        count++;
    }
    return status == VOCO_OK && count == 0 ? refuse_key(reader, key, "an empty list") : status;
}

/* ---- a set ---- */

static enum voco_status read_name(struct yaml_reader *reader, struct corpus_set *set)
{
    const enum voco_status status = read_text(reader, &set->name, "name");
    if (status == VOCO_OK &&
        (strchr(set->name, '/') != NULL || set->name[0] == '.' || strlen(set->name) > 64)) {
        return refuse_key(reader, "name",
                          "up to 64 characters are expected, without '/' and not beginning with '.'");
    }
    return status;
}

static enum voco_status read_preset(struct yaml_reader *reader, struct preset *preset)
{
    enum voco_status status = yaml_reader_next(reader);
    const char *text = status == VOCO_OK ? scalar_text(reader) : NULL;
    if (status == VOCO_OK && text == NULL) {
        return refuse_key(reader, "preset", "the name of a preset is expected");
    }
    if (status == VOCO_OK && preset_from_name(preset, text) != VOCO_OK) {
        status = add_context(VOCO_BAD_INPUT, "%s:%zu: preset", reader->name, yaml_reader_line(reader));
    }
    return status;
}

static enum voco_status read_repeat(struct yaml_reader *reader, int *repeat)
{
    const enum voco_status status = yaml_reader_next(reader);
    const char *text = status == VOCO_OK ? scalar_text(reader) : NULL;
    char *end = NULL;
    const long value = text != NULL ? strtol(text, &end, 10) : 0;
    if (status == VOCO_OK && (text == NULL || *end != '\0' || value < 1 || value > most_repeats)) {
        return fail(VOCO_BAD_INPUT, "%s:%zu: repeat: a whole number from 1 to %ld is expected", reader->name,
                    yaml_reader_line(reader), most_repeats);
    }
    *repeat = (int)value;
    return status;
}

static enum voco_status read_word(struct yaml_reader *reader, int *out, const char *key,
                                  const char *const *names)
{
    const enum voco_status status = yaml_reader_next(reader);
    return status == VOCO_OK ? read_choice(reader, out, key, names) : status;
}

static enum voco_status read_value(struct yaml_reader *reader, struct written_set *written, enum set_key key)
{
    struct corpus_set *set = &written->set;
    enum voco_status status = VOCO_OK;
    int choice = 0;
    switch (key) {
    case KEY_NAME:
        return read_name(reader, set);
    case KEY_ROOT:
        return read_text(reader, &set->root, "root");
    case KEY_LIST:
        return read_one_or_more(reader, set, "list", add_list);
    case KEY_USE:
        return read_one_or_more(reader, set, "use", add_part);
    case KEY_PRESET:
        return read_preset(reader, &written->named);
    case KEY_SPACING:
        return read_numbers(reader, written->spacing, 3, "spacing", least_spacing, most_spacing);
    case KEY_WINDOW:
        status = read_numbers(reader, written->window, 2, "window", -most_intensity, most_intensity);
        return status == VOCO_OK && !(written->window[0] < written->window[1])
                   ? refuse_key(reader, "window", "[low, high] with low below high is expected")
                   : status;
    case KEY_TAKE:
        return read_word(reader, &written->take, "take", take_names);
    case KEY_REPEAT:
        return read_repeat(reader, &set->repeat);
    case KEY_SPLIT:
        status = read_word(reader, &choice, "split", dataset_split_names);
        set->split = (enum dataset_split)choice;
        set->has_split = 1;
        return status;
    case KEY_COUNT:
        break;
    }
    return status;
}

static enum voco_status read_set_key(struct yaml_reader *reader, struct written_set *written)
{
    const char *text = scalar_text(reader);
    if (text == NULL) {
        return yaml_reader_refuse(reader, "the name of a key is expected");
    }
    const int key = index_of(text, set_keys);
    if (key < 0) {
        return unknown_key(reader, text, "a set", set_keys);
    }
    if (written->lines[key] != 0) {
        return refuse_key(reader, set_keys[key], "is given twice");
    }
    written->lines[key] = yaml_reader_line(reader);
    return read_value(reader, written, (enum set_key)key);
}

/* The preset of the set, from what is given of it. */
static enum voco_status settle_preset(const struct yaml_reader *reader, struct written_set *written)
{
    static const struct preset own = {.name = "own", .intensity = INTENSITY_WINDOW, .window = WINDOW_CROP};
    struct corpus_set *set = &written->set;
    const size_t *lines = written->lines;
    if (lines[KEY_PRESET] == 0 && lines[KEY_SPACING] == 0 && lines[KEY_WINDOW] == 0 && lines[KEY_TAKE] == 0) {
        return VOCO_OK;
    }
    if (lines[KEY_PRESET] == 0 && (lines[KEY_SPACING] == 0 || lines[KEY_WINDOW] == 0)) {
        return fail(VOCO_BAD_INPUT, "%s:%zu: %s: give a preset, or spacing and window", reader->name,
                    written->line, set->name);
    }
    set->has_preset = 1;
    set->preset = lines[KEY_PRESET] != 0 ? written->named : own;
    if (lines[KEY_SPACING] != 0) {
        memcpy(set->preset.spacing, written->spacing, sizeof written->spacing);
    }
    if (lines[KEY_WINDOW] != 0) {
        set->preset.intensity = INTENSITY_WINDOW;
        set->preset.low = written->window[0];
        set->preset.high = written->window[1];
    }
    if (lines[KEY_TAKE] != 0) {
        set->preset.window = (enum window_kind)written->take;
    }
    return VOCO_OK;
}

static enum voco_status settle_set(const struct yaml_reader *reader, struct written_set *written,
                                   const struct corpus *corpus)
{
    struct corpus_set *set = &written->set;
    if (set->name == NULL) {
        return fail(VOCO_BAD_INPUT, "%s:%zu: this set has no name", reader->name, written->line);
    }
    for (int i = 0; i < corpus->set_count; i++) {
        if (strcmp(set->name, corpus->sets[i].name) == 0) {
            return fail(VOCO_BAD_INPUT, "%s:%zu: a second set of the name \"%s\"", reader->name,
                        written->lines[KEY_NAME], set->name);
        }
    }
    if (set->root == NULL) {
        set->root = strdup(set->name);
        if (set->root == NULL) {
            (void)yaml_reader_no_memory(reader);
            return VOCO_NO_MEMORY;
        }
    }
    set->use = written->lines[KEY_USE] != 0 ? set->use : USE_ALL_PARTS;
    return settle_preset(reader, written);
}

static void free_set(struct corpus_set *set)
{
    for (int i = 0; i < set->list_count; i++) {
        free(set->lists[i]);
    }
    free(set->lists);
    free(set->name);
    free(set->root);
}

static enum voco_status add_set(struct yaml_reader *reader, struct corpus *corpus)
{
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        return yaml_reader_refuse(reader, "a set is expected: keys such as \"name:\" and \"root:\"");
    }
    if (corpus->set_count == corpus_most_sets) {
        return yaml_reader_refuse(reader, "too many sets");
    }
    struct written_set written = {.set.repeat = 1, .line = yaml_reader_line(reader)};
    enum voco_status status = VOCO_OK;
    while (status == VOCO_OK && (status = yaml_reader_next(reader)) == VOCO_OK &&
           reader->event.type != YAML_MAPPING_END_EVENT) {
        status = read_set_key(reader, &written);
    }
    if (status == VOCO_OK) {
        status = settle_set(reader, &written, corpus);
    }
    struct corpus_set *grown =
        status == VOCO_OK ? reallocarray(corpus->sets, (size_t)corpus->set_count + 1, sizeof *corpus->sets)
                          : NULL;
    if (grown == NULL) {
        free_set(&written.set);
        return status == VOCO_OK ? yaml_reader_no_memory(reader) : status;
    }
    corpus->sets = grown;
    corpus->sets[corpus->set_count++] = written.set;
    return VOCO_OK;
}

static enum voco_status read_sets(struct yaml_reader *reader, struct corpus *corpus)
{
    enum voco_status status = yaml_reader_next(reader);
    if (status == VOCO_OK && reader->event.type != YAML_SEQUENCE_START_EVENT) {
        return refuse_key(reader, "sets", "a list of sets is expected: \"- name: ...\"");
    }
    while (status == VOCO_OK && (status = yaml_reader_next(reader)) == VOCO_OK &&
           reader->event.type != YAML_SEQUENCE_END_EVENT) {
        status = add_set(reader, corpus);
    }
    return status == VOCO_OK && corpus->set_count == 0 ? refuse_key(reader, "sets", "an empty list") : status;
}

/* ---- the document ---- */

static enum voco_status read_corpus_key(struct yaml_reader *reader, struct corpus *corpus, char **root)
{
    const char *text = scalar_text(reader);
    if (text == NULL) {
        return yaml_reader_refuse(reader, "the name of a key is expected");
    }
    const int key = index_of(text, corpus_keys);
    if (key < 0) {
        return unknown_key(reader, text, "a corpus", corpus_keys);
    }
    if (key == 0 ? *root != NULL : corpus->set_count > 0) {
        return refuse_key(reader, corpus_keys[key], "is given twice");
    }
    return key == 0 ? read_text(reader, root, "root") : read_sets(reader, corpus);
}

static enum voco_status read_document(struct yaml_reader *reader, struct corpus *corpus, char **root)
{
    enum voco_status status = yaml_reader_begin(reader, "not a corpus: \"sets:\" is expected");
    while (status == VOCO_OK && (status = yaml_reader_next(reader)) == VOCO_OK &&
           reader->event.type != YAML_MAPPING_END_EVENT) {
        status = read_corpus_key(reader, corpus, root);
    }
    if (status == VOCO_OK && corpus->set_count == 0) {
        status = fail(VOCO_BAD_INPUT, "%s: has no \"sets:\"", reader->name);
    }
    return status == VOCO_OK ? yaml_reader_end(reader, "a corpus has one document") : status;
}

/* Puts the folders before the roots of the sets. `root` may be NULL. */
static enum voco_status resolve_roots(const struct yaml_reader *reader, struct corpus *corpus,
                                      const char *root, const char *folder)
{
    char *top = root != NULL ? path_in_folder(folder, root) : strdup(folder);
    if (top == NULL) {
        return yaml_reader_no_memory(reader);
    }
    enum voco_status status = VOCO_OK;
    for (int i = 0; status == VOCO_OK && i < corpus->set_count; i++) {
        struct corpus_set *set = &corpus->sets[i];
        char *path = strcmp(set->root, ".") == 0 ? strdup(top) : path_in_folder(top, set->root);
        if (path == NULL) {
            status = yaml_reader_no_memory(reader);
            break;
        }
        free(set->root);
        set->root = path;
    }
    free(top);
    return status;
}

enum voco_status corpus_parse_yaml(struct corpus *corpus, const char *text, size_t length, const char *name,
                                   const char *folder)
{
    *corpus = (struct corpus){0};
    struct yaml_reader reader;
    char *root = NULL;
    enum voco_status status = yaml_reader_open(&reader, text, length, name);
    if (status == VOCO_OK) {
        status = read_document(&reader, corpus, &root);
    }
    if (status == VOCO_OK) {
        status = resolve_roots(&reader, corpus, root, folder);
    }
    free(root);
    yaml_reader_close(&reader);
    if (status != VOCO_OK) {
        corpus_free(corpus);
    }
    return status;
}

void corpus_free(struct corpus *corpus)
{
    for (int i = 0; i < corpus->set_count; i++) {
        free_set(&corpus->sets[i]);
    }
    free(corpus->sets);
    *corpus = (struct corpus){0};
}
