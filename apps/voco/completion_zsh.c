/* Completion of words in zsh: a call of _arguments for each verb. */
#include "help_forms.h"

#include <string.h>

/* Text within single quotes; characters of `special` get a backslash. */
static void print_quoted(FILE *out, const char *text, size_t length, const char *special)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\'') {
            (void)fputs("'\\'", out);
        } else if (strchr(special, text[i]) != NULL) {
            (void)fputc('\\', out);
        }
        (void)fputc(text[i], out);
    }
}

void print_zsh_begin(FILE *out, const struct verb *const *verbs, int count)
{
    (void)fputs("#compdef voco\n"
                "# Completion of words for voco in zsh; voco --help=zsh prints it.\n"
                "_voco() {\n"
                "    local -a verbs=(\n",
                out);
    for (int i = 0; i < count; i++) {
        (void)fprintf(out, "        '%s:", verbs[i]->name);
        print_quoted(out, verbs[i]->summary, strlen(verbs[i]->summary), "\\");
        (void)fputs("'\n", out);
    }
    (void)fputs("    )\n"
                "    if (( CURRENT == 2 )); then\n"
                "        _describe -t verbs verb verbs\n"
                "        compadd -- help --help --version\n"
                "        return\n"
                "    fi\n"
                "    shift words\n"
                "    (( CURRENT-- ))\n"
                "    case $words[1] in\n",
                out);
}

/* ":WHAT:ACTION", with values, names of files, both or nothing to choose from. */
static void print_action(FILE *out, const char *argument)
{
    struct argument_alternative alternative;
    int values = 0;
    int paths = 0;
    for (const char *place = argument; next_alternative(&alternative, &place);) {
        values += alternative.is_value;
        paths += alternative.is_path;
    }
    (void)fprintf(out, ":%s:", values > 0 ? "value" : argument);
    if (values > 0) {
        (void)fputs(paths > 0 ? "{_alternative \"values\\:value\\:(" : "(", out);
        for (const char *place = argument; next_alternative(&alternative, &place);) {
            if (alternative.is_value) {
                print_quoted(out, alternative.text, (size_t)alternative.length, "\\");
                (void)fputc(' ', out);
            }
        }
        (void)fputs(paths > 0 ? ")\" \"files\\:file\\:_files\"}" : ")", out);
    } else if (paths > 0) {
        (void)fputs("_files", out);
    } else {
        (void)fputc(' ', out);
    }
}

void print_zsh_branch(FILE *out, const struct verb *verb, const struct option_description *options)
{
    (void)fprintf(out, "    %s)\n        _arguments -S \\\n", verb->name);
    for (const struct option_description *option = options; option->name != NULL; option++) {
        (void)fprintf(out, "            '--%s%s[", option->name, option->argument != NULL ? "=" : "");
        print_quoted(out, option->help, strlen(option->help), "[]\\");
        (void)fputc(']', out);
        if (option->argument != NULL) {
            print_action(out, option->argument);
        }
        (void)fputs("' \\\n", out);
    }
    (void)fputs("            '--help[this text]' \\\n"
                "            '*:file:_files'\n"
                "        ;;\n",
                out);
}

void print_zsh_end(FILE *out)
{
    (void)fputs("    help)\n"
                "        _describe -t verbs verb verbs\n"
                "        ;;\n"
                "    esac\n"
                "}\n"
                "# Called by the shell's completion, or read into a shell.\n"
                "if [[ $funcstack[1] == _voco ]]; then\n"
                "    _voco \"$@\"\n"
                "else\n"
                "    compdef _voco voco\n"
                "fi\n",
                out);
}
