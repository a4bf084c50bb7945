/* Fuzz target: a recipe, as YAML and as the JSON that checkpoints hold. What is accepted is written and must
 * be accepted again. */
#include "train/recipe.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_and_read_again(const struct recipe *recipe)
{
    struct recipe again;
    char *text = recipe_to_text(recipe);
    if (text != NULL && recipe_from_text(&again, text, "again") != VOCO_OK) {
        abort();
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct recipe recipe;
    if (recipe_parse_yaml(&recipe, (const char *)data, size, "fuzz") == VOCO_OK) {
        write_and_read_again(&recipe);
    }
    char *text = malloc(size + 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    if (recipe_from_text(&recipe, text, "fuzz") == VOCO_OK) {
        write_and_read_again(&recipe);
    }
    free(text);
    return 0;
}
