/* What is used of NCCL (https://docs.nvidia.com/deeplearning/nccl), loaded at run time: its header need not
 * be there. Names, values and forms of arguments are those of NCCL 2, where they have been the same
 * since 2.7, which brought sending and receiving. Arrays are handed over as bytes, whatever is in them. */
#ifndef DIST_NCCL_LIBRARY_H
#define DIST_NCCL_LIBRARY_H

#include "voco/status.h"

#include <stddef.h>

enum nccl_result { NCCL_SUCCESS = 0, NCCL_IN_PROGRESS = 7 };
enum nccl_data_type { NCCL_UINT8 = 1 };

/* Names a job to all who come together in it. */
struct nccl_unique_id {
    char internal[128];
};

struct nccl_comm; /* one rank's end of a job */

/* `stream` is a cudaStream_t: calls are queued there, or, between group_start and group_end, by the latter,
 * all at once. */
struct nccl_functions {
    enum nccl_result (*get_version)(
        int *version); /* 10000 major + 100 minor + patch; before 2.9 1000 major */
    enum nccl_result (*get_unique_id)(struct nccl_unique_id *id);
    enum nccl_result (*comm_init_rank)(struct nccl_comm **comm, int size, struct nccl_unique_id id, int rank);
    enum nccl_result (*comm_destroy)(struct nccl_comm *comm);
    enum nccl_result (*comm_abort)(struct nccl_comm *comm); /* ends what is queued, and frees */
    enum nccl_result (*comm_get_async_error)(struct nccl_comm *comm, enum nccl_result *error);
    const char *(*get_error_string)(enum nccl_result result);
    const char *(*get_last_error)(struct nccl_comm *comm); /* more in words; NULL: older than 2.13 */
    enum nccl_result (*group_start)(void);
    enum nccl_result (*group_end)(void);
    enum nccl_result (*send)(const void *from, size_t count, enum nccl_data_type type, int peer,
                             struct nccl_comm *comm, void *stream);
    enum nccl_result (*recv)(void *to, size_t count, enum nccl_data_type type, int peer,
                             struct nccl_comm *comm, void *stream);
    enum nccl_result (*all_gather)(const void *own, void *all, size_t count, enum nccl_data_type type,
                                   struct nccl_comm *comm, void *stream);
    enum nccl_result (*broadcast)(const void *from, void *to, size_t count, enum nccl_data_type type,
                                  int root, struct nccl_comm *comm, void *stream);
};

struct nccl_library {
    void *library; /* NULL: none */
    struct nccl_functions functions;
    int version;
};

/* Loads it as ranks_join_device says. VOCO_UNSUPPORTED, with the cause, where it is not to be had. */
enum voco_status nccl_library_open(struct nccl_library *nccl);
void nccl_library_close(struct nccl_library *nccl); /* harmless on a zeroed one */

/* "2.21.5"; text: at least 32 bytes. */
const char *nccl_version_text(char *text, int version);

#endif
