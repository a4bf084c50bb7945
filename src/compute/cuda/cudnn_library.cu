#include "compute/cuda/cudnn.cuh"

#include "compute/cuda/conv_choice.cuh"
#include "compute/cuda/cudnn_plan.cuh"

extern "C" {
#include "base/error.h"
}

#include <dlfcn.h>
#include <stdlib.h>

static void *load_library(void)
{
    /* The second is where the toolkit's installer puts it, which the loader need not know of. */
    static const char *const names[] = {"libcudnn.so.9", "/usr/local/cuda/lib64/libcudnn.so.9"};
    void *library = NULL;
    for (size_t k = 0; library == NULL && k < sizeof names / sizeof names[0]; k++) {
        library = dlopen(names[k], RTLD_NOW | RTLD_LOCAL);
    }
    return library;
}

template <typename Function> static int find(void *library, Function *function, const char *name)
{
    *function = (Function)dlsym(library, name);
    return *function != NULL;
}

static int find_functions(struct cudnn *cudnn)
{
    void *const library = cudnn->library;
    return find(library, &cudnn->version, "cudnnGetVersion") &&
           find(library, &cudnn->error_string, "cudnnGetErrorString") &&
           find(library, &cudnn->last_error_string, "cudnnGetLastErrorString") &&
           find(library, &cudnn->create, "cudnnCreate") && find(library, &cudnn->destroy, "cudnnDestroy") &&
           find(library, &cudnn->set_stream, "cudnnSetStream") &&
           find(library, &cudnn->create_descriptor, "cudnnBackendCreateDescriptor") &&
           find(library, &cudnn->destroy_descriptor, "cudnnBackendDestroyDescriptor") &&
           find(library, &cudnn->finalize, "cudnnBackendFinalize") &&
           find(library, &cudnn->set_attribute, "cudnnBackendSetAttribute") &&
           find(library, &cudnn->get_attribute, "cudnnBackendGetAttribute") &&
           find(library, &cudnn->execute, "cudnnBackendExecute");
}

static enum voco_status open_handle(struct cudnn *cudnn, cudaStream_t stream)
{
    cudnnStatus_t status = cudnn->create(&cudnn->handle);
    if (status != CUDNN_STATUS_SUCCESS) {
        cudnn->handle = NULL;
        return fail(VOCO_UNSUPPORTED, "cuDNN %zu does not start on this GPU: %s", cudnn->version(),
                    cudnn->error_string(status));
    }
    status = cudnn->set_stream(cudnn->handle, stream);
    if (status != CUDNN_STATUS_SUCCESS) {
        return fail(VOCO_UNSUPPORTED, "cuDNN does not take the stream: %s", cudnn->error_string(status));
    }
    return VOCO_OK;
}

enum voco_status cudnn_open(struct compute *c)
{
    struct cudnn *cudnn = (struct cudnn *)calloc(1, sizeof *cudnn);
    if (cudnn == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for cuDNN");
    }
    cuda_state(c)->cudnn = cudnn;
    cudnn->library = load_library();
    if (cudnn->library == NULL) {
        return fail(VOCO_UNSUPPORTED, "cuDNN 9 cannot be loaded: %s", dlerror());
    }
    if (!find_functions(cudnn)) {
        return fail(VOCO_UNSUPPORTED, "libcudnn.so.9 lacks a function: %s", dlerror());
    }
    return open_handle(cudnn, cuda_state(c)->stream);
}

void cudnn_close(struct compute *c)
{
    struct cudnn *cudnn = cuda_state(c)->cudnn;
    if (cudnn == NULL) {
        return;
    }
    conv_choices_free(cudnn);
    if (cudnn->handle != NULL) {
        (void)cudnn->destroy(cudnn->handle);
    }
    if (cudnn->library != NULL) {
        (void)dlclose(cudnn->library);
    }
    free(cudnn);
    cuda_state(c)->cudnn = NULL;
}
