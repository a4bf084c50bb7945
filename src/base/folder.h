/* Folders as wholes: synced and taken away with all that is in them. make_folders is in base/atomic_file.h.
 */
#ifndef BASE_FOLDER_H
#define BASE_FOLDER_H

#include "voco/status.h"

/* Removes the folder and everything below it; links are removed, not followed. Nothing there is no error. */
enum voco_status remove_folder(const char *path);

/* Makes what was created, renamed or removed in the folder last. A file system that cannot do that for
 * folders is no error. */
enum voco_status sync_folder(const char *path);

/* Puts the folder `from` in the place of `to`, whatever is there, in one go where the file system can; what
 * was there is removed. Both lie in the same folder, which is synced. */
enum voco_status replace_folder(const char *from, const char *to);

#endif
