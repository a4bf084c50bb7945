/* Completion of words in bash: one function that looks at the verb and at the option before the word. */
#include "help_forms.h"

void print_bash_begin(FILE *out, const struct verb *const *verbs, int count)
{
    (void)fputs("# Completion of words for voco in bash; voco --help=bash prints it.\n"
                "_voco()\n{\n"
                "    local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]}\n"
                "    local options= words= files= verbs='",
                out);
    for (int i = 0; i < count; i++) {
        (void)fprintf(out, "%s%s", i > 0 ? " " : "", verbs[i]->name);
    }
    (void)fputs("'\n"
                "    COMPREPLY=()\n"
                "    if ((COMP_CWORD == 1)); then\n"
                "        COMPREPLY=($(compgen -W \"$verbs help --help --version\" -- \"$word\"))\n"
                "        return\n"
                "    fi\n"
                "    # bash takes --option=value apart into three words.\n"
                "    if [[ $word == = ]]; then\n"
                "        word=\n"
                "    elif [[ $option == = ]]; then\n"
                "        option=${COMP_WORDS[COMP_CWORD-2]}\n"
                "    fi\n"
                "    case ${COMP_WORDS[1]} in\n",
                out);
}

static void print_values(FILE *out, const char *argument)
{
    struct argument_alternative alternative;
    int any = 0;
    for (const char *place = argument; next_alternative(&alternative, &place);) {
        if (alternative.is_value) {
            (void)fprintf(out, "%s%.*s", any ? " " : "words='", alternative.length, alternative.text);
            any = 1;
        }
    }
    (void)fputs(any ? "' " : "", out);
    for (const char *place = argument; next_alternative(&alternative, &place);) {
        if (alternative.is_path) {
            (void)fputs("files=1 ", out);
        }
    }
}

void print_bash_branch(FILE *out, const struct verb *verb, const struct option_description *options)
{
    (void)fprintf(out, "    %s)\n        options='", verb->name);
    for (const struct option_description *option = options; option->name != NULL; option++) {
        (void)fprintf(out, "--%s ", option->name);
    }
    (void)fputs("--help'\n        case $option in\n", out);
    for (const struct option_description *option = options; option->name != NULL; option++) {
        if (option->argument != NULL) {
            (void)fprintf(out, "        --%s) ", option->name);
            print_values(out, option->argument);
            (void)fputs(";;\n", out);
        }
    }
    (void)fputs("        *) option= ;;\n        esac\n        ;;\n", out);
}

void print_bash_end(FILE *out)
{
    (void)fputs("    help) words=$verbs ;;\n"
                "    *) return ;;\n"
                "    esac\n"
                "    if [[ -z $option && $word == -* ]]; then\n"
                "        words=$options\n"
                "    elif [[ -z $option ]]; then\n"
                "        files=1\n"
                "    fi\n"
                "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
                "    if [[ -n $files ]]; then\n"
                "        compopt -o filenames 2>/dev/null\n"
                "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$word\")\n"
                "    fi\n"
                "}\n"
                "complete -F _voco voco\n",
                out);
}
