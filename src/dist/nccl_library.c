#include "dist/nccl_library.h"

#include "base/error.h"
#include "dist/ranks.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { oldest_version = 2700 };

int ranks_nccl_is_off(void)
{
    const char *named = getenv("VOCO_NCCL");
    return named != NULL && strcmp(named, "0") == 0;
}

static void *load(void)
{
    const char *named = getenv("VOCO_NCCL");
    if (named != NULL && *named != '\0') {
        return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    }
    /* The second is where the toolkit's installer puts libraries, which the loader need not know of. */
    static const char *const names[] = {"/usr/local/cuda/lib64/libnccl.so.2", "libnccl.so.2"};
    void *library = NULL;
    for (size_t k = sizeof names / sizeof names[0]; library == NULL && k-- > 0;) {
        library = dlopen(names[k], RTLD_NOW | RTLD_LOCAL);
    }
    return library;
}

/* A pointer to a function, as dlsym has it, into a member of its own type. */
static int find(void *library, void *function, const char *name)
{
    void *const found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static int find_functions(struct nccl_functions *f, void *library)
{
    (void)find(library, &f->get_last_error, "ncclGetLastError");
    return find(library, &f->get_version, "ncclGetVersion") &&
           find(library, &f->get_unique_id, "ncclGetUniqueId") &&
           find(library, &f->comm_init_rank, "ncclCommInitRank") &&
           find(library, &f->comm_destroy, "ncclCommDestroy") &&
           find(library, &f->comm_abort, "ncclCommAbort") &&
           find(library, &f->comm_get_async_error, "ncclCommGetAsyncError") &&
           find(library, &f->get_error_string, "ncclGetErrorString") &&
           find(library, &f->group_start, "ncclGroupStart") && find(library, &f->group_end, "ncclGroupEnd") &&
           find(library, &f->send, "ncclSend") && find(library, &f->recv, "ncclRecv") &&
           find(library, &f->all_gather, "ncclAllGather") && find(library, &f->broadcast, "ncclBroadcast");
}

static enum voco_status open_library(struct nccl_library *nccl)
{
    char text[32];
    if (ranks_nccl_is_off()) {
        return fail(VOCO_UNSUPPORTED, "VOCO_NCCL=0");
    }
    nccl->library = load();
    if (nccl->library == NULL) {
        return fail(VOCO_UNSUPPORTED, "NCCL cannot be loaded: %s", dlerror());
    }
    if (!find_functions(&nccl->functions, nccl->library)) {
        return fail(VOCO_UNSUPPORTED, "libnccl.so.2 lacks a function: %s", dlerror());
    }
    if (nccl->functions.get_version(&nccl->version) != NCCL_SUCCESS || nccl->version < oldest_version) {
        return fail(VOCO_UNSUPPORTED, "NCCL is version %s; 2.7 and later ones are supported",
                    nccl_version_text(text, nccl->version));
    }
    return VOCO_OK;
}

enum voco_status nccl_library_open(struct nccl_library *nccl)
{
    *nccl = (struct nccl_library){0};
    const enum voco_status status = open_library(nccl);
    if (status != VOCO_OK) {
        nccl_library_close(nccl);
    }
    return status;
}

void nccl_library_close(struct nccl_library *nccl)
{
    if (nccl->library != NULL) {
        (void)dlclose(nccl->library);
    }
    *nccl = (struct nccl_library){0};
}

const char *nccl_version_text(char *text, int version)
{
    const int of_major = version < 10000 ? 1000 : 10000;
    (void)snprintf(text, 32, "%d.%d.%d", version / of_major, version % of_major / 100, version % 100);
    return text;
}
