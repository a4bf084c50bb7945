#include "command_line.h"
#include "help_forms.h"

#include "base/byte_size.h"
#include "base/error.h"
#include "base/word_distance.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage_error(const struct verb *verb, const char *what)
{
    (void)fprintf(stderr, "voco: %s: %s (see: voco %s --help)\n", verb->name, what, verb->name);
    return exit_usage;
}

int close_to(const char *typed, const char *meant)
{
    const int distance = word_distance(typed, meant);
    return distance <= 2 || (distance <= 3 && strlen(meant) > 8) ||
           (strlen(typed) >= 3 && strncmp(typed, meant, strlen(typed)) == 0);
}

/* "--help=man" and the like, for verbs; "--help" and "-h" for people. */
static int print_help_form(const struct verb *verb, const struct option_description *options,
                           const char *word)
{
    const char *form = strchr(word, '=');
    if (form == NULL) {
        print_help(stdout, verb, options);
    } else if (strcmp(form + 1, "man") == 0) {
        print_manual_page(stdout, verb, options);
    } else if (strcmp(form + 1, "bash") == 0) {
        print_bash_branch(stdout, verb, options);
    } else if (strcmp(form + 1, "zsh") == 0) {
        print_zsh_branch(stdout, verb, options);
    } else {
        return usage_error(verb, "--help takes no value, or man, bash or zsh");
    }
    return exit_ok;
}

static const struct option_description *find_option(const struct option_description *options,
                                                    const char *name, size_t length)
{
    for (const struct option_description *option = options; option->name != NULL; option++) {
        if (strlen(option->name) == length && strncmp(option->name, name, length) == 0) {
            return option;
        }
    }
    return NULL;
}

static int unknown_option(const struct verb *verb, const struct option_description *options,
                          const char *typed)
{
    char what[256];
    const struct option_description *nearest = NULL;
    for (const struct option_description *option = options; option->name != NULL; option++) {
        if (close_to(typed, option->name) &&
            (nearest == NULL || word_distance(typed, option->name) < word_distance(typed, nearest->name))) {
            nearest = option;
        }
    }
    if (nearest != NULL) {
        snprintf(what, sizeof what, "unknown option --%s, did you mean --%s?", typed, nearest->name);
    } else {
        snprintf(what, sizeof what, "unknown option --%s", typed);
    }
    return usage_error(verb, what);
}

/* Returns NULL, or what is wrong with the value. */
static const char *set_option(const struct option_description *option, const char *value)
{
    static _Thread_local char what[256];
    const int bounded = option->least != 0.0 || option->most != 0.0;
    char *end = NULL;
    double number = 0.0;
    errno = 0;
    switch (option->kind) {
    case OPTION_FLAG:
        *(int *)option->target = 1;
        return NULL;
    case OPTION_TEXT:
        *(const char **)option->target = value;
        return NULL;
    case OPTION_INT:
    case OPTION_LONG: {
        const long long integer = strtoll(value, &end, 10);
        if (*value == '\0' || *end != '\0' || errno != 0 ||
            (option->kind == OPTION_INT && (integer > INT_MAX || integer < INT_MIN))) {
            snprintf(what, sizeof what, "--%s takes a whole number, not \"%s\"", option->name, value);
            return what;
        }
        number = (double)integer;
        if (!bounded || (number >= option->least && number <= option->most)) {
            if (option->kind == OPTION_INT) {
                *(int *)option->target = (int)integer;
            } else {
                *(long long *)option->target = integer;
            }
            return NULL;
        }
        break;
    }
    case OPTION_BYTES: {
        uint64_t bytes = 0;
        if (!parse_byte_size(&bytes, value)) {
            snprintf(what, sizeof what, "--%s takes a number of bytes such as 512M or 2G, not \"%s\"",
                     option->name, value);
            return what;
        }
        if (!bounded || ((double)bytes >= option->least && (double)bytes <= option->most)) {
            *(uint64_t *)option->target = bytes;
            return NULL;
        }
        break;
    }
    case OPTION_REAL:
        number = strtod(value, &end);
        if (*value == '\0' || *end != '\0' || !isfinite(number)) {
            snprintf(what, sizeof what, "--%s takes a number, not \"%s\"", option->name, value);
            return what;
        }
        if (!bounded || (number >= option->least && number <= option->most)) {
            *(double *)option->target = number;
            return NULL;
        }
        break;
    }
    snprintf(what, sizeof what, "--%s must lie between %.12g and %.12g, not %s", option->name, option->least,
             option->most, value);
    return what;
}

