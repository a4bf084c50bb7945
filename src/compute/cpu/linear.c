#include "compute/cpu/cpu_state.h"
#include "compute/cpu/onednn.h"

#include <string.h>

static void product(struct compute *c, float *out, const float *a, int transpose_a, const float *b,
                    int transpose_b, size_t m, size_t n, size_t k, float beta)
{
    if (onednn_product(out, a, transpose_a, b, transpose_b, m, n, k, beta) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "matrix product");
    }
}

void cpu_linear_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                        const float *bias, size_t rows, int in_features, int out_features)
{
    if (c->status != VOCO_OK) {
        return;
    }
    use_threads(c);
    if (bias != NULL) {
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
        for (size_t row = 0; row < rows; row++) {
            memcpy((float *)out + row * out_features, bias, out_features * sizeof(float));
        }
    }
    product(c, (float *)out, (const float *)inp, 0, weight, 1, rows, out_features, in_features, bias != NULL);
}

void cpu_linear_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                         const activation *dout, const activation *inp, const float *weight, size_t rows,
                         int in_features, int out_features)
{
    if (c->status != VOCO_OK) {
        return;
    }
    use_threads(c);
    if (dinp != NULL) {
        product(c, (float *)dinp, (const float *)dout, 0, weight, 0, rows, in_features, out_features, 0);
    }
    if (dweight != NULL) {
        product(c, dweight, (const float *)dout, 1, (const float *)inp, 0, out_features, in_features, rows,
                1);
    }
    if (dbias != NULL) {
        kernels_of(c)->add_row_sums(c, dbias, dout, rows, out_features);
    }
}
