#include "compute/cuda/blas_library.cuh"

extern "C" {
#include "base/error.h"
}

#include <dlfcn.h>
#include <stdlib.h>

/* The algorithms and structs of the header are those of versions 12 and 13. */
static const char *const library_names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
enum { oldest_version = 120000, version_after = 140000 };

template <typename Function>
static void find_function(Function *function, void *library, const char *name, const char **missing)
{
    *function = reinterpret_cast<Function>(dlsym(library, name));
    if (*function == NULL && *missing == NULL) {
        *missing = name;
    }
}

/* The name of the first function that is missing, or NULL. */
static const char *find_functions(struct blas_functions *f, void *library)
{
    const char *missing = NULL;
    find_function(&f->get_version, library, "cublasLtGetVersion", &missing);
    find_function(&f->create, library, "cublasLtCreate", &missing);
    find_function(&f->destroy, library, "cublasLtDestroy", &missing);
    find_function(&f->matmul, library, "cublasLtMatmul", &missing);
    find_function(&f->get_heuristic, library, "cublasLtMatmulAlgoGetHeuristic", &missing);
    find_function(&f->operation_create, library, "cublasLtMatmulDescCreate", &missing);
    find_function(&f->operation_destroy, library, "cublasLtMatmulDescDestroy", &missing);
    find_function(&f->operation_set, library, "cublasLtMatmulDescSetAttribute", &missing);
    find_function(&f->layout_create, library, "cublasLtMatrixLayoutCreate", &missing);
    find_function(&f->layout_destroy, library, "cublasLtMatrixLayoutDestroy", &missing);
    find_function(&f->preference_create, library, "cublasLtMatmulPreferenceCreate", &missing);
    find_function(&f->preference_destroy, library, "cublasLtMatmulPreferenceDestroy", &missing);
    find_function(&f->preference_set, library, "cublasLtMatmulPreferenceSetAttribute", &missing);
    return missing;
}

static enum voco_status load(struct blas *blas)
{
    const char *why = NULL;
    for (const char *name : library_names) {
        blas->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (blas->library != NULL) {
            break;
        }
        if (why == NULL) {
            why = dlerror();
        }
    }
    if (blas->library == NULL) {
        return fail(VOCO_UNSUPPORTED, "cuBLASLt (libcublasLt.so.13 or .12) cannot be loaded: %s",
                    why != NULL ? why : "no cause is known");
    }
    const char *missing = find_functions(&blas->functions, blas->library);
    if (missing != NULL) {
        return fail(VOCO_UNSUPPORTED, "libcublasLt has no function %s", missing);
    }
    const size_t version = blas->functions.get_version();
    if (version < oldest_version || version >= version_after) {
        return fail(VOCO_UNSUPPORTED, "libcublasLt is version %zu; 12 and 13 are supported", version);
    }
    return VOCO_OK;
}

enum voco_status blas_open(struct compute *c)
{
    struct blas *blas = (struct blas *)calloc(1, sizeof *blas);
    cuda_state(c)->blas = blas;
    if (blas == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for cuBLASLt's state");
    }
    const enum voco_status status = load(blas);
    if (status != VOCO_OK) {
        return status;
    }
    const cublasStatus_t error = blas->functions.create(&blas->handle);
    if (error != CUBLAS_STATUS_SUCCESS) {
        blas->handle = NULL;
        return fail(error == CUBLAS_STATUS_ALLOC_FAILED ? VOCO_NO_MEMORY : VOCO_UNSUPPORTED,
                    "opening cuBLASLt: its status is %d", (int)error);
    }
    return VOCO_OK;
}

void blas_close(struct compute *c)
{
    struct blas *blas = cuda_state(c)->blas;
    if (blas == NULL) {
        return;
    }
    blas_free_plans(c);
    if (blas->handle != NULL) {
        (void)blas->functions.destroy(blas->handle);
    }
    for (void *workspace : blas->workspaces) {
        c->release(c, workspace);
    }
    if (blas->library != NULL) {
        (void)dlclose(blas->library);
    }
    free(blas);
    cuda_state(c)->blas = NULL;
}
