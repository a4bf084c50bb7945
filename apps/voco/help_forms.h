/* What a verb's table of options and its texts are printed as: help on the terminal, a manual page,
 * completion of words in a shell. The tables are the only source of all of them. */
#ifndef APPS_HELP_FORMS_H
#define APPS_HELP_FORMS_H

#include "command_line.h"

#include <stddef.h>
#include <stdio.h>

/* One alternative of an option's argument (command_line.h). */
struct argument_alternative {
    const char *text; /* points into the argument, without an end of its own */
    int length;
    int is_value; /* else it stands for one */
    int is_path;  /* stands for the name of a file or folder */
};

/* Steps through the alternatives of an argument, which may be NULL. *place begins as the argument and becomes
 * NULL behind the last one. Returns 0 when there is none left. */
int next_alternative(struct argument_alternative *alternative, const char **place);

/* Writes the default of an option, as help shows it in brackets; "" where it has none to show. */
void format_default(char *text, size_t size, const struct option_description *option);

/* What to try without data of one's own, a command a line. */
extern const char first_commands[];

/* `voco VERB --help`. */
void print_help(FILE *out, const struct verb *verb, const struct option_description *options);

/* `voco --help`: the list of verbs. */
void print_overview(FILE *out, const struct verb *const *verbs, int count);

/* Pages for man, section 1, in the macros of man(7): voco-VERB.1 and voco.1. */
void print_manual_page(FILE *out, const struct verb *verb, const struct option_description *options);
void print_manual_overview(FILE *out, const struct verb *const *verbs, int count);

/* Completion is a function for the shell: what comes before the verbs, a branch for each verb, what comes
 * after. */
void print_bash_begin(FILE *out, const struct verb *const *verbs, int count);
void print_bash_branch(FILE *out, const struct verb *verb, const struct option_description *options);
void print_bash_end(FILE *out);
void print_zsh_begin(FILE *out, const struct verb *const *verbs, int count);
void print_zsh_branch(FILE *out, const struct verb *verb, const struct option_description *options);
void print_zsh_end(FILE *out);

#endif
