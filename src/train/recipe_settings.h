/* The table of a recipe's settings: what YAML, JSON, checks and explanations have in common. Private to
 * src/train/recipe*.c. */
#ifndef TRAIN_RECIPE_SETTINGS_H
#define TRAIN_RECIPE_SETTINGS_H

#include "train/recipe.h"

#include <stddef.h>

enum setting_kind {
    SETTING_INT,    /* int */
    SETTING_LONG,   /* 64-bit integer, signed or not, of values below 2^63 */
    SETTING_REAL,   /* double */
    SETTING_FLOAT,  /* float */
    SETTING_BYTES,  /* uint64_t; written "2G" */
    SETTING_CHOICE, /* an enum whose values are the indices of `choices` */
    SETTING_WORD,   /* char[16] or longer: one of `choices` */
};

struct recipe_setting {
    const char *section;
    const char *name;
    enum setting_kind kind;
    int count;                  /* 1, or the elements of an array */
    size_t offset;              /* in struct recipe */
    double least, most;         /* of numbers */
    const char *const *choices; /* ends with NULL */
    const char *help;           /* a line */
};

/* Settings of one section stand together, sections in the order in which they are written. */
extern const struct recipe_setting recipe_settings[];
extern const int recipe_setting_count;

enum { setting_text_size = 64, setting_reason_size = 256 };

/* The setting; NULL where there is none, and then `reason` says so and what may have been meant. `section`
 * must be known, which recipe_section_known says. */
const struct recipe_setting *recipe_setting_find(const char *section, const char *name,
                                                 char reason[setting_reason_size]);
int recipe_section_known(const char *section, char reason[setting_reason_size]);

/* Sets element `index` from text: 1, or 0 with the reason, which begins "section.name: ". */
int recipe_setting_assign(struct recipe *recipe, const struct recipe_setting *setting, int index,
                          const char *text, char reason[setting_reason_size]);

/* The shortest text that assigns the same value again. */
void recipe_setting_format(char text[setting_text_size], const struct recipe *recipe,
                           const struct recipe_setting *setting, int index);

#endif
