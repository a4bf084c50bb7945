/* The files of recipes/, which the build puts into the program (cmake/EmbedRecipes.cmake). Private to
 * src/train. */
#ifndef TRAIN_BUILTIN_RECIPES_H
#define TRAIN_BUILTIN_RECIPES_H

struct builtin_recipe {
    const char *name;
    const char *yaml;
};

/* Ends with a NULL name. */
extern const struct builtin_recipe builtin_recipes[];

#endif
