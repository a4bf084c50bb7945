#include "nn/patch_embed.h"

static struct conv3d_shape embed_shape(const struct patch_embed *embed, const struct token_grid *grid)
{
    return (struct conv3d_shape){.n = grid->n,
                                 .d = grid->d,
                                 .h = grid->h,
                                 .w = grid->w,
                                 .in_channels = 1,
                                 .out_channels = embed->channels,
                                 .kernel = 2,
                                 .stride = 2};
}

void patch_embed_forward(const struct layer_run *run, const struct patch_embed *embed, activation *out,
                         const activation *inp, const struct token_grid *grid)
{
    if (!run->arena->exhausted) {
        const struct conv3d_shape shape = embed_shape(embed, grid);
        run->compute->conv3d_forward(run->compute, out, inp, run->params + embed->weight,
                                     run->params + embed->bias, &shape);
    }
}

void patch_embed_backward(const struct layer_run *run, const struct patch_embed *embed,
                          const activation *dout, const activation *inp, const struct token_grid *grid)
{
    if (!run->arena->exhausted) {
        const struct conv3d_shape shape = embed_shape(embed, grid);
        run->compute->conv3d_backward(run->compute, NULL, run->grads + embed->weight,
                                      run->grads + embed->bias, dout, inp, run->params + embed->weight,
                                      &shape);
    }
}
