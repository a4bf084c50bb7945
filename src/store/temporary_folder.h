/* The folders in which volumes are written before they are renamed: .KEY.HOST.PID.NUMBER.tmp in the cache's
 * folder. */
#ifndef STORE_TEMPORARY_FOLDER_H
#define STORE_TEMPORARY_FOLDER_H

#include "voco/status.h"

#include <stdint.h>

enum { host_word_size = 65 };

/* This machine's name without '/' and '.', for names of files. */
void host_word(char word[host_word_size]);

/* A path that no other process and no other call has. To be freed; NULL without memory. */
char *temporary_folder_path(const char *folder, uint64_t key);

/* Removes what killed processes left in the folder: temporary folders whose process on this machine is gone,
 * or that nobody has written to for an hour. */
enum voco_status temporary_folders_remove_abandoned(const char *folder);

#endif
