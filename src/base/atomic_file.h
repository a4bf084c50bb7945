/* Writing a file so that a reader sees the old content or the whole new one, whatever happens in between:
 * a temporary file beside it, fsync, rename, fsync of the folder. */
#ifndef BASE_ATOMIC_FILE_H
#define BASE_ATOMIC_FILE_H

#include "voco/status.h"

#include <stddef.h>
#include <stdio.h>

struct atomic_file {
    FILE *stream; /* write here; errors may be left to atomic_file_commit, which looks at ferror */
    char *path;
    char *temporary;
};

/* Opens PATH.tmp.<pid>.<n> for writing. */
enum voco_status atomic_file_open(struct atomic_file *file, const char *path);

/* Flushes, syncs, renames over `path`. On failure the temporary file is removed, `path` is as it was, and the
 * message names it. Frees `file` in any case. */
enum voco_status atomic_file_commit(struct atomic_file *file);

/* Gives up: removes the temporary file. Does nothing on a file that is not open. */
void atomic_file_discard(struct atomic_file *file);

/* Whether a file name is that of such a temporary file, left by a process that was killed. */
int is_atomic_temporary(const char *name);

/* Removes such files from the folder whose process is not on this machine and that nobody has written to for
 * a minute: they hold small things that are written at once. What cannot be removed stays. */
void atomic_files_remove_abandoned(const char *folder);

/* Makes the folder and its parents like `mkdir -p`. */
enum voco_status make_folders(const char *path);

#endif
