#include "train/recipe.h"

#include "base/error.h"
#include "train/recipe_settings.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Numbers as numbers; words, and memory as in "2G", as strings. */
static json_t *element_to_json(const struct recipe *recipe, const struct recipe_setting *setting, int index)
{
    char text[setting_text_size];
    recipe_setting_format(text, recipe, setting, index);
    switch (setting->kind) {
    case SETTING_INT:
    case SETTING_LONG:
        return json_integer(strtoll(text, NULL, 10));
    case SETTING_REAL:
    case SETTING_FLOAT:
        return json_real(strtod(text, NULL));
    case SETTING_BYTES:
    case SETTING_CHOICE:
    case SETTING_WORD:
        break;
    }
    return json_string(text);
}

static json_t *setting_to_json(const struct recipe *recipe, const struct recipe_setting *setting)
{
    if (setting->count == 1) {
        return element_to_json(recipe, setting, 0);
    }
    json_t *list = json_array();
    for (int i = 0; i < setting->count; i++) {
        if (json_array_append_new(list, element_to_json(recipe, setting, i)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *recipe_to_json(const struct recipe *recipe)
{
    json_t *root = json_object();
    for (int i = 0; i < recipe_setting_count; i++) {
        const struct recipe_setting *setting = &recipe_settings[i];
        json_t *section = json_object_get(root, setting->section);
        int failed = 0;
        if (section == NULL) {
            section = json_object();
            failed = json_object_set_new(root, setting->section, section) != 0;
        }
        if (failed || json_object_set_new(section, setting->name, setting_to_json(recipe, setting)) != 0) {
            json_decref(root);
            return NULL;
        }
    }
    return root;
}

char *recipe_to_text(const struct recipe *recipe)
{
    json_t *root = recipe_to_json(recipe);
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

static enum voco_status element_from_json(struct recipe *recipe, const struct recipe_setting *setting,
                                          int index, const json_t *value, const char *name)
{
    char reason[setting_reason_size];
    char text[setting_text_size] = "";
    if (json_is_integer(value)) {
        (void)snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        (void)snprintf(text, sizeof text, "%.17g", json_real_value(value));
    } else if (json_is_string(value)) {
        (void)snprintf(text, sizeof text, "%s", json_string_value(value));
    }
    if (!recipe_setting_assign(recipe, setting, index, text, reason)) {
        return fail(VOCO_BAD_INPUT, "%s: %s", name, reason);
    }
    return VOCO_OK;
}

static enum voco_status setting_from_json(struct recipe *recipe, const struct recipe_setting *setting,
                                          const json_t *value, const char *name)
{
    if (setting->count == 1) {
        return element_from_json(recipe, setting, 0, value, name);
    }
    if (json_array_size(value) != (size_t)setting->count) {
        return fail(VOCO_BAD_INPUT, "%s: %s.%s: a list of %d values is expected", name, setting->section,
                    setting->name, setting->count);
    }
    enum voco_status status = VOCO_OK;
    for (int i = 0; status == VOCO_OK && i < setting->count; i++) {
        status = element_from_json(recipe, setting, i, json_array_get(value, (size_t)i), name);
    }
    return status;
}

static enum voco_status section_from_json(struct recipe *recipe, const char *section, json_t *settings,
                                          const char *name)
{
    char reason[setting_reason_size];
    if (!recipe_section_known(section, reason)) {
        return fail(VOCO_BAD_INPUT, "%s: %s", name, reason);
    }
    if (!json_is_object(settings)) {
        return fail(VOCO_BAD_INPUT, "%s: the section \"%s\" has no settings below it", name, section);
    }
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(settings, key, value)
    {
        const struct recipe_setting *setting = recipe_setting_find(section, key, reason);
        const enum voco_status status = setting == NULL ? fail(VOCO_BAD_INPUT, "%s: %s", name, reason)
                                                        : setting_from_json(recipe, setting, value, name);
        if (status != VOCO_OK) {
            return status;
        }
    }
    return VOCO_OK;
}

enum voco_status recipe_from_json(struct recipe *recipe, const json_t *json, const char *name)
{
    recipe_default(recipe);
    if (!json_is_object(json)) {
        return fail(VOCO_BAD_INPUT, "%s: the recipe is not an object", name);
    }
    const char *section = NULL;
    json_t *settings = NULL;
    json_object_foreach((json_t *)json, section, settings)
    {
        const enum voco_status status = section_from_json(recipe, section, settings, name);
        if (status != VOCO_OK) {
            return status;
        }
    }
    const enum voco_status status = recipe_check(recipe);
    return status == VOCO_OK ? status : add_context(status, "%s", name);
}

enum voco_status recipe_from_text(struct recipe *recipe, const char *text, const char *name)
{
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        recipe_default(recipe);
        return fail(VOCO_BAD_INPUT, "%s: the recipe is not JSON: %s", name, error.text);
    }
    const enum voco_status status = recipe_from_json(recipe, root, name);
    json_decref(root);
    return status;
}
