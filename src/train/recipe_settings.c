#include "train/recipe_settings.h"

#include "base/byte_size.h"
#include "base/word_distance.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* In the order of enum patch_merging, enum drop_mode and enum schedule_kind. */
static const char *const merging_orders[] = {"legacy", "fixed", "v2", NULL};
static const char *const drop_modes[] = {"crop", "feature", "none", NULL};
static const char *const schedules[] = {"cosine", "constant", NULL};
static const char *const answers[] = {"no", "yes", NULL};
static const char *const windows[] = {"preset", "crop", "resize", NULL}; /* enum recipe_window */
static const char *const presets[] = {"abdomen", "chest", "headneck", "mr", NULL};
static const char *const computes[] = {"cpu", "cuda", "reference", NULL};
static const char *const gradient_forms[] = {"float32", "bf16", NULL}; /* enum ranks_form */

#define AT(field) offsetof(struct recipe, field)

/* clang-format off */
const struct recipe_setting recipe_settings[] = {
    {"model", "feature_size", SETTING_INT, 1, AT(model.feature_size), 3, 768, NULL, "C, a multiple of 3: 48 base, 96 large, 192 huge"},
    {"model", "roi", SETTING_INT, 1, AT(model.roi), 48, 512, NULL, "R, voxels an axis of a crop: a multiple of 16"},
    {"model", "projector", SETTING_INT, 1, AT(model.projector), 1, 65536, NULL, "D, width of the projectors"},
    {"model", "patch_merging", SETTING_CHOICE, 1, AT(model.patch_merging), 0, 0, merging_orders, "legacy (MONAI <= 1.4), fixed (later MONAI), v2 (mergingv2)"},

    {"sampling", "crops", SETTING_INT, 1, AT(sampling.crops), 1, 1024, NULL, "S, random crops per volume"},
    {"sampling", "base_grid", SETTING_INT, 2, AT(sampling.base_grid), 1, 64, NULL, "base crops along x and y"},

    {"augmentation", "flip", SETTING_FLOAT, 3, AT(augmentation.flip), 0, 1, NULL, "probability of a flip along x, y, z"},
    {"augmentation", "rotate", SETTING_FLOAT, 1, AT(augmentation.rotate), 0, 1, NULL, "probability of a turn by 90, 180 or 270 degrees in the x-y plane"},
    {"augmentation", "shift", SETTING_FLOAT, 1, AT(augmentation.shift), 0, 1, NULL, "probability of a shift of intensity"},
    {"augmentation", "shift_range", SETTING_FLOAT, 1, AT(augmentation.shift_range), 0, 1, NULL, "the shift is uniform within this, both ways"},

    {"data", "preset", SETTING_WORD, 1, AT(preset), 0, 0, presets, "how volumes are prepared: abdomen, chest, headneck, mr"},
    {"data", "window", SETTING_CHOICE, 1, AT(window), 0, 0, windows, "preset (as it says), crop (at random), resize (the whole volume)"},
    {"data", "bits", SETTING_INT, 1, AT(bits), 8, 16, NULL, "per voxel in the cache: 8, 12 or 16; 8 err by 1/510 at most"},
    {"data", "held_out", SETTING_REAL, 1, AT(held_out), 0, 0.9, NULL, "fraction kept for evaluation where the data list splits none"},

    {"training", "steps", SETTING_LONG, 1, AT(steps), 1, 1e12, NULL, "T, the whole run"},
    {"training", "volumes", SETTING_INT, 1, AT(volumes), 1, 65536, NULL, "V, volumes per step, of all processes together"},
    {"training", "drop", SETTING_CHOICE, 1, AT(drop), 0, 0, drop_modes, "what the student loses: crop (as published), feature, none"},
    {"training", "drop_rate", SETTING_REAL, 1, AT(drop_rate), 0, 0.95, NULL, "how likely each is lost"},
    {"training", "ema_decay", SETTING_REAL, 1, AT(ema_decay), 0, 1, NULL, "the teacher's share that stays at each step"},

    {"optimiser", "learning_rate", SETTING_REAL, 1, AT(learning_rate), 0, 10, NULL, "the highest, after warm-up"},
    {"optimiser", "schedule", SETTING_CHOICE, 1, AT(schedule), 0, 0, schedules, "cosine: warm-up, then down to 0 at the last step; constant: neither"},
    {"optimiser", "warm_up", SETTING_LONG, 1, AT(warm_up), 0, 1e12, NULL, "steps of linear growth; the first step has rate 0 unless this is 0"},
    {"optimiser", "weight_decay", SETTING_REAL, 1, AT(weight_decay), 0, 1, NULL, "decoupled"},
    {"optimiser", "beta1", SETTING_REAL, 1, AT(beta1), 0, 0.999999, NULL, "decay of the first moment"},
    {"optimiser", "beta2", SETTING_REAL, 1, AT(beta2), 0, 0.999999, NULL, "decay of the second moment"},
    {"optimiser", "epsilon", SETTING_REAL, 1, AT(epsilon), 1e-30, 1, NULL, "added after the square root"},
    {"optimiser", "clip_norm", SETTING_REAL, 1, AT(clip_norm), 0, 1e6, NULL, "largest norm of the whole gradient; 0: no clipping"},

    {"run", "seed", SETTING_LONG, 1, AT(seed), 0, 9.2e18, NULL, "of initialisation, sampling, augmentation, drop and order"},
    {"run", "checkpoint_every", SETTING_LONG, 1, AT(checkpoint_every), 0, 1e12, NULL, "steps; 0: only at the end"},
    {"run", "keep", SETTING_INT, 1, AT(keep), 1, 100000, NULL, "how many checkpoints stay"},
    {"run", "max_skipped", SETTING_INT, 1, AT(max_skipped), 1, 1000000, NULL, "the run stops after so many steps in a row without a finite loss and gradient"},
    {"run", "tensorboard", SETTING_CHOICE, 1, AT(tensorboard), 0, 0, answers, "yes: event files for tensorboard --logdir beside metrics.jsonl; no: none"},

    {"ranks", "sync_bn", SETTING_CHOICE, 1, AT(sync_bn), 0, 0, answers, "yes: BatchNorm and loss see the volumes of all processes; no: of each its own, as published"},
    {"ranks", "reduce", SETTING_CHOICE, 1, AT(reduce), 0, 0, gradient_forms, "how gradients travel between processes: float32, or bf16: half the bytes"},
    {"ranks", "shard_optimizer", SETTING_CHOICE, 1, AT(shard_optimizer), 0, 0, answers, "yes: each process keeps its part of the optimiser's moments; no: all of them"},

    {"machine", "compute", SETTING_WORD, 1, AT(compute), 0, 0, computes, "cpu; cuda: an NVIDIA GPU; reference: slow, for comparison"},
    {"machine", "precision", SETTING_CHOICE, 1, AT(precision), 0, 0, compute_precision_names, "of activations and products: float32; bf16: half the memory, faster where the processor multiplies it; tf32: float32 with products on a GPU's tensor cores"},
    {"machine", "crops_at_once", SETTING_INT, 1, AT(crops_at_once), 0, 65536, NULL, "through the backbone; 0: what suits their size"},
    {"machine", "memory", SETTING_BYTES, 1, AT(memory), 0, 1e15, NULL, "the most that the program takes, such as 16G; 0: three quarters of what is free"},
    {"machine", "loader_threads", SETTING_INT, 1, AT(loader_threads), 0, 256, NULL, "that make batches beside the computation"},
    {"machine", "loader_ahead", SETTING_INT, 1, AT(loader_ahead), 1, 256, NULL, "batches kept ready"},
    {"machine", "chunk_cache", SETTING_BYTES, 1, AT(chunk_cache), 0, 1e15, NULL, "memory for decoded parts of volumes; 0: none"},

    {"evaluation", "draws", SETTING_INT, 1, AT(evaluation_draws), 1, 100000, NULL, "how often random crops are drawn from each held-out volume"},
    {"evaluation", "volumes", SETTING_INT, 1, AT(evaluation_volumes), 1, 1024, NULL, "per batch, which is what the projectors' BatchNorm sees"},
};
/* clang-format on */
const int recipe_setting_count = (int)(sizeof recipe_settings / sizeof recipe_settings[0]);

