#include "base/processors.h"

#include <unistd.h>

int processor_count(void)
{
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (count > 256 ? 256 : (int)count);
}
