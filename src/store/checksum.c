#include "store/checksum.h"

#include <isa-l/crc.h>
#include <string.h>

uint32_t crc32c(const void *bytes, size_t count)
{
    enum { piece = 1 << 30 }; /* ISA-L counts in int */
    const unsigned char *at = bytes;
    uint32_t state = 0xffffffffU;
    while (count > 0) {
        const size_t here = count < piece ? count : piece;
        state = crc32_iscsi((unsigned char *)at, (int)here, state);
        at += here;
        count -= here;
    }
    return ~state;
}

void crc32c_store(unsigned char out[crc32c_bytes], const void *bytes, size_t count)
{
    const uint32_t checksum = crc32c(bytes, count);
    for (int i = 0; i < crc32c_bytes; i++) {
        out[i] = (unsigned char)(checksum >> 8 * i);
    }
}

int crc32c_closes(const void *bytes, size_t count)
{
    unsigned char expected[crc32c_bytes];
    if (count < crc32c_bytes) {
        return 0;
    }
    const size_t covered = count - crc32c_bytes;
    crc32c_store(expected, bytes, covered);
    return memcmp(expected, (const unsigned char *)bytes + covered, crc32c_bytes) == 0;
}
