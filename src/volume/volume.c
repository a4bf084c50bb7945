#include "volume/volume.h"

#include <stdlib.h>

void volume_free(struct volume *volume)
{
    free(volume->data);
    *volume = (struct volume){0};
}

size_t volume_count(const struct volume *volume)
{
    return (size_t)volume->size[0] * (size_t)volume->size[1] * (size_t)volume->size[2];
}
