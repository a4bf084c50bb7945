/* Numbers of bytes as people write and read them. */
#ifndef BASE_BYTE_SIZE_H
#define BASE_BYTE_SIZE_H

#include <stdint.h>

enum { byte_size_room = 24 };

/* "512M", "1.5G", "2GiB", "100K" or plain bytes; units K, M, G, T are powers of 1024. Returns 0 where the
 * text is something else, is negative or does not come to whole bytes below 2^63. */
int parse_byte_size(uint64_t *bytes, const char *text);

/* "312 B", "4.2 kB", "1.3 TB": units are powers of 1000, as file managers and disk makers have them. Writes
 * into text and returns it. */
const char *format_byte_size(char text[byte_size_room], double bytes);

/* "312 B", "47 MiB", "3.8 GiB": units are powers of 1024, as memory is counted and as parse_byte_size reads.
 */
const char *format_memory_size(char text[byte_size_room], uint64_t bytes);

#endif
