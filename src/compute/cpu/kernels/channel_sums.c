#include "compute/cpu/kernels/channel_sums.h"

#include <math.h>

static double row_count(const struct block_sums *s)
{
    size_t rows = 0;
    for (size_t k = 0; k < s->blocks; k++) {
        rows += s->rows[k];
    }
    return (double)rows;
}

void KERNEL(merge_moments)(float *mean, float *rstd, const struct block_sums *s)
{
    const double rows = row_count(s);
    for (int ch = 0; ch < s->channels; ch++) {
        double average = 0, deviation = 0;
        for (size_t k = 0; k < s->blocks; k++) {
            average += (double)s->rows[k] * s->sums[k * s->stride + ch];
        }
        average /= rows;
        for (size_t k = 0; k < s->blocks; k++) {
            const float *of_block = s->sums + k * s->stride + ch;
            const double apart = *of_block - average;
            deviation += of_block[s->second] + (double)s->rows[k] * apart * apart;
        }
        mean[ch] = (float)average;
        rstd[ch] = (float)(1 / sqrt(deviation / rows + normalisation_epsilon));
    }
}

void KERNEL(merge_norm_gradient)(float *shift, float *factor, const float *rstd, const struct block_sums *s)
{
    const double rows = row_count(s);
    for (int ch = 0; ch < s->channels; ch++) {
        double g = 0, product = 0;
        for (size_t k = 0; k < s->blocks; k++) {
            const float *of_block = s->sums + k * s->stride + ch;
            g += *of_block;
            product += of_block[s->second];
        }
        const double scale = rstd[ch];
        shift[ch] = (float)(scale * g / rows);
        factor[ch] = (float)(scale * scale * scale * product / rows);
    }
}

void KERNEL(merge_first_sums)(double *sums, const struct block_sums *s)
{
    for (int ch = 0; ch < s->channels; ch++) {
        sums[ch] = 0;
        for (size_t k = 0; k < s->blocks; k++) {
            sums[ch] += s->sums[k * s->stride + ch];
        }
    }
}
