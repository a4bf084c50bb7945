/* What a verb has found out, as one JSON object, shown to people or to scripts. */
#ifndef APPS_JSON_REPORT_H
#define APPS_JSON_REPORT_H

#include <jansson.h>
#include <stdio.h>

/* For people: a line per member, "feature size      48"; objects as indented sections under their name; a
 * list of numbers on one line; a list of objects or lists as a line each. */
void json_report_show(FILE *out, const json_t *report);

/* For scripts: the object as indented JSON with a newline. */
void json_report_dump(FILE *out, const json_t *report);

#endif
