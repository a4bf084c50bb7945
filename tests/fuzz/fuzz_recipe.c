/* Fuzz target: a recipe, as YAML and as the JSON that checkpoints hold. What is accepted is written and must
 * be accepted again. */
#include "fuzz_target.h"
#include "train/recipe.h"

#include <string.h>

static void check(enum voco_status status, const struct recipe *recipe)
{
    if (status == VOCO_OK) {
        struct recipe again;
        char *text = recipe_to_text(recipe);
        require(text == NULL || recipe_from_text(&again, text, "again") == VOCO_OK);
        free(text);
    } else {
        require(strncmp(voco_error_message(), "input", 5) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct recipe recipe;
    check(recipe_parse_yaml(&recipe, (const char *)data, size, "input"), &recipe);
    char *text = malloc(size + 1);
    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    check(recipe_from_text(&recipe, text, "input"), &recipe);
    free(text);
    return 0;
}
