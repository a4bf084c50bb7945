/* What the ranks of a job (dist/ranks.h) print: the first everything, the others nothing but what ends the
 * job. */
#ifndef APPS_RANK_OUTPUT_H
#define APPS_RANK_OUTPUT_H

#include "dist/ranks.h"

/* From now on standard output and error are this rank's: on all but the first nothing is printed, or, with
 * `all`, each line of the log behind "[rank 2] ". */
void rank_output_of(const struct ranks *ranks, int all);

/* Prints a line on standard error that the rank must not keep to itself, silent or not. */
void rank_output_line(const char *line);

/* "[rank 2] ", or "". */
const char *rank_output_prefix(void);

#endif
