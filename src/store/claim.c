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

struct held_claim {
    uint64_t key;
    ino_t inode; /* of its file: one that was taken over is another's */
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
        char path[path_room];
        struct stat info;
        if (claim_path(path, claims->folder, held->key) && lstat(path, &info) == 0 &&
            info.st_ino == held->inode) {
            (void)utimensat(AT_FDCWD, path, NULL, 0); /* to the file server's time */
        }
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

/* Writes the file that is to become the claim. *now: the file server's time. */
static enum voco_status write_candidate(const char *path, const char *text, const char *folder,
                                        struct stat *info)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) {
        return fail_errno("%s: cannot write to the folder", folder);
    }
    const size_t length = strlen(text);
    errno = ENOSPC; /* of a write that is cut short */
    int written = write(file, text, length) == (ssize_t)length && fstat(file, info) == 0;
    const int cause = errno;
    if (close(file) != 0) {
        written = 0;
    } else {
        errno = cause;
    }
    if (!written) {
        const enum voco_status status = fail_errno("%s: cannot write to the folder", folder);
        (void)unlink(path);
        return status;
    }
    return VOCO_OK;
}

/* Gives the candidate the claim's name. Returns 1 where it has it now, 0 where the name is taken. */
static int publish(const char *candidate, const char *path, const char *text, struct stat *info)
{
    if (link(candidate, path) == 0) {
        return 1;
    }
    if (errno == EEXIST) {
        /* The answer of a server that had done it may have been lost on the way, and asked for again. */
        return lstat(candidate, info) == 0 && info->st_nlink == 2;
    }
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) {
        return 0;
    }
    const size_t length = strlen(text);
    const int written = write(file, text, length) == (ssize_t)length && fstat(file, info) == 0;
    close(file);
    if (!written) {
        (void)unlink(path);
    }
    return written;
}

static enum voco_status remember(struct claims *claims, uint64_t key, ino_t inode)
{
    struct held_claim *held = malloc(sizeof *held);
    if (held == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", claims->folder);
    }
    pthread_mutex_lock(&claims->lock);
    *held = (struct held_claim){.key = key, .inode = inode, .next = claims->held};
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
    struct stat info = {0};
    struct found_claim found = {0};
    if (!claim_path(path, claims->folder, key) || !temporary_path(candidate, claims, key)) {
        return fail(VOCO_IO, "%s: the name is too long", claims->folder);
    }
    claim_holder_format(text, &claims->self);
    enum voco_status status = write_candidate(candidate, text, claims->folder, &info);
    if (status != VOCO_OK) {
        return status;
    }
    const time_t now = info.st_mtim.tv_sec;
    for (int attempt = 0; attempt < most_attempts && !*taken; attempt++) {
        *taken = publish(candidate, path, text, &info);
        if (*taken || !look_at_claim(&found, path)) {
            continue;
        }
        const int stale = now - found.touched.tv_sec > claim_stale_seconds ||
                          (found.holder.pid > 0 && claim_holder_is_gone(&found.holder, &claims->self));
        if (!stale) {
            break;
        }
        take_away(claims, key, path, &found);
    }
    (void)unlink(candidate);
    if (*taken) {
        status = remember(claims, key, info.st_ino);
        if (status != VOCO_OK) {
            *taken = 0;
            (void)unlink(path);
        }
    } else if (holder != NULL) {
        *holder = found.holder;
    }
    return status;
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
        char path[path_room];
        struct stat info;
        *place = held->next;
        if (claim_path(path, claims->folder, key) && lstat(path, &info) == 0 && info.st_ino == held->inode) {
            (void)unlink(path);
        }
        free(held);
    }
    pthread_mutex_unlock(&claims->lock);
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
