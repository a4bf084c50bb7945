#include "train/loss.h"

#include "compute/compute.h"

struct loss loss_of_terms(const double *terms, int volumes)
{
    struct loss loss = {0};
    for (int i = 0; i < volumes; i++) {
        const double *of_volume = terms + (ptrdiff_t)i * contrast_terms;
        loss.intra += of_volume[CONTRAST_INTRA] / volumes;
        loss.inter += of_volume[CONTRAST_INTER] / volumes;
        loss.reg += of_volume[CONTRAST_REG] / volumes;
    }
    loss.total = loss.intra + loss.inter + loss.reg;
    return loss;
}
