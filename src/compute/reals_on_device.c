#include "compute/reals_on_device.h"

void update_reals(struct compute *c, real *on_device, const real *host, size_t count)
{
    if (on_device != host) {
        c->to_device(c, on_device, host, count * sizeof *host);
        c->wait(c);
    }
    c->parameters_changed(c);
}

real *reals_on_device(struct compute *c, real *host, size_t count)
{
    if (!c->separate_memory) {
        return host;
    }
    real *copy = c->allocate(c, count * sizeof *copy);
    if (copy != NULL) {
        update_reals(c, copy, host, count);
    }
    return copy;
}

void release_reals(struct compute *c, real *on_device, const real *host)
{
    if (on_device != host && on_device != NULL) {
        c->release(c, on_device);
    }
}
