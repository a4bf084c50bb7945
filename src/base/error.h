/* Making errors: see include/voco/status.h for how they are read.
 *
 * The usual pattern is one `return fail(...)` where the cause is known, and `add_context()` where the caller
 * knows more than the callee, such as the name of the file. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "voco/status.h"

/* Stores the formatted message as this thread's error and returns `status`, so that it can be returned at
 * once. */
enum voco_status fail(enum voco_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As fail(VOCO_IO, ...), with ": " and the text of errno behind the message. */
enum voco_status fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Puts the formatted text and ": " before this thread's message; returns `status` unchanged. */
enum voco_status add_context(enum voco_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