/* Writes ", did you mean ...?" for the nearest of the names that `section` (NULL: of all sections) offers, if
 * any is near. */
static void add_nearest(char reason[setting_reason_size], const char *section, const char *typed)
{
    const char *nearest = NULL;
    int distance = 1 + (int)strnlen(typed, 31) / 3;
    for (int i = 0; i < recipe_setting_count; i++) {
        const char *name = section == NULL ? recipe_settings[i].section : recipe_settings[i].name;
        if (section != NULL && strcmp(section, recipe_settings[i].section) != 0) {
            continue;
        }
        const int d = word_distance(typed, name);
        if (d <= distance && (nearest == NULL || d < distance)) {
            nearest = name;
            distance = d;
        }
    }
    if (nearest != NULL) {
        const size_t used = strlen(reason);
        (void)snprintf(reason + used, setting_reason_size - used, ", did you mean \"%s\"?", nearest);
    }
}

int recipe_section_known(const char *section, char reason[setting_reason_size])
{
    for (int i = 0; i < recipe_setting_count; i++) {
        if (strcmp(section, recipe_settings[i].section) == 0) {
            return 1;
        }
    }
    for (int i = 0; i < recipe_setting_count; i++) {
        if (strcmp(section, recipe_settings[i].name) == 0) {
            (void)snprintf(reason, setting_reason_size, "\"%s\" belongs in the section \"%s\"", section,
                           recipe_settings[i].section);
            return 0;
        }
    }
    (void)snprintf(reason, setting_reason_size, "there is no section \"%.64s\"", section);
    add_nearest(reason, NULL, section);
    return 0;
}