int command_line_parse(const struct verb *verb, const struct option_description *options, int argc,
                       char **argv, const char **positional, int least, int most, int *exit_status)
{
    int count = 0;
    int options_ended = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (options_ended || word[0] != '-' || word[1] == '\0') {
            if (count == most) {
                char what[256];
                snprintf(what, sizeof what, "one argument too many: %s", word);
                *exit_status = usage_error(verb, what);
                return -1;
            }
            positional[count++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            options_ended = 1;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strncmp(word, "--help=", 7) == 0) {
            *exit_status = print_help_form(verb, options, word);
            return -1;
        }
        const char *name = word + (word[1] == '-' ? 2 : 1);
        const size_t length = strcspn(name, "=");
        const struct option_description *option = find_option(options, name, length);
        if (option == NULL) {
            char typed[64];
            snprintf(typed, sizeof typed, "%.*s", (int)length, name);
            *exit_status = unknown_option(verb, options, typed);
            return -1;
        }
        const char *value = name[length] == '=' ? name + length + 1 : NULL;
        const char *problem = NULL;
        if (option->kind == OPTION_FLAG) {
            problem = value == NULL ? set_option(option, NULL) : "this option takes no value";
        } else if (value == NULL && i + 1 == argc) {
            problem = "the last option lacks its value";
        } else {
            problem = set_option(option, value != NULL ? value : argv[++i]);
        }
        if (problem != NULL) {
            *exit_status = usage_error(verb, problem);
            return -1;
        }
    }
    if (count < least) {
        char what[256];
        snprintf(what, sizeof what, "arguments are missing: voco %s %s", verb->name, verb->arguments);
        *exit_status = usage_error(verb, what);
        return -1;
    }
    return count;
}

int report_failure(const struct verb *verb, enum voco_status status)
{
    if (status == VOCO_OK) {
        return exit_ok;
    }
    (void)fprintf(stderr, "voco: %s: %s\n", verb->name, voco_error_message());
    return exit_failed;
}

enum voco_status parse_size(int size[3], const char *text, const char *option)
{
    char rest = '\0';
    if (sscanf(text, "%dx%dx%d%c", &size[0], &size[1], &size[2], &rest) != 3 || size[0] < 1 || size[1] < 1 ||
        size[2] < 1) {
        return fail(VOCO_BAD_INPUT, "--%s takes a size in voxels such as 192x192x64, not \"%s\"", option,
                    text);
    }
    return VOCO_OK;
}

enum voco_status parse_spacing(double spacing[3], const char *text, const char *option)
{
    char rest = '\0';
    const int count = sscanf(text, "%lf,%lf,%lf%c", &spacing[0], &spacing[1], &spacing[2], &rest);
    if (count == 1 && strchr(text, ',') == NULL) {
        spacing[1] = spacing[2] = spacing[0];
    } else if (count != 3) {
        return fail(VOCO_BAD_INPUT, "--%s takes mm such as 1.5 or 1.25,1.25,5, not \"%s\"", option, text);
    }
    for (int axis = 0; axis < 3; axis++) {
        if (!(spacing[axis] > 0.0) || !isfinite(spacing[axis])) {
            return fail(VOCO_BAD_INPUT, "--%s takes positive mm, not \"%s\"", option, text);
        }
    }
    return VOCO_OK;
}

enum voco_status parse_hu_window(double *low, double *high, const char *text, const char *option)
{
    char rest = '\0';
    if (sscanf(text, "%lf,%lf%c", low, high, &rest) != 2 || !isfinite(*low) || !isfinite(*high) ||
        *low >= *high) {
        return fail(VOCO_BAD_INPUT, "--%s takes two HU, the lower first, such as -175,250, not \"%s\"",
                    option, text);
    }
    return VOCO_OK;
}
