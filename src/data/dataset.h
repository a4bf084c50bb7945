/* What the user calls DATA: which volumes there are, what each is for, and how it is prepared. DATA is one of
 *
 *   - a MSD/decathlon list, JSON: {"training": [...], "validation": [...], "test": [...]}, any of the three,
 *     where an entry is a path or {"image": path, ...}; "image" may be a list of paths, of which the first
 *     counts. Other keys are not looked at;
 *   - a folder: its dataset.json where there is one, else all *.nii and *.nii.gz in it and in the folders
 *     below, sorted by name (bytes). Hidden files and folders are left out, and folders whose name begins
 *     with "labels", which hold segmentations in MSD and nnU-Net sets, or ends in ".zarr", which hold chunks.
 *     A link that leads nowhere counts as a volume, so that it is reported;
 *   - a text file of paths, one a line; lines that begin with '#' and empty ones are left out;
 *   - a cache of prepared volumes (store/volume_cache.h): its volumes as they were listed when they were
 * cached;
 *   - one NIfTI file;
 *   - a corpus, *.yaml or *.yml: several such sets, each with its own preset and weight (data/corpus.h).
 *
 * Relative paths in a list are relative to the list's folder, in a corpus to the set's root. What no list
 * splits is for training. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "voco/status.h"
#include "volume/prepare.h"

#include <signal.h>
#include <stddef.h>

enum dataset_split { SPLIT_TRAINING, SPLIT_VALIDATION, SPLIT_TEST };

/* "training", "validation", "test", by enum dataset_split; NULL after the last. */
extern const char *const dataset_split_names[];

struct dataset_entry {
    char *path; /* to open it by */
    char *name; /* as the list has it, or relative to the folder; without a leading "./". In a corpus its
                   set's name and '/' stand before it, so that no two sets share a name */
    enum dataset_split split;  /* what it is for now: what is held out for a run moves */
    enum dataset_split listed; /* as its list has it */
    int set;                   /* index into sets */
};

/* One data set of a corpus. DATA that is no corpus has one, unnamed. */
struct dataset_set {
    char *name;           /* "BTCV"; "" */
    int has_preset;       /* whether the corpus says how its volumes are prepared; else the caller's preset
                             counts, and `preset` is all zero */
    struct preset preset; /* the named one with what the set has of its own: spacing, HU window, and in
                             preset.window how the 3R x 3R x R window is taken */
    int repeat;           /* how often an epoch sees each of its volumes, >= 1 */
    size_t count;         /* entries of this set, of all splits */
    size_t missing;       /* files that its lists name and that cannot be used */
    char *problem;        /* NULL, or one line: why the set has no volumes, or which files are missing */
};

struct dataset {
    struct dataset_entry *entries; /* (count): training, then validation, then test, each in the order of the
                                      sets and of their lists */
    size_t count;
    size_t capacity;
    struct dataset_set *sets; /* (set_count): in the order of the corpus, those without volumes too */
    int set_count;
    int is_cache; /* DATA is a cache: an entry's path is that of a cached volume (store/volume_cache.h), and
                     its set says how it was prepared */
    int levels;   /* then the most that any of its volumes has (store/volume_attributes.h) */
};

/* Reads DATA. VOCO_BAD_INPUT or VOCO_IO, naming the file and the line where there is one: nothing of that
 * name, a folder or list without volumes, text that is not JSON, an entry that is not a path, a list that
 * names a file that is not there. In a corpus only its own text and the want of any volume at all are such
 * errors: a set or file that is not there is said in the set's `problem` and, as a warning, through the log.
 * Free with dataset_free. */
enum voco_status dataset_open(struct dataset *dataset, const char *data);
void dataset_free(struct dataset *dataset);

/* The same, but DICOM series in a folder that holds no NIfTI file are converted into `converted_folder` first
 * (data/dicom.h), in a corpus each set's into a folder of its name there. dataset_open refuses such a folder
 * with a line that says what to do. Fails besides with VOCO_UNSUPPORTED where dcm2niix is not installed and
 * VOCO_STOPPED where *stop becomes non-zero; `stop` may be NULL. */
enum voco_status dataset_open_converting(struct dataset *dataset, const char *data,
                                         const char *converted_folder, const volatile sig_atomic_t *stop);

/* The two list formats from memory. `list` names the list in messages, `folder` is what relative paths are
 * relative to. Whether the files exist is not looked at. `text` need not end in a zero. */
enum voco_status dataset_parse_json(struct dataset *dataset, const char *text, size_t length,
                                    const char *list, const char *folder);
enum voco_status dataset_parse_text(struct dataset *dataset, const char *text, size_t length,
                                    const char *list, const char *folder);

/* Where nothing is in the validation split, moves about `fraction` (0 to 1) of the training entries there.
 * Which ones depends on nothing but each entry's name: it is held out where hash(name) / 2^64 < fraction
 * (hash: base/name_hash.h). So it is the same on every machine, and volumes that are added to a set or leave
 * it, or sets that are added to a corpus or leave it, never move another across the line. Of two entries and
 * more at least one is held out (that with the smallest hash) and at least one is kept (that with the
 * largest). Does nothing where fraction <= 0. Fails with VOCO_NO_MEMORY only. */
enum voco_status dataset_hold_out(struct dataset *dataset, double fraction);

/* How many entries are in a split. */
size_t dataset_count(const struct dataset *dataset, enum dataset_split split);

/* Of DATA that is a cache: for each entry the folder of the array that training reads. An array of `count`
 * texts, to be freed one by one and itself. NULL without memory. */
char **dataset_array_paths(const struct dataset *dataset);

#endif
