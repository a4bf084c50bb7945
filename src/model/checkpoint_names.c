#include "model/checkpoint_names.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

const char *const moment_names[moment_count] = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};

/* What a name of the space lacks at its beginning. */
static const struct {
    const char *name;
    const char *lacks;
} spaces[] = {
    [NAMES_VOCO] = {"voco", ""},
    [NAMES_MONAI] = {"monai", "backbone."},
    [NAMES_SWIN] = {"swin", "backbone.swinViT."},
};
enum { space_count = sizeof spaces / sizeof spaces[0] };

static const struct {
    const char *old;
    const char *now;
} spellings[] = {
    {"swin_vit.", "swinViT."},
    {"mlp.fc1.", "mlp.linear1."},
    {"mlp.fc2.", "mlp.linear2."},
};

static const char buffer_ending[] = "relative_position_index";
static const char table_ending[] = "relative_position_bias_table";

const char *name_space_name(enum name_space space)
{
    return spaces[space].name;
}

enum voco_status name_space_from_name(enum name_space *space, const char *name)
{
    for (int i = NAMES_VOCO; i <= NAMES_MONAI; i++) {
        if (strcmp(name, spaces[i].name) == 0) {
            *space = (enum name_space)i;
            return VOCO_OK;
        }
    }
    return fail(VOCO_BAD_INPUT, "no names are called \"%s\" (there are: voco, monai)", name);
}

const char *name_in_space(const char *own, enum name_space space)
{
    const size_t length = strlen(spaces[space].lacks);
    return strncmp(own, spaces[space].lacks, length) == 0 ? own + length : NULL;
}

static const char *parameter_name(const void *entries, size_t place)
{
    return ((const struct parameter *)entries)[place].name;
}

enum voco_status name_index_create(struct name_index *index, const struct parameter_table *table)
{
    *index = (struct name_index){.table = table};
    return name_order_make(&index->order, table->entries, (size_t)table->count, parameter_name)
               ? VOCO_OK
               : fail(VOCO_NO_MEMORY, "no memory for the names of parameters");
}

void name_index_free(struct name_index *index)
{
    name_order_free(&index->order);
    *index = (struct name_index){0};
}

/* The place in the table, -1 where there is none of that name. */
static int find(const struct name_index *index, const char *own)
{
    size_t place;
    return name_order_find(&place, &index->order, own) ? (int)place : -1;
}

/* Puts `now` in the place of the first `old` in text; 0 where that does not fit. */
static int respell(char *text, size_t size, const char *old, const char *now)
{
    char *at = strstr(text, old);
    while (at != NULL && at != text && at[-1] != '.') {
        at = strstr(at + 1, old);
    }
    if (at == NULL) {
        return 1;
    }
    const size_t rest = strlen(at + strlen(old)) + 1;
    if ((size_t)(at - text) + strlen(now) + rest > size) {
        return 0;
    }
    memmove(at + strlen(now), at + strlen(old), rest);
    for (size_t i = 0; now[i] != '\0'; i++) {
        at[i] = now[i];
    }
    return 1;
}

/* The spelling of the table; 0 where the text is too long to be a name of the network. */
static int spell(char text[parameter_name_size], const char *stored, int *is_buffer)
{
    if (snprintf(text, parameter_name_size, "%s", stored) >= parameter_name_size) {
        return 0;
    }
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        if (!respell(text, parameter_name_size, spellings[i].old, spellings[i].now)) {
            return 0;
        }
    }
    *is_buffer = is_relative_position_index(text);
    if (*is_buffer) {
        const size_t stem = strlen(text) - strlen(buffer_ending);
        if (stem + sizeof table_ending > parameter_name_size) {
            return 0;
        }
        memcpy(text + stem, table_ending, sizeof table_ending);
    }
    return 1;
}

/* Whether `text` as a whole is a name of the network, in any space. */
static int recognise_whole(struct known_name *known, const struct name_index *index, const char *stored)
{
    char text[parameter_name_size];
    if (!spell(text, stored, &known->is_buffer)) {
        return 0;
    }
    for (int space = 0; space < space_count; space++) {
        char own[2 * parameter_name_size];
        (void)snprintf(own, sizeof own, "%s%s", spaces[space].lacks, text);
        known->parameter = find(index, own);
        if (known->parameter >= 0) {
            known->space = (enum name_space)space;
            return 1;
        }
    }
    return 0;
}

/* Takes "optimizer.exp_avg." from the end of what stands before the name. */
static void take_moment(struct known_name *known, const char *name)
{
    known->moment = -1;
    for (int moment = 0; moment < moment_count; moment++) {
        char words[64];
        const size_t length = (size_t)snprintf(words, sizeof words, "optimizer.%s.", moment_names[moment]);
        const size_t before = known->wrapper - (known->wrapper < length ? known->wrapper : length);
        if (known->wrapper >= length && strncmp(name + before, words, length) == 0 &&
            (before == 0 || name[before - 1] == '.')) {
            known->moment = moment;
            known->wrapper = before;
        }
    }
}

int recognise_name(struct known_name *known, const struct name_index *index, const char *name)
{
    const size_t length = strlen(name);
    /* The network's names are short: what is longer cannot end where the name does. */
    size_t begin = length > parameter_name_size ? length - parameter_name_size : 0;
    for (; begin < length; begin++) {
        if (begin > 0 && name[begin - 1] != '.') {
            continue;
        }
        if (recognise_whole(known, index, name + begin)) {
            known->wrapper = begin;
            take_moment(known, name);
            return 1;
        }
    }
    return 0;
}

int is_known_wrapper(const char *wrapper, size_t length)
{
    static const char *const words[] = {"state_dict",      "model_state_dict", "model",
                                        "network_weights", "network",          "net",
                                        "module",          "backbone",         "student"};
    for (size_t begin = 0; begin < length;) {
        const char *point = memchr(wrapper + begin, '.', length - begin);
        const size_t end = point == NULL ? length : (size_t)(point - wrapper);
        int known = 0;
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
            known |= strlen(words[i]) == end - begin && strncmp(wrapper + begin, words[i], end - begin) == 0;
        }
        if (!known) {
            return 0;
        }
        begin = end + 1;
    }
    return 1;
}
