/* What the library has to say while it works. It never prints: a line goes to the sink that the program has
 * set. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level {
    LOG_PROGRESS,
    LOG_INFO,
    LOG_WARNING,
    LOG_ERROR, /* what ends the job from within, where no status can be returned any more (dist/ranks.h) */
};

/* Called with one line without a newline, from any thread, one at a time. */
typedef void (*log_sink)(enum log_level level, const char *line, void *context);

/* NULL, the default, drops everything. */
void log_set_sink(log_sink sink, void *context);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "2 h 05 min", "3 min 20 s", "41 s": for time left. Writes into text (at least 32 bytes) and returns it. */
const char *format_duration(char *text, double seconds);

#endif
