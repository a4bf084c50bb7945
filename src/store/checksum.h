/* CRC-32C (Castagnoli; RFC 3720, appendix B.4), as Zarr's crc32c codec has it. */
#ifndef STORE_CHECKSUM_H
#define STORE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *bytes, size_t count);

/* The same as the four little-endian bytes that Zarr's codec puts behind what it covers. */
enum { crc32c_bytes = 4 };
void crc32c_store(unsigned char out[crc32c_bytes], const void *bytes, size_t count);

/* Whether the last four of `count` bytes are the checksum of those before them. */
int crc32c_closes(const void *bytes, size_t count);

#endif
