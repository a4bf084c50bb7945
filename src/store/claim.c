#include "store/claim.h"

#include "base/error.h"
#include "store/temporary_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { path_room = 4096, most_attempts = 5, seconds_until_abandoned = 3600 };
enum { most_waits_for_return = 200, nanoseconds_of_a_wait = 5000000 }; /* together one second */

struct held_claim {
    uint64_t key;
    int file; /* the claim's, open: it is followed when somebody renames it */
    struct held_claim *next;
};

struct claims {
    char *folder;
    struct claim_holder self;
    pthread_t toucher;
    pthread_mutex_t lock; /* for what follows */
    pthread_cond_t closing_now;
    int closing;
    struct held_claim *held;
};

static int claim_path(char path[path_room], const char *folder, uint64_t key)
{
    const int length = snprintf(path, path_room, "%s/.%016llx.claim", folder, (unsigned long long)key);
    return length > 0 && length < path_room;
}

/* FOLDER/.KEY.claim-HOST.PID.NUMBER.tmp: of this process alone. */
static int temporary_path(char path[path_room], const struct claims *claims, uint64_t key)
{
    static atomic_uint serial;
    char host[host_word_size];
    host_word(host);
    const int length = snprintf(path, path_room, "%s/.%016llx.claim-%s.%ld.%u.tmp", claims->folder,
                                (unsigned long long)key, host, (long)getpid(), atomic_fetch_add(&serial, 1U));
    return length > 0 && length < path_room;
}

/* ---- keeping claims alive ---- */

static void touch_held(const struct claims *claims)
{
    for (const struct held_claim *held = claims->held; held != NULL; held = held->next) {
        (void)futimens(held->file, NULL); /* to the file server's time */
    }
}

static void *keep_touching(void *context)
{
    struct claims *claims = context;
    pthread_mutex_lock(&claims->lock);
    while (!claims->closing) {
        struct timespec until;
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += claim_touch_seconds;
        if (pthread_cond_timedwait(&claims->closing_now, &claims->lock, &until) == ETIMEDOUT) {
            touch_held(claims);
        }
    }
    pthread_mutex_unlock(&claims->lock);
    return NULL;
}

enum voco_status claims_open(struct claims **out, const char *folder)
{
    *out = NULL;
    struct claims *claims = calloc(1, sizeof *claims);
    if (claims == NULL || (claims->folder = strdup(folder)) == NULL) {
        free(claims);
        return fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    }
    claim_holder_self(&claims->self);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&claims->lock, NULL);
    (void)pthread_cond_init(&claims->closing_now, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (pthread_create(&claims->toucher, NULL, keep_touching, claims) != 0) {
        (void)pthread_cond_destroy(&claims->closing_now);
        (void)pthread_mutex_destroy(&claims->lock);
        free(claims->folder);
        free(claims);
        return fail(VOCO_NO_MEMORY, "%s: cannot start the thread that keeps claims", folder);
    }
    *out = claims;
    return VOCO_OK;
}

void claims_close(struct claims *claims)
{
    if (claims == NULL) {
        return;
    }
    pthread_mutex_lock(&claims->lock);
    claims->closing = 1;
    (void)pthread_cond_signal(&claims->closing_now);
    pthread_mutex_unlock(&claims->lock);
    (void)pthread_join(claims->toucher, NULL);
    while (claims->held != NULL) {
        claim_drop(claims, claims->held->key);
    }
    (void)pthread_cond_destroy(&claims->closing_now);
    (void)pthread_mutex_destroy(&claims->lock);
    free(claims->folder);
    free(claims);
}

/* ---- judging another's claim ---- */

struct found_claim {
    ino_t inode;
    struct timespec touched;
    struct claim_holder holder; /* all zero where the file does not say */
};

/* Returns 0 where there is none. */
static int look_at_claim(struct found_claim *found, const char *path)
{
    *found = (struct found_claim){0};
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) {
        return 0;
    }
    struct stat info;
    char text[claim_text_size];
    const int known = fstat(file, &info) == 0;
    const ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = '\0';
    if (known) {
        found->inode = info.st_ino;
        found->touched = info.st_mtim;
    }
    if (!claim_holder_parse(&found->holder, text)) {
        found->holder = (struct claim_holder){0};
    }
    return known;
}

/* Removes the claim that was judged stale and no other. Somebody may have taken it over since: a file that is
 * not the one that was judged is put back. */
static void take_away(const struct claims *claims, uint64_t key, const char *path,
                      const struct found_claim *judged)
{
    char aside[path_room];
    struct stat info;
    if (!temporary_path(aside, claims, key) || rename(path, aside) != 0) {
        return;
    }
    if (lstat(aside, &info) == 0 &&
        (info.st_ino != judged->inode || info.st_mtim.tv_sec != judged->touched.tv_sec ||
         info.st_mtim.tv_nsec != judged->touched.tv_nsec)) {
        (void)link(aside, path);
    }
    (void)unlink(aside);
}

/* ---- taking ---- */

/* Returns 0, with errno, where it cannot. *written: by the file server's time. */
static int write_claim(const char *path, const char *text, struct timespec *written)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) {
        return 0;
    }
    struct stat info = {0};
    const size_t length = strlen(text);
    errno = ENOSPC; /* of a write that is cut short */
    int done = write(file, text, length) == (ssize_t)length && fstat(file, &info) == 0;
    int cause = errno;
    if (close(file) != 0 && done) {
        done = 0;
        cause = errno;
    }
    if (!done) {
        (void)unlink(path);
        errno = cause;
    }
    *written = info.st_mtim;
    return done;
}

