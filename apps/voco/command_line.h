/* The command line: a verb describes its options once, in a table, and gets parsing, checking and help from
 * it. */
#ifndef APPS_COMMAND_LINE_H
#define APPS_COMMAND_LINE_H

#include "voco/status.h"

#include <stdint.h>

enum option_kind {
    OPTION_FLAG,  /* target: int, set to 1 */
    OPTION_INT,   /* target: int */
    OPTION_LONG,  /* target: long long */
    OPTION_REAL,  /* target: double */
    OPTION_TEXT,  /* target: const char *, points into argv */
    OPTION_BYTES, /* target: uint64_t; "512M", "2G" (base/byte_size.h); bounds count */
};

struct option_description {
    const char *name; /* without the two dashes; a table ends with a NULL name */
    enum option_kind kind;
    void *target;         /* holds the default before, the value after */
    const char *argument; /* how help shows the value; NULL for a flag. See below. */
    const char *help;
    double least, most; /* bounds of numbers; both 0: unbounded */
};

/* An argument is made of alternatives with | between them. One in capitals stands for a value ("N",
 * "LOW,HIGH"), and FILE, DIR, RUN and CKPT for the name of a file or folder; any other is a value itself
 * ("float32|bf16"), as help, manual pages and the completion of words in a shell show it. */

/* One verb: `voco NAME ...`. */
struct verb {
    const char *name;
    const char *arguments; /* "FILE OUT.nii.gz [options]" */
    const char *summary;   /* one line, shown in the list of verbs */
    const char *details;   /* paragraphs of help text, ends with a newline; may be NULL */
    const char *examples;  /* lines of commands, ends with a newline */
    int (*run)(const struct verb *verb, int argc,
               char **argv); /* argv[0] is the verb; returns the exit status */
};

enum { exit_ok = 0, exit_failed = 1, exit_usage = 2 };

/* Parses argv by the table. Options and positional arguments may come in any order; `--name value` and
 * `--name=value`. --help prints the table in words, --help=man and the like in the forms of help_forms.h.
 * Positional arguments are put into positional[], and their number must lie in [least, most]. Returns the
 * number of positional arguments; -1 when the caller must return *exit_status at once (help was printed, or a
 * usage error was reported on stderr with a hint at the nearest option name). */
int command_line_parse(const struct verb *verb, const struct option_description *options, int argc,
                       char **argv, const char **positional, int least, int most, int *exit_status);

/* Reports a failure as the one line a user sees, `voco: VERB: message`, with the thread's error message on
 * stderr. Returns the exit status: exit_failed, or exit_ok for VOCO_OK. */
int report_failure(const struct verb *verb, enum voco_status status);

/* Parses "192x192x64" into three positive integers, or "1.5,1.5,1.5" (also "1.5") into three positive
 * numbers. VOCO_BAD_INPUT names the option. */
enum voco_status parse_size(int size[3], const char *text, const char *option);
enum voco_status parse_spacing(double spacing[3], const char *text, const char *option);

/* Parses two HU, "-175,250", the lower first. */
enum voco_status parse_hu_window(double *low, double *high, const char *text, const char *option);

/* Whether what somebody typed looks like a slip of, or the beginning of, a known word. */
int close_to(const char *typed, const char *meant);

/* The verbs, each in the file of its name. */
extern const struct verb verb_phantom;
extern const struct verb verb_prepare;
extern const struct verb verb_cache;
extern const struct verb verb_pretrain;
extern const struct verb verb_eval;
extern const struct verb verb_encode;
extern const struct verb verb_info;
extern const struct verb verb_replay;
extern const struct verb verb_bench;
extern const struct verb verb_convert;

#endif
