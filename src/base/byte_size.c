#include "base/byte_size.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int parse_byte_size(uint64_t *bytes, const char *text)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    /* strtod knows more than people mean: spaces before, hexadecimal. */
    if (strchr("+.0123456789", text[0]) == NULL || strpbrk(text, "xX") != NULL || end == text || errno != 0 ||
        !isfinite(value) || value < 0.0) {
        return 0;
    }
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    if (unit != NULL) {
        value = ldexp(value, 10 * (int)(unit - units + 1));
        end++;
        end += strcmp(end, "iB") == 0 ? 2 : strcmp(end, "B") == 0 ? 1 : 0;
    }
    if (*end != '\0' || value != floor(value) || value >= 0x1p63) {
        return 0;
    }
    *bytes = (uint64_t)value;
    return 1;
}

static const char *format_in(char text[byte_size_room], double bytes, double step, const char *const units[])
{
    int unit = 0;
    while (bytes >= step - 0.5 && unit < 5) {
        bytes /= step;
        unit++;
    }
    (void)snprintf(text, byte_size_room, "%.*f %s", unit > 0 && bytes < 99.95 ? 1 : 0, bytes, units[unit]);
    return text;
}

const char *format_byte_size(char text[byte_size_room], double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    return format_in(text, bytes, 1000.0, units);
}

const char *format_memory_size(char text[byte_size_room], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    return format_in(text, (double)bytes, 1024.0, units);
}
