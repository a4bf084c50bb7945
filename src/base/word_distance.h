/* How far apart two short words are, to find what somebody meant to type. */
#ifndef BASE_WORD_DISTANCE_H
#define BASE_WORD_DISTANCE_H

/* Levenshtein's distance: how many letters must be put in, taken out or changed. INT_MAX for words of over 40
 * letters. */
int word_distance(const char *a, const char *b);

#endif
