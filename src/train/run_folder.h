/* The folder of a run and run.json in it: what is needed to go on without naming anything again. */
#ifndef TRAIN_RUN_FOLDER_H
#define TRAIN_RUN_FOLDER_H

#include "train/recipe.h"

struct run_folder {
    char *data;  /* absolute path of DATA */
    char *cache; /* absolute path of the folder of prepared volumes */
    struct recipe recipe;
};

/* Whether `folder` holds a run: its run.json is there. */
int run_folder_exists(const char *folder);

/* Reads run.json. VOCO_BAD_INPUT names it and the cause. Free with run_folder_free, also after a failure. */
enum voco_status run_folder_read(struct run_folder *run, const char *folder);

/* Puts `data` and `cache` (where they are not NULL; a new run without `cache` gets folder/cache) into the run
 * as absolute paths, so that it can be resumed from anywhere. Makes the cache's folder, and with it `folder`.
 */
enum voco_status run_folder_place(struct run_folder *run, const char *folder, const char *data,
                                  const char *cache);

/* Makes the folder and writes run.json, whole or not at all. */
enum voco_status run_folder_write(const struct run_folder *run, const char *folder);
void run_folder_free(struct run_folder *run);

#endif
