#include "compute/gpus.h"

#include "base/error.h"
#ifdef VOCO_CUDA
#include "compute/cuda/cuda.h"
#endif

int gpu_count(const char **why)
{
#ifdef VOCO_CUDA
    return cuda_gpu_count(why);
#else
    *why = "this voco was built without CUDA";
    return 0;
#endif
}

enum voco_status gpu_describe(struct gpu *gpu, int index)
{
#ifdef VOCO_CUDA
    return cuda_gpu_describe(gpu, index);
#else
    *gpu = (struct gpu){0};
    return fail(VOCO_UNSUPPORTED, "GPU %d: this voco was built without CUDA", index);
#endif
}

enum voco_status gpu_identify(struct gpu_identity *identity, int index)
{
#ifdef VOCO_CUDA
    return cuda_gpu_identify(identity, index);
#else
    *identity = (struct gpu_identity){{0}};
    return fail(VOCO_UNSUPPORTED, "GPU %d: this voco was built without CUDA", index);
#endif
}
