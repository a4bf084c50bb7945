/* A corpus: several data sets, each with its own preset and weight, described in one YAML file.
 *
 *     root: data                      # of the sets' roots; relative to this file's folder, which is the
 * default sets:
 *       - name: BTCV                  # unique; stands before the names of its volumes
 *         root: BTCV                  # relative to the corpus's root; default: the name
 *         list: dataset.json          # relative to the set's root
 *         use: [training, validation] # parts of a JSON list that are taken; default: all
 *         preset: abdomen             # abdomen, chest, headneck, mr
 *         spacing: [1.5, 1.5, 1.5]    # mm; instead of the preset's
 *         window: [-175, 250]         # HU; instead of the preset's intensities
 *         take: crop                  # crop or resize: how the 3R x 3R x R window is taken
 *         repeat: 8                   # how often an epoch sees each volume; default: 1
 *         split: training             # of all its volumes, whatever the list says: training, validation,
 * test
 *
 * `name` is the only key that a set must have. A set with neither preset nor spacing, window and take is
 * prepared as the caller says; with spacing and window it needs no preset, and is cropped unless `take` says
 * otherwise. `list` is one of these or a YAML list of several:
 *
 *   - a list of volumes as in data/dataset.h, JSON or text, or one NIfTI file; relative paths in a list are
 *     relative to the set's root, wherever the list lies;
 *   - a pattern with *, ? or [...] (glob(7)), for NIfTI files and for folders, which are searched; a file or
 *     folder that several patterns find counts once;
 *   - a folder ("." is the root): all NIfTI files in it and below, whatever lists lie there.
 *
 * Without `list` the root counts as a folder does in data/dataset.h: its dataset.json, else all NIfTI files.
 *
 * What is not of this form is refused: other keys, a key or a name that comes twice, anchors, aliases and
 * tags, a second document. */
#ifndef DATA_CORPUS_H
#define DATA_CORPUS_H

#include "data/dataset.h"
#include "data/dicom.h"

/* Limits of what a corpus may hold. */
enum { corpus_most_sets = 4096, corpus_most_lists = 1024, corpus_longest_text = 4095 };

struct corpus_set {
    char *name;
    char *root;   /* a path: the folders before it are in it already */
    char **lists; /* (list_count): as written; none: the root's dataset.json or all its NIfTI files */
    int list_count;
    unsigned use; /* bit 1 << split */
    int has_preset;
    struct preset preset; /* with the set's own values put in */
    int repeat;
    int has_split;
    enum dataset_split split;
};

struct corpus {
    struct corpus_set *sets; /* (set_count), at least one */
    int set_count;
};

/* Reads the description from memory, without a look at the disk. `name` names the file in messages, which
 * also have the line; `folder` is where it lies. VOCO_BAD_INPUT or VOCO_NO_MEMORY. Free with corpus_free. */
enum voco_status corpus_parse_yaml(struct corpus *corpus, const char *text, size_t length, const char *name,
                                   const char *folder);
void corpus_free(struct corpus *corpus);

/* Whether DATA of this name is taken for a corpus: it ends in .yaml or .yml. */
int is_corpus_name(const char *name);

/* Finds the volumes of all sets. DICOM that a set holds instead is converted into conversion->folder/NAME, or
 * a problem where `conversion` is NULL. A set or file that is not there is said in the set's `problem` and,
 * as a warning, through the log. VOCO_BAD_INPUT where no set has a volume; `name` stands in the message. */
enum voco_status corpus_open(struct dataset *dataset, const struct corpus *corpus, const char *name,
                             const struct dicom_conversion *conversion);

#endif
