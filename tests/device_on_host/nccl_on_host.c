/* A stand-in for libnccl.so.2, for tests alone: the functions of NCCL that src/dist/nccl_library.h names,
 * between processes of one machine, on the memory and the queues of devices that the host plays
 * (device_on_host.h). It is loaded as NCCL is, by VOCO_NCCL=FILE, and so runs everything of
 * src/dist/ranks_nccl.c where there is no GPU. What it cannot show is whether NCCL itself does as its
 * documentation says.
 *
 * Messages go through rings in shared memory, one for each pair of ranks. As with NCCL, calls are queued and
 * return at once; the messages of a group progress together, those between the same two ranks in the order of
 * their calls.
 *
 * NCCL_ON_HOST_FAILS=N: from the N-th group on nothing arrives any more, and ncclCommGetAsyncError says so.
 */
#include "queue_on_host.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { success = 0, system_error = 2, invalid_argument = 4, invalid_usage = 5, remote_error = 6 };
enum { id_bytes = 128, ring_bytes = 1 << 16, group_most = 256 };

struct unique_id {
    char internal[id_bytes];
};

/* Bytes from one rank to another; each counter is written by one of them. */
struct ring {
    _Atomic size_t written, read;
    unsigned char bytes[ring_bytes];
};

struct shared {
    _Atomic int here, left;
    struct ring rings[]; /* (size, size): from, to */
};

struct ncclComm {
    int rank, size;
    char name[id_bytes];
    struct shared *shared;
    size_t shared_bytes;
    int fails_at, groups; /* 0: never */
    _Atomic int aborted, failed;
};

struct message {
    struct ncclComm *comm;
    struct queue_on_host *queue;
    int receives, peer;
    unsigned char *at;
    size_t left;
};

struct group {
    int count;
    struct message messages[group_most];
};

int ncclGetVersion(int *version);
int ncclGetUniqueId(struct unique_id *id);
int ncclCommInitRank(struct ncclComm **comm, int size, struct unique_id id, int rank);
int ncclCommDestroy(struct ncclComm *comm);
int ncclCommAbort(struct ncclComm *comm);
int ncclCommGetAsyncError(struct ncclComm *comm, int *error);
const char *ncclGetErrorString(int result);
int ncclGroupStart(void);
int ncclGroupEnd(void);
int ncclSend(const void *from, size_t count, int type, int peer, struct ncclComm *comm, void *stream);
int ncclRecv(void *to, size_t count, int type, int peer, struct ncclComm *comm, void *stream);
int ncclAllGather(const void *own, void *all, size_t count, int type, struct ncclComm *comm, void *stream);
int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, struct ncclComm *comm,
                  void *stream);

static void nap(void)
{
    const struct timespec time = {.tv_nsec = 20000};
    (void)nanosleep(&time, NULL);
}

int ncclGetVersion(int *version)
{
    *version = 22105;
    return success;
}

const char *ncclGetErrorString(int result)
{
    return result == remote_error ? "remote process exited or there was a network error"
                                  : "a failure of the stand-in for NCCL";
}

/* ---- coming together ---- */

int ncclGetUniqueId(struct unique_id *id)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    memset(id, 0, sizeof *id);
    (void)snprintf(id->internal, sizeof id->internal, "/nccl_on_host.%ld.%ld.%ld", (long)getpid(),
                   (long)now.tv_sec, now.tv_nsec);
    return success;
}

static struct shared *map_shared(const char *name, size_t bytes)
{
    const int file = shm_open(name, O_RDWR | O_CREAT, 0600);
    if (file < 0) {
        return NULL;
    }
    void *memory = ftruncate(file, (off_t)bytes) == 0
                       ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
                       : MAP_FAILED;
    (void)close(file);
    return memory == MAP_FAILED ? NULL : memory;
}

int ncclCommInitRank(struct ncclComm **comm, int size, struct unique_id id, int rank)
{
    struct ncclComm *c = calloc(1, sizeof *c);
    const char *fails = getenv("NCCL_ON_HOST_FAILS");
    if (c == NULL || rank < 0 || rank >= size) {
        free(c);
        return invalid_argument;
    }
    c->rank = rank;
    c->size = size;
    c->fails_at = fails != NULL ? atoi(fails) : 0;
    memcpy(c->name, id.internal, sizeof c->name);
    c->shared_bytes = sizeof *c->shared + (size_t)size * (size_t)size * sizeof(struct ring);
    c->shared = map_shared(c->name, c->shared_bytes);
    if (c->shared == NULL) {
        free(c);
        return system_error;
    }
    (void)atomic_fetch_add(&c->shared->here, 1);
    while (atomic_load(&c->shared->here) < size) {
        nap();
    }
    (void)shm_unlink(c->name);
    *comm = c;
    return success;
}

int ncclCommDestroy(struct ncclComm *comm)
{
    (void)munmap(comm->shared, comm->shared_bytes);
    free(comm);
    return success;
}

/* What is queued may still look at it. */
int ncclCommAbort(struct ncclComm *comm)
{
    atomic_store(&comm->aborted, 1);
    return success;
}

int ncclCommGetAsyncError(struct ncclComm *comm, int *error)
{
    *error = atomic_load(&comm->failed) ? remote_error : success;
    return success;
}