const struct recipe_setting *recipe_setting_find(const char *section, const char *name,
                                                 char reason[setting_reason_size])
{
    const struct recipe_setting *elsewhere = NULL;
    for (int i = 0; i < recipe_setting_count; i++) {
        if (strcmp(name, recipe_settings[i].name) == 0) {
            if (strcmp(section, recipe_settings[i].section) == 0) {
                return &recipe_settings[i];
            }
            elsewhere = &recipe_settings[i];
        }
    }
    if (elsewhere != NULL) {
        (void)snprintf(reason, setting_reason_size, "\"%s\" belongs in the section \"%s\"", name,
                       elsewhere->section);
    } else {
        (void)snprintf(reason, setting_reason_size, "there is no setting \"%.64s\" in the section \"%s\"",
                       name, section);
        add_nearest(reason, section, name);
    }
    return NULL;
}

static int refuse(char reason[setting_reason_size], const struct recipe_setting *setting, const char *text,
                  const char *wanted)
{
    (void)snprintf(reason, setting_reason_size, "%s.%s: \"%.64s\" is not %s", setting->section, setting->name,
                   text, wanted);
    return 0;
}

static int within(char reason[setting_reason_size], const struct recipe_setting *setting, const char *text,
                  double value)
{
    if (value >= setting->least && value <= setting->most) {
        return 1;
    }
    char wanted[96];
    (void)snprintf(wanted, sizeof wanted, "between %.15g and %.15g", setting->least, setting->most);
    return refuse(reason, setting, text, wanted);
}

static int assign_integer(void *at, const struct recipe_setting *setting, const char *text,
                          char reason[setting_reason_size])
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || text[0] == ' ' || text[0] == '+') {
        return refuse(reason, setting, text, "a whole number");
    }
    if (!within(reason, setting, text, (double)value)) {
        return 0;
    }
    if (setting->kind == SETTING_INT) {
        const int narrow = (int)value;
        memcpy(at, &narrow, sizeof narrow);
    } else {
        memcpy(at, &value, sizeof value);
    }
    return 1;
}

static int parse_real(double *value, char **end, const char *text)
{
    *value = strtod(text, end);
    return *end != text && isfinite(*value) && strchr("+-.0123456789", text[0]) != NULL &&
           strpbrk(text, "xX") == NULL;
}

static int assign_real(void *at, const struct recipe_setting *setting, const char *text,
                       char reason[setting_reason_size])
{
    char *end = NULL;
    double value = 0.0;
    if (!parse_real(&value, &end, text) || *end != '\0') {
        return refuse(reason, setting, text, "a number");
    }
    if (!within(reason, setting, text, value)) {
        return 0;
    }
    if (setting->kind == SETTING_FLOAT) {
        const float narrow = (float)value;
        memcpy(at, &narrow, sizeof narrow);
    } else {
        memcpy(at, &value, sizeof value);
    }
    return 1;
}

