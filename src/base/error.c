#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { message_size = 1024 };

static _Thread_local char message[message_size];

const char *voco_error_message(void)
{
    return message;
}

/* A message is one line whatever names went into it: control characters become '?'. */
static void keep_to_one_line(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
}

enum voco_status fail(enum voco_status status, const char *format, ...)
{
    /* Arguments may point into the old message: format beside it. */
    char text[message_size];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    keep_to_one_line(text);
    memcpy(message, text, sizeof message);
    return status;
}

enum voco_status fail_errno(const char *format, ...)
{
    const int saved = errno;
    char text[message_size];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(VOCO_IO, "%s: %s", text, strerror(saved));
}

enum voco_status add_context(enum voco_status status, const char *format, ...)
{
    char text[message_size];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(status, "%s: %s", text, message);
}
