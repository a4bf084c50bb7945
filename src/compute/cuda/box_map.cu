#include "compute/cuda/box_copy.cuh"

typedef decltype(&cuTensorMapEncodeTiled) map_encoder;

/* The driver's function; voco is not linked with the driver. */
static map_encoder find_encoder(void)
{
    void *function = NULL;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                               cudaEnableDefault, &found);
#else
    const cudaError_t error =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
    return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? (map_encoder)function : NULL;
}

static map_encoder encoder(void)
{
    static const map_encoder found = find_encoder();
    return found;
}

int has_box_maps(void)
{
    return encoder() != NULL;
}

/* An array of bf16 in five dimensions, the innermost dense; apart: the others, in bytes. */
static int encode_map(struct compute *c, struct box_map *map, const bf16 *array, const cuuint64_t (&sizes)[5],
                      const cuuint64_t (&apart)[4], const cuuint32_t (&box)[5], CUtensorMapSwizzle places)
{
    const map_encoder encode = encoder();
    const cuuint32_t every[] = {1, 1, 1, 1, 1};
    return c->status == VOCO_OK && encode != NULL &&
           encode(&map->map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 5, const_cast<bf16 *>(array), sizes, apart,
                  box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, places, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

int make_box_map(struct compute *c, struct box_map *map, const bf16 *array, const struct box_shape *shape)
{
    const cuuint64_t voxel = (cuuint64_t)shape->channels * sizeof(bf16), row = voxel * shape->w;
    const cuuint64_t sizes[] = {box_channels, (cuuint64_t)shape->w,
                                (cuuint64_t)shape->channels / box_channels, (cuuint64_t)shape->h,
                                (cuuint64_t)shape->planes};
    const cuuint64_t apart[] = {voxel, box_channels * sizeof(bf16), row, row * shape->h};
    const cuuint32_t box[] = {box_channels, (cuuint32_t)shape->columns, (cuuint32_t)shape->sixteens,
                              (cuuint32_t)shape->rows, 1};
    return encode_map(c, map, array, sizes, apart, box, CU_TENSOR_MAP_SWIZZLE_32B);
}

int make_octet_map(struct compute *c, struct box_map *map, const bf16 *array, const struct box_shape *shape)
{
    const cuuint64_t voxel = (cuuint64_t)shape->channels * sizeof(bf16), row = voxel * shape->w;
    const cuuint64_t sizes[] = {octet_channels, (cuuint64_t)shape->w, (cuuint64_t)shape->h,
                                (cuuint64_t)shape->channels / octet_channels, (cuuint64_t)shape->planes};
    const cuuint64_t apart[] = {voxel, row, octet_channels * sizeof(bf16), row * shape->h};
    const cuuint32_t box[] = {octet_channels, (cuuint32_t)shape->columns, (cuuint32_t)shape->rows,
                              (cuuint32_t)shape->sixteens, 1};
    return encode_map(c, map, array, sizes, apart, box, CU_TENSOR_MAP_SWIZZLE_NONE);
}
