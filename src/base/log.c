#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static log_sink current_sink;
static void *current_context;

void log_set_sink(log_sink sink, void *context)
{
    pthread_mutex_lock(&lock);
    current_sink = sink;
    current_context = context;
    pthread_mutex_unlock(&lock);
}

void log_line(enum log_level level, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&lock);
    if (current_sink != NULL) {
        current_sink(level, text, current_context);
    }
    pthread_mutex_unlock(&lock);
}

const char *format_duration(char *text, double seconds)
{
    const long whole = seconds < 0.0 ? 0 : (long)(seconds + 0.5);
    if (whole >= 3600) {
        snprintf(text, 32, "%ld h %02ld min", whole / 3600, whole / 60 % 60);
    } else if (whole >= 60) {
        snprintf(text, 32, "%ld min %02ld s", whole / 60, whole % 60);
    } else {
        snprintf(text, 32, "%ld s", whole);
    }
    return text;
}
