#include "model/layout.h"

/* Projectors compute in full precision: they are cheap, and BatchNorm over a few rows is sensitive. */
struct projector_activations {
    struct projector_layer_activations layers[2];
};

static const struct linear *projector_of(const struct model *model, enum parameter_group group)
{
    return model->layout->projectors[group == GROUP_TEACHER ? 1 : 0];
}

enum voco_status projector_forward(const struct model *model, struct compute *c, struct arena *arena,
                                   const real *params, enum parameter_group group, real *z,
                                   const real *embedding, int n, struct projector_activations **kept)
{
    const struct linear *linears = projector_of(model, group);
    const struct layer_run run = {.compute = c->full, .arena = arena, .params = params};
    const struct arena_mark mark = arena_mark(arena);
    struct projector_activations *a = arena_push_host(arena, sizeof *a);
    if (a != NULL) {
        projector_layer_keep(&run, &linears[0], n, &a->layers[0]);
        projector_layer_keep(&run, &linears[1], n, &a->layers[1]);
        projector_layer_forward(&run, &linears[0], as_activations(embedding), n, &a->layers[0]);
        projector_layer_forward(&run, &linears[1], a->layers[0].out, n, &a->layers[1]);
        linear_layer_forward(&run, &linears[2], as_activations(z), a->layers[1].out, (size_t)n);
    }
    const enum voco_status status = pass_status(c, arena, "projector forward", n);
    if (kept != NULL) {
        *kept = status == VOCO_OK ? a : NULL;
    }
    if (kept == NULL || status != VOCO_OK) {
        arena_release(arena, mark);
    }
    return status;
}

enum voco_status projector_backward(const struct model *model, struct compute *c, struct arena *arena,
                                    real *grads, const real *params, enum parameter_group group,
                                    real *dembedding, const real *dz, const real *embedding, int n,
                                    const struct projector_activations *kept)
{
    const struct linear *linears = projector_of(model, group);
    const struct layer_run run = {.compute = c->full, .arena = arena, .params = params, .grads = grads};
    const size_t size = (size_t)n * (size_t)model->config.projector;
    const struct arena_mark mark = arena_mark(arena);
    activation *dsecond = push_activations(&run, size);
    activation *dfirst = push_activations(&run, size);
    linear_layer_backward(&run, &linears[2], dsecond, as_activations(dz), kept->layers[1].out, (size_t)n);
    projector_layer_backward(&run, &linears[1], dfirst, dsecond, kept->layers[0].out, n, &kept->layers[1]);
    projector_layer_backward(&run, &linears[0], as_activations(dembedding), dfirst, as_activations(embedding),
                             n, &kept->layers[0]);
    arena_release(arena, mark);
    return pass_status(c, arena, "projector backward", n);
}
