/* voco: the program. Finds the verb, sets where log lines go, and runs it. */
#include "base/log.h"
#include "command_line.h"
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

static int print_overview(FILE *out, int status)
{
    (void)fprintf(out, "voco " VOCO_VERSION
                       ": self-supervised pre-training (Volume Contrast) for 3D medical images\n\n"
                       "Usage: voco VERB ... [options]\n\nVerbs:\n");
    for (int i = 0; i < verb_count; i++) {
        (void)fprintf(out, "  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    }
    (void)fprintf(out, "\nvoco VERB --help tells more. To begin without data of your own:\n"
                       "  voco phantom phantoms --count 40\n"
                       "  voco pretrain phantoms --recipe tiny --out run\n"
                       "  voco eval run phantoms\n");
    return status;
}

int main(int argc, char **argv)
{
    int progress_shown = 0;
    wait_with_little_spinning(argv);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file that grows past a limit is an error to report, not a death */
    log_set_sink(print_log_line, &progress_shown);
    if (argc < 2) {
        return print_overview(stderr, exit_usage);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        return print_overview(stdout, exit_ok);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("voco " VOCO_VERSION "\n");
        return exit_ok;
    }
    for (int i = 0; i < verb_count; i++) {
        if (strcmp(argv[1], verbs[i]->name) == 0) {
            const int status = verbs[i]->run(verbs[i], argc - 1, argv + 1);
            if (progress_shown) {
                (void)fputc('\n', stderr);
            }
            if (fflush(stdout) != 0 || ferror(stdout)) {
                (void)fprintf(stderr, "voco: %s: cannot write to standard output\n", argv[1]);
                return exit_failed;
            }
            return status;
        }
    }
    for (int i = 0; i < verb_count; i++) {
        if (close_to(argv[1], verbs[i]->name)) {
            (void)fprintf(stderr, "voco: there is no verb \"%s\", did you mean \"%s\"? (see: voco --help)\n",
                          argv[1], verbs[i]->name);
            return exit_usage;
        }
    }
    (void)fprintf(stderr, "voco: there is no verb \"%s\" (see: voco --help)\n", argv[1]);
    return exit_usage;
}