static int assign_bytes(void *at, const struct recipe_setting *setting, const char *text,
                        char reason[setting_reason_size])
{
    uint64_t bytes = 0;
    if (!parse_byte_size(&bytes, text)) {
        return refuse(reason, setting, text, "a number of bytes, such as 512M or 2G");
    }
    if (!within(reason, setting, text, (double)bytes)) {
        return 0;
    }
    memcpy(at, &bytes, sizeof bytes);
    return 1;
}

static int assign_choice(void *at, const struct recipe_setting *setting, const char *text,
                         char reason[setting_reason_size])
{
    char wanted[128] = "";
    for (int i = 0; setting->choices[i] != NULL; i++) {
        if (strcmp(text, setting->choices[i]) == 0) {
            if (setting->kind == SETTING_WORD) {
                memcpy(at, text, strlen(text) + 1);
            } else {
                memcpy(at, &i, sizeof i);
            }
            return 1;
        }
        const size_t used = strlen(wanted);
        (void)snprintf(wanted + used, sizeof wanted - used, "%s%s",
                       i == 0 ? "" : (setting->choices[i + 1] == NULL ? " or " : ", "), setting->choices[i]);
    }
    return refuse(reason, setting, text, wanted);
}

static size_t element_size(enum setting_kind kind)
{
    switch (kind) {
    case SETTING_LONG:
    case SETTING_BYTES:
        return sizeof(int64_t);
    case SETTING_REAL:
        return sizeof(double);
    case SETTING_FLOAT:
        return sizeof(float);
    case SETTING_INT:
    case SETTING_CHOICE:
    case SETTING_WORD: /* never in an array */
        break;
    }
    return sizeof(int);
}

int recipe_setting_assign(struct recipe *recipe, const struct recipe_setting *setting, int index,
                          const char *text, char reason[setting_reason_size])
{
    void *at = (char *)recipe + setting->offset + (size_t)index * element_size(setting->kind);
    switch (setting->kind) {
    case SETTING_INT:
    case SETTING_LONG:
        return assign_integer(at, setting, text, reason);
    case SETTING_REAL:
    case SETTING_FLOAT:
        return assign_real(at, setting, text, reason);
    case SETTING_BYTES:
        return assign_bytes(at, setting, text, reason);
    case SETTING_CHOICE:
    case SETTING_WORD:
        break;
    }
    return assign_choice(at, setting, text, reason);
}

static void format_real(char text[setting_text_size], double value, int is_float)
{
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, setting_text_size, "%.*g", digits, value);
        const double back = strtod(text, NULL);
        if (is_float ? (float)back == (float)value : back == value) {
            return;
        }
    }
}

static void format_bytes(char text[setting_text_size], uint64_t value)
{
    static const char units[] = "KMGT";
    int unit = 0;
    while (unit < 4 && value != 0 && value % 1024 == 0) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(text, setting_text_size, "%llu%.*s", (unsigned long long)value, unit > 0,
                   units + unit - (unit > 0));
}

void recipe_setting_format(char text[setting_text_size], const struct recipe *recipe,
                           const struct recipe_setting *setting, int index)
{
    const char *at = (const char *)recipe + setting->offset + (size_t)index * element_size(setting->kind);
    union {
        int number;
        long long wide;
        double real;
        float small;
        uint64_t bytes;
    } value = {0};
    if (setting->kind != SETTING_WORD) {
        memcpy(&value, at, element_size(setting->kind));
    }
    switch (setting->kind) {
    case SETTING_INT:
        (void)snprintf(text, setting_text_size, "%d", value.number);
        break;
    case SETTING_LONG:
        (void)snprintf(text, setting_text_size, "%lld", value.wide);
        break;
    case SETTING_REAL:
        format_real(text, value.real, 0);
        break;
    case SETTING_FLOAT:
        format_real(text, (double)value.small, 1);
        break;
    case SETTING_BYTES:
        format_bytes(text, value.bytes);
        break;
    case SETTING_CHOICE:
        (void)snprintf(text, setting_text_size, "%s", setting->choices[value.number]);
        break;
    case SETTING_WORD:
        (void)snprintf(text, setting_text_size, "%s", at);
        break;
    }
}
