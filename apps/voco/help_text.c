/* Help on the terminal, and what all forms of help know of an option. */
#include "help_forms.h"

#include <ctype.h>
#include <string.h>

static int stands_for_value(const char *text, int length)
{
    for (int i = 0; i < length; i++) {
        if (islower((unsigned char)text[i]) && text[i] != 'x') { /* XxYxZ */
            return 0;
        }
    }
    return length > 0 && isupper((unsigned char)text[0]);
}

static int stands_for_path(const char *text, int length)
{
    static const char *const words[] = {"FILE", "DIR", "RUN", "CKPT"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if ((size_t)length == strlen(words[i]) && strncmp(text, words[i], (size_t)length) == 0) {
            return 1;
        }
    }
    return 0;
}

int next_alternative(struct argument_alternative *alternative, const char **place)
{
    if (*place == NULL) {
        return 0;
    }
    const char *end = strchr(*place, '|');
    alternative->text = *place;
    alternative->length = (int)(end != NULL ? end - *place : (ptrdiff_t)strlen(*place));
    alternative->is_value = !stands_for_value(alternative->text, alternative->length);
    alternative->is_path = stands_for_path(alternative->text, alternative->length);
    *place = end != NULL ? end + 1 : NULL;
    return 1;
}

void format_default(char *text, size_t size, const struct option_description *option)
{
    text[0] = '\0';
    switch (option->kind) {
    case OPTION_INT:
        if (*(const int *)option->target > 0) {
            (void)snprintf(text, size, "%d", *(const int *)option->target);
        }
        break;
    case OPTION_LONG:
        if (*(const long long *)option->target > 0) {
            (void)snprintf(text, size, "%lld", *(const long long *)option->target);
        }
        break;
    case OPTION_REAL:
        if (*(const double *)option->target > 0.0) {
            (void)snprintf(text, size, "%g", *(const double *)option->target);
        }
        break;
    case OPTION_TEXT:
        if (*(const char *const *)option->target != NULL) {
            (void)snprintf(text, size, "%s", *(const char *const *)option->target);
        }
        break;
    case OPTION_BYTES: /* defaults depend on the machine, and stand in the help text */
    case OPTION_FLAG:
        break;
    }
}

const char first_commands[] = "  voco phantom phantoms --count 40\n"
                              "  voco pretrain phantoms --recipe tiny --out run\n"
                              "  voco eval run phantoms\n";

enum { option_column = 26 };

static void print_option(FILE *out, const struct option_description *option)
{
    char left[128];
    char value[128];
    const int width =
        snprintf(left, sizeof left, "--%s%s%s", option->name, option->argument != NULL ? " " : "",
                 option->argument != NULL ? option->argument : "");
    format_default(value, sizeof value, option);
    (void)fprintf(out, "  %-*s", option_column - 2, left);
    if (width > option_column - 2) {
        (void)fprintf(out, "\n%*s", option_column, "");
    }
    (void)fprintf(out, " %s", option->help);
    if (value[0] != '\0') {
        (void)fprintf(out, " [%s]", value);
    }
    (void)fputc('\n', out);
}

void print_help(FILE *out, const struct verb *verb, const struct option_description *options)
{
    (void)fprintf(out, "voco %s: %s\n\nUsage: voco %s %s\n", verb->name, verb->summary, verb->name,
                  verb->arguments);
    if (verb->details != NULL) {
        (void)fprintf(out, "\n%s", verb->details);
    }
    (void)fprintf(out, "\nOptions (defaults in brackets):\n");
    for (const struct option_description *option = options; option->name != NULL; option++) {
        print_option(out, option);
    }
    (void)fprintf(out, "  %-*s %s\n\nExamples:\n%s", option_column - 2, "--help", "this text",
                  verb->examples);
}

void print_overview(FILE *out, const struct verb *const *verbs, int count)
{
    (void)fprintf(out, "voco " VOCO_VERSION
                       ": self-supervised pre-training (Volume Contrast) for 3D medical images\n\n"
                       "Usage: voco VERB ... [options]\n\nVerbs:\n");
    for (int i = 0; i < count; i++) {
        (void)fprintf(out, "  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    }
    (void)fprintf(out,
                  "\nvoco VERB --help tells more. To begin without data of your own:\n"
                  "%s",
                  first_commands);
}