/* Gives the candidate the claim's name. Returns the claim's file, open, or -1 where the name is taken. */
static int publish(const char *candidate, const char *path, const char *text)
{
    const char *mine = candidate; /* nobody else renames this one */
    struct stat info;
    struct timespec written;
    if (link(candidate, path) != 0) {
        if (errno == EEXIST) {
            /* The answer of a server that had done it may have been lost on the way, and asked for again. */
            if (lstat(candidate, &info) != 0 || info.st_nlink != 2) {
                return -1;
            }
        } else if (write_claim(path, text, &written)) { /* a file system without links */
            mine = path;
        } else {
            return -1;
        }
    }
    const int file = open(mine, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) {
        (void)unlink(path);
    }
    return file;
}

/* Takes over `file`. */
static enum voco_status remember(struct claims *claims, uint64_t key, int file)
{
    struct held_claim *held = malloc(sizeof *held);
    if (held == NULL) {
        close(file);
        return fail(VOCO_NO_MEMORY, "%s: out of memory", claims->folder);
    }
    pthread_mutex_lock(&claims->lock);
    *held = (struct held_claim){.key = key, .file = file, .next = claims->held};
    claims->held = held;
    pthread_mutex_unlock(&claims->lock);
    return VOCO_OK;
}

enum voco_status claim_take(struct claims *claims, uint64_t key, int *taken, struct claim_holder *holder)
{
    *taken = 0;
    char path[path_room];
    char candidate[path_room];
    char text[claim_text_size];
    struct timespec now;
    struct found_claim found = {0};
    if (!claim_path(path, claims->folder, key) || !temporary_path(candidate, claims, key)) {
        return fail(VOCO_IO, "%s: the name is too long", claims->folder);
    }
    claim_holder_format(text, &claims->self);
    if (!write_claim(candidate, text, &now)) {
        return fail_errno("%s: cannot write to the folder", claims->folder);
    }
    int file = -1;
    for (int attempt = 0; attempt < most_attempts && file < 0; attempt++) {
        file = publish(candidate, path, text);
        if (file >= 0 || !look_at_claim(&found, path)) {
            continue;
        }
        const int stale = now.tv_sec - found.touched.tv_sec > claim_stale_seconds ||
                          (found.holder.pid > 0 && claim_holder_is_gone(&found.holder, &claims->self));
        if (!stale) {
            break;
        }
        take_away(claims, key, path, &found);
    }
    (void)unlink(candidate);
    if (file < 0) {
        if (holder != NULL) {
            *holder = found.holder;
        }
        return VOCO_OK;
    }
    const enum voco_status status = remember(claims, key, file);
    if (status != VOCO_OK) {
        (void)unlink(path);
        return status;
    }
    *taken = 1;
    return VOCO_OK;
}

/* ---- giving back ---- */

/* Another process that means the claim that was here before may have this one aside for a moment (take_away):
 * it is waited for, or it would come back when nobody holds it any more. */
static void remove_claim(const char *path, int file)
{
    struct stat own;
    struct stat named;
    for (int wait = 0; wait < most_waits_for_return && fstat(file, &own) == 0 && own.st_nlink > 0; wait++) {
        if (lstat(path, &named) == 0 && named.st_ino == own.st_ino) {
            (void)unlink(path);
            return;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = nanoseconds_of_a_wait}, NULL);
    }
}

void claim_drop(struct claims *claims, uint64_t key)
{
    pthread_mutex_lock(&claims->lock);
    struct held_claim **place = &claims->held;
    while (*place != NULL && (*place)->key != key) {
        place = &(*place)->next;
    }
    struct held_claim *held = *place;
    if (held != NULL) {
        *place = held->next;
    }
    pthread_mutex_unlock(&claims->lock);
    if (held != NULL) {
        char path[path_room];
        if (claim_path(path, claims->folder, key)) {
            remove_claim(path, held->file);
        }
        close(held->file);
        free(held);
    }
}

/* ---- cleaning up ---- */

/* ".0123456789abcdef.claim", or ".0123456789abcdef.claim-HOST.PID.NUMBER.tmp". */
static int is_claim_name(uint64_t *key, const char *name)
{
    unsigned long long value = 0;
    int read = 0;
    if (sscanf(name, ".%16llx.claim%n", &value, &read) != 1 || read != 23) {
        return 0;
    }
    *key = value;
    const size_t length = strlen(name);
    return length == 23 || (name[23] == '-' && length > 4 && strcmp(name + length - 4, ".tmp") == 0);
}

void claims_remove_abandoned(const char *folder)
{
    struct claims claims = {.folder = (char *)folder};
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return;
    }
    claim_holder_self(&claims.self);
    const time_t now = time(NULL);
    const struct dirent *item = NULL;
    while ((item = readdir(dir)) != NULL) {
        uint64_t key = 0;
        char path[path_room];
        struct found_claim found;
        const int length = snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        if (!is_claim_name(&key, item->d_name) || length < 0 || length >= path_room ||
            !look_at_claim(&found, path)) {
            continue;
        }
        if (now - found.touched.tv_sec > seconds_until_abandoned ||
            (found.holder.pid > 0 && claim_holder_is_gone(&found.holder, &claims.self))) {
            take_away(&claims, key, path, &found);
        }
    }
    closedir(dir);
}
