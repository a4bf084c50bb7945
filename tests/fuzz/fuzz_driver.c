/* Runs a fuzz target without libFuzzer, so that `make test` can, with any compiler: the seeds as they are,
 * then damaged copies of them for some seconds.
 *
 *     fuzz_nifti [--seconds N] [--seed N] SEEDS...        SEEDS: files, and folders of files
 *     fuzz_nifti --seconds 0 FILE                         one input again
 *
 * The target runs in a child process. An input that kills it (a signal, a sanitizer's report, 20 seconds
 * without an answer) or makes it print is left in a file, whose name is printed. What leaks over the run is
 * reported at its end by a build with sanitizers. */
#include "base/clock.h"
#include "mutation.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { most_bytes = 1 << 18, most_seeds = 1000, seconds_per_input = 20 };

/* What the child tells its parent, whatever becomes of it. */
struct report {
    uint64_t inputs;
    int finished;
    size_t count;
    uint8_t bytes[most_bytes]; /* the input that the target has now */
};

struct options {
    double seconds;
    uint64_t seed;
    struct fuzz_input seeds[most_seeds];
    size_t seed_count;
};

static void die(const char *what, const char *name)
{
    (void)fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, name, what);
    exit(2);
}

static void read_seed(struct options *options, const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(most_bytes + 1);
    if (file == NULL || bytes == NULL) {
        die("cannot be read", path);
    }
    const size_t count = fread(bytes, 1, most_bytes + 1, file);
    if (ferror(file) || count > most_bytes) {
        die("cannot be read, or is longer than 256 KiB", path);
    }
    (void)fclose(file);
    if (options->seed_count == most_seeds) {
        die("more than 1000 seeds", path);
    }
    options->seeds[options->seed_count++] = (struct fuzz_input){.bytes = bytes, .count = count};
}

/* A folder's files in the order of their names, so that a run can be repeated. */
static void read_seeds(struct options *options, const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISDIR(info.st_mode)) {
        read_seed(options, path);
        return;
    }
    struct dirent **entries;
    const int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        die("no such file or folder", path);
    }
    for (int i = 0; i < count; i++) {
        char name[4096];
        (void)snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (stat(name, &info) == 0 && S_ISREG(info.st_mode)) {
            read_seed(options, name);
        }
        free(entries[i]);
    }
    free(entries);
}

static void run_target(struct report *report)
{
    /* A block of the exact length, so that a sanitizer sees the first byte too far. */
    uint8_t *bytes = malloc(report->count + (report->count == 0));
    if (bytes == NULL) {
        _exit(2);
    }
    memcpy(bytes, report->bytes, report->count);
    (void)alarm(seconds_per_input);
    (void)LLVMFuzzerTestOneInput(bytes, report->count);
    (void)alarm(0);
    free(bytes);
    (void)fflush(stdout);
    if (lseek(STDERR_FILENO, 0, SEEK_CUR) != 0) {
        _exit(1); /* the target printed, which a library never does */
    }
    report->inputs++;
}

/* The child's life. Returns to main's exit, where the sanitizer looks for leaks. */
static void run_all(struct report *report, const struct options *options)
{
    const double end = seconds_now() + options->seconds;
    for (size_t i = 0; i < options->seed_count; i++) {
        report->count = options->seeds[i].count;
        memcpy(report->bytes, options->seeds[i].bytes, report->count);
        run_target(report);
    }
    for (uint64_t number = 0; seconds_now() < end; number++) {
        report->count = mutated_input(report->bytes, most_bytes, options->seeds, options->seed_count,
                                      number % options->seed_count, options->seed, number);
        run_target(report);
    }
    report->finished = 1;
}

/* Writes the input that ended the child to a file of the current folder. */
static void keep_input(const struct report *report, uint64_t seed)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s-seed%llu-input%llu", program_invocation_short_name,
                   (unsigned long long)seed, (unsigned long long)report->inputs);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(report->bytes, 1, report->count, file) != report->count || fclose(file) != 0) {
        (void)fprintf(stderr, "cannot write %s\n", path);
        return;
    }
    char *folder = getcwd(NULL, 0);
    (void)fprintf(stderr, "left in %s/%s; again: %s --seconds 0 %s\n", folder != NULL ? folder : ".", path,
                  program_invocation_name, path);
    free(folder);
}

/* Says how the child ended; returns the exit status. */
static int judge(const struct report *report, int status, const struct options *options, FILE *printed)
{
    char text[4096];
    size_t length;
    rewind(printed);
    while ((length = fread(text, 1, sizeof text, printed)) > 0) {
        (void)fwrite(text, 1, length, stderr);
    }
    if (!report->finished) {
        if (WIFSIGNALED(status)) {
            (void)fprintf(stderr, "FAILED: %s at input %llu, ", strsignal(WTERMSIG(status)),
                          (unsigned long long)report->inputs);
        } else {
            (void)fprintf(stderr, "FAILED: printed or ended at input %llu, ",
                          (unsigned long long)report->inputs);
        }
        keep_input(report, options->seed);
        return 1;
    }
    if (status != 0) {
        (void)fprintf(stderr, "FAILED: every input was read or refused, but the process did not end well\n");
        return 1;
    }
    printf("%s: %llu inputs from %zu seeds, --seed %llu\n", program_invocation_short_name,
           (unsigned long long)report->inputs, options->seed_count, (unsigned long long)options->seed);
    return 0;
}

int main(int argc, char **argv)
{
    static struct options options = {.seconds = 3, .seed = 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            options.seconds = strtod(argv[++i], NULL);
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            options.seed = strtoull(argv[++i], NULL, 10);
        } else {
            read_seeds(&options, argv[i]);
        }
    }
    if (options.seed_count == 0) {
        die("no seeds; give files or folders", "usage");
    }
    FILE *printed = tmpfile();
    struct report *report =
        mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (printed == NULL || report == MAP_FAILED) {
        die("no room for a temporary file", "start");
    }
    const pid_t child = fork();
    if (child < 0) {
        die("cannot fork", "start");
    }
    if (child == 0) {
        if (dup2(fileno(printed), STDOUT_FILENO) < 0 || dup2(fileno(printed), STDERR_FILENO) < 0) {
            _exit(2);
        }
        run_all(report, &options);
        for (size_t i = 0; i < options.seed_count; i++) {
            free((void *)options.seeds[i].bytes);
        }
        return 0;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return judge(report, status, &options, printed);
}