/* ---- messages ---- */

/* Moves what there is and fits; whether there was any. */
static int move_bytes(struct message *m)
{
    const int from = m->receives ? m->peer : m->comm->rank, to = m->receives ? m->comm->rank : m->peer;
    struct ring *ring = &m->comm->shared->rings[from * m->comm->size + to];
    const size_t written = atomic_load(&ring->written), read = atomic_load(&ring->read);
    const size_t place = (m->receives ? read : written) % ring_bytes;
    size_t bytes = m->receives ? written - read : ring_bytes - (written - read);
    bytes = bytes < ring_bytes - place ? bytes : ring_bytes - place;
    bytes = bytes < m->left ? bytes : m->left;
    if (m->receives) {
        memcpy(m->at, ring->bytes + place, bytes);
        atomic_store(&ring->read, read + bytes);
    } else {
        memcpy(ring->bytes + place, m->at, bytes);
        atomic_store(&ring->written, written + bytes);
    }
    m->at += bytes;
    m->left -= bytes;
    return bytes > 0;
}

/* Whether one before it in the group has the same way and is not through. */
static int must_wait(const struct group *group, int number)
{
    const struct message *m = &group->messages[number];
    for (int k = 0; k < number; k++) {
        const struct message *other = &group->messages[k];
        if (other->left > 0 && other->peer == m->peer && other->receives == m->receives) {
            return 1;
        }
    }
    return 0;
}

static void carry_out(void *argument)
{
    struct group *group = argument;
    struct ncclComm *comm = group->messages[0].comm;
    if (comm->fails_at > 0 && ++comm->groups >= comm->fails_at) {
        atomic_store(&comm->failed, 1);
    }
    for (int left = 1; left > 0;) {
        int moved = 0;
        left = 0;
        for (int k = 0; k < group->count && !atomic_load(&comm->failed); k++) {
            if (group->messages[k].left > 0 && !must_wait(group, k)) {
                moved |= move_bytes(&group->messages[k]);
            }
            left += group->messages[k].left > 0;
        }
        left += atomic_load(&comm->failed);
        if (atomic_load(&comm->aborted)) {
            break;
        }
        if (left > 0 && !moved) {
            nap();
        }
    }
    free(group);
}

/* ---- groups ---- */

static _Thread_local struct group *open_group;
static _Thread_local int depth;

int ncclGroupStart(void)
{
    depth++;
    return success;
}

int ncclGroupEnd(void)
{
    struct group *group = open_group;
    if (depth == 0) {
        return invalid_usage;
    }
    if (--depth == 0 && group != NULL) {
        struct queue_on_host *queue = group->messages[0].queue;
        open_group = NULL;
        queue->add(queue, carry_out, group);
    }
    return success;
}

static int add(int receives, const void *at, size_t bytes, int type, int peer, struct ncclComm *comm,
               void *stream)
{
    enum { uint8 = 1 };
    if (type != uint8 || peer < 0 || peer >= comm->size || peer == comm->rank) {
        return invalid_argument; /* no test sends anything else */
    }
    if (open_group == NULL) {
        open_group = calloc(1, sizeof *open_group);
    }
    if (open_group == NULL || open_group->count == group_most) {
        return system_error;
    }
    open_group->messages[open_group->count++] = (struct message){.comm = comm,
                                                                 .queue = stream,
                                                                 .receives = receives,
                                                                 .peer = peer,
                                                                 .at = (unsigned char *)at,
                                                                 .left = bytes};
    return success;
}

int ncclSend(const void *from, size_t count, int type, int peer, struct ncclComm *comm, void *stream)
{
    (void)ncclGroupStart();
    const int result = add(0, from, count, type, peer, comm, stream);
    return result != success ? result : ncclGroupEnd();
}

int ncclRecv(void *to, size_t count, int type, int peer, struct ncclComm *comm, void *stream)
{
    (void)ncclGroupStart();
    const int result = add(1, to, count, type, peer, comm, stream);
    return result != success ? result : ncclGroupEnd();
}

/* In place, as is asked for here. */
int ncclAllGather(const void *own, void *all, size_t count, int type, struct ncclComm *comm, void *stream)
{
    unsigned char *pieces = all;
    int result = pieces + (size_t)comm->rank * count == own ? success : invalid_argument;
    (void)ncclGroupStart();
    for (int peer = 0; peer < comm->size && result == success; peer++) {
        if (peer != comm->rank) {
            result = add(0, own, count, type, peer, comm, stream);
            result = result == success
                         ? add(1, pieces + (size_t)peer * count, count, type, peer, comm, stream)
                         : result;
        }
    }
    return result != success ? result : ncclGroupEnd();
}

int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, struct ncclComm *comm,
                  void *stream)
{
    int result = from == to ? success : invalid_argument;
    (void)ncclGroupStart();
    for (int peer = 0; peer < comm->size && result == success; peer++) {
        if (comm->rank == root && peer != root) {
            result = add(0, from, count, type, peer, comm, stream);
        }
    }
    if (comm->rank != root && result == success) {
        result = add(1, to, count, type, root, comm, stream);
    }
    return result != success ? result : ncclGroupEnd();
}
