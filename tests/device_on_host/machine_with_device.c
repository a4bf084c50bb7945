/* What the linker puts in place of functions of voco (--wrap) to make of the program one that meets a GPU on
 * every machine: a device that the host plays, for `--device cuda` in float32. */
#include "device_on_host/device_on_host.h"

#include "base/error.h"
#include "compute/gpus.h"

#include <string.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */
int __wrap_gpu_count(const char **why);
enum voco_status __wrap_compute_open_on_gpu(struct compute *c, const char *name, int gpu, int threads,
                                            enum compute_precision precision);
enum voco_status __real_compute_open_on_gpu(struct compute *c, const char *name, int gpu, int threads,
                                            enum compute_precision precision);
/* NOLINTEND(bugprone-reserved-identifier) */

int __wrap_gpu_count(const char **why)
{
    (void)why;
    return 1;
}

enum voco_status __wrap_compute_open_on_gpu(struct compute *c, const char *name, int gpu, int threads,
                                            enum compute_precision precision)
{
    if (strcmp(name, "cuda") != 0) {
        return __real_compute_open_on_gpu(c, name, gpu, threads, precision);
    }
    if (precision != PRECISION_FLOAT32) {
        return fail(VOCO_UNSUPPORTED, "the host plays a device in float32 only");
    }
    const enum voco_status status = open_device_on_host(c, "cpu");
    if (status == VOCO_OK) {
        device_fuses_operations(c);
    }
    return status;
}
