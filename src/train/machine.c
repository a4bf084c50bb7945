#include "train/machine.h"

#include "base/log.h"

enum voco_status machine_open(struct compute *c, const char *implementation, int threads,
                              enum compute_precision precision)
{
    const enum voco_status status = compute_open(c, implementation, threads, precision);
    if (status == VOCO_OK && precision == PRECISION_BF16 && !c->multiplies_bf16) {
        log_line(LOG_INFO,
                 "precision bf16: this processor does not multiply bf16 (no AVX512_BF16 or AMX); it "
                 "halves the memory of activations, but is not faster than float32 here");
    }
    return status;
}
