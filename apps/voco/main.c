/* voco: the program. Finds the verb, sets where log lines go, and runs it. */
#include "base/log.h"
#include "command_line.h"
#include "help_forms.h"
#include "rank_output.h"
#include "thread_waiting.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct verb *const verbs[] = {&verb_phantom, &verb_prepare, &verb_cache,   &verb_pretrain,
                                           &verb_eval,    &verb_encode,  &verb_convert, &verb_info,
                                           &verb_replay,  &verb_bench};
enum { verb_count = sizeof verbs / sizeof verbs[0] };

/* Elsewhere than on a terminal: at most a line of progress every ten seconds. */
static int too_soon(void)
{
    static time_t last;
    const time_t now = time(NULL);
    if (last != 0 && now < last + 10) {
        return 1;
    }
    last = now;
    return 0;
}

/* On a terminal a progress line overwrites the one before it; elsewhere each is a line of its own. */
static void print_log_line(enum log_level level, const char *line, void *context)
{
    int *progress_shown = context;
    if (level == LOG_ERROR) {
        char text[1200];
        (void)snprintf(text, sizeof text, "voco: %s", line);
        rank_output_line(text);
        return;
    }
    const int overwrite = isatty(STDERR_FILENO);
    if (level == LOG_PROGRESS && !overwrite && too_soon()) {
        return;
    }
    if (*progress_shown) {
        (void)fputs("\r\033[K", stderr);
    }
    *progress_shown = overwrite && level == LOG_PROGRESS;
    (void)fprintf(stderr, "%s%s%s%s", rank_output_prefix(), level == LOG_WARNING ? "warning: " : "", line,
                  *progress_shown ? "" : "\n");
    (void)fflush(stderr);
}

static const struct verb *find_verb(const char *name)
{
    for (int i = 0; i < verb_count; i++) {
        if (strcmp(name, verbs[i]->name) == 0) {
            return verbs[i];
        }
    }
    return NULL;
}

static int unknown_verb(const char *name)
{
    if (name[0] == '-') {
        (void)fprintf(
            stderr,
            "voco: %s is none of --help and --version; a verb's options come behind it (see: voco --help)\n",
            name);
        return exit_usage;
    }
    for (int i = 0; i < verb_count; i++) {
        if (close_to(name, verbs[i]->name)) {
            (void)fprintf(stderr, "voco: there is no verb \"%s\", did you mean \"%s\"? (see: voco --help)\n",
                          name, verbs[i]->name);
            return exit_usage;
        }
    }
    (void)fprintf(stderr, "voco: there is no verb \"%s\" (see: voco --help)\n", name);
    return exit_usage;
}

/* Every verb prints its part from its own table of options. */
static void print_branches(char *option)
{
    for (int i = 0; i < verb_count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%s", verbs[i]->name);
        char *words[] = {name, option, NULL};
        (void)verbs[i]->run(verbs[i], 2, words);
    }
}

/* option: "--help=FORM". */
static int print_help_of_all(char *option)
{
    const char *form = strchr(option, '=') + 1;
    if (strcmp(form, "man") == 0) {
        print_manual_overview(stdout, verbs, verb_count);
    } else if (strcmp(form, "bash") == 0) {
        print_bash_begin(stdout, verbs, verb_count);
        print_branches(option);
        print_bash_end(stdout);
    } else if (strcmp(form, "zsh") == 0) {
        print_zsh_begin(stdout, verbs, verb_count);
        print_branches(option);
        print_zsh_end(stdout);
    } else if (strcmp(form, "verbs") == 0) {
        for (int i = 0; i < verb_count; i++) {
            printf("%s\n", verbs[i]->name);
        }
    } else {
        (void)fprintf(stderr, "voco: --help takes no value, or man, bash, zsh or verbs (see: voco --help)\n");
        return exit_usage;
    }
    return exit_ok;
}

/* argv[0] is the verb. */
static int run_verb(int argc, char **argv)
{
    const struct verb *verb = find_verb(argv[0]);
    return verb != NULL ? verb->run(verb, argc, argv) : unknown_verb(argv[0]);
}

/* What the words behind the program's name ask for. */
static int run(int argc, char **argv)
{
    if (argc == 0) {
        print_overview(stderr, verbs, verb_count);
        return exit_usage;
    }
    const int asks_for_help = strcmp(argv[0], "help") == 0;
    if (asks_for_help && argc > 1) {
        char option[] = "--help";
        char *words[] = {argv[1], option, NULL};
        return run_verb(2, words);
    }
    if (asks_for_help || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_overview(stdout, verbs, verb_count);
        return exit_ok;
    }
    if (strncmp(argv[0], "--help=", 7) == 0) {
        return print_help_of_all(argv[0]);
    }
    if (strcmp(argv[0], "--version") == 0) {
        printf("voco " VOCO_VERSION "\n");
        return exit_ok;
    }
    return run_verb(argc, argv);
}

int main(int argc, char **argv)
{
    int progress_shown = 0;
    wait_with_little_spinning(argv);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file that grows past a limit is an error to report, not a death */
    log_set_sink(print_log_line, &progress_shown);
    const int status = run(argc - 1, argv + 1);
    if (progress_shown) {
        (void)fputc('\n', stderr);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)fprintf(stderr, "voco: %s: cannot write to standard output\n", argv[1]);
        return exit_failed;
    }
    return status;
}
