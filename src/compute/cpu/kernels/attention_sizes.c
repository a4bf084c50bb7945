#include "compute/cpu/kernels/attention_sizes.h"

#include "compute/cpu/kernels/kernels.h"
#include "compute/supported_shapes.h"

enum { least_group = 64 }; /* windows that make preparing a head's bias cheap */

int KERNEL(attention_sizes)(struct compute *c, struct attention_sizes *sizes, const struct attention_shape *s)
{
    if (!attention_is_supported(c, s)) {
        return 0;
    }
    sizes->heads = s->heads;
    sizes->head_dim = s->head_dim;
    sizes->channels = s->heads * s->head_dim;
    sizes->width = (s->head_dim + 3) / 4 * 4;
    sizes->tokens = s->window[0] * s->window[1] * s->window[2];
    sizes->keys = (sizes->tokens + 2 * lanes - 1) / (2 * lanes) * (2 * lanes);
    sizes->pitch = most_key_slots;
    sizes->regions_apart = 1;
    sizes->query_unit = query_tile;
    sizes->bias_in_blocks = attention_by_rows(sizes->width);
    const size_t per_sample = (size_t)windows_along(s->d, s->window[0]) * windows_along(s->h, s->window[1]) *
                              windows_along(s->w, s->window[2]);
    sizes->windows = s->n * per_sample;
    sizes->group = (least_group + per_sample - 1) / per_sample * per_sample;
    return 1;
}

struct axis_places KERNEL(places_along)(int extent, int window, int shift, int corner)
{
    struct axis_places a;
    const int end = windows_along(extent, window) * window;
    for (int t = 0; t < window; t++) {
        const int rolled = corner + t, place = (rolled + shift) % end;
        a.place[t] = place < extent ? place : -1;
        a.region[t] = shift == 0 || rolled < end - window ? 0 : rolled < end - shift ? 1 : 2;
    }
    return a;
}
