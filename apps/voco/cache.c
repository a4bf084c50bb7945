/* voco cache: prepare volumes once, for every run and every machine that trains on them. */
#include "base/error.h"
#include "base/log.h"
#include "base/processors.h"
#include "command_line.h"
#include "data/dataset.h"
#include "json_report.h"
#include "stop_signals.h"
#include "store/preparation_forecast.h"
#include "store/preparation_report.h"
#include "train/cache_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The command line; NULL, 0 or negative where it does not say. */
struct arguments {
    const char *data;
    const char *out;
    const char *recipe;
    const char *preset;
    const char *take;
    const char *spacing;
    const char *hu;
    int roi;
    int bits;
    int level;
    int jobs;
    uint64_t memory;
    int verify;
    int retry;
    int dry_run;
    int sample;
    int json;
};

/* What is to be prepared. */
struct job {
    struct dataset dataset;
    struct cache_plan plan;
    struct set_problem *problems; /* (problem_count) */
    size_t problem_count;
};

static void job_free(struct job *job)
{
    cache_plan_free(&job->plan);
    free(job->problems);
    dataset_free(&job->dataset);
}

/* ---- settings ---- */

/* What the command line says against the recipe. */
static enum voco_status override_preset(struct preset *preset, const struct arguments *given)
{
    enum voco_status status = VOCO_OK;
    if (given->take != NULL && strcmp(given->take, "crop") != 0 && strcmp(given->take, "resize") != 0) {
        return fail(VOCO_BAD_INPUT, "--take is crop or resize, not \"%s\"", given->take);
    }
    if (given->take != NULL) {
        preset->window = strcmp(given->take, "resize") == 0 ? WINDOW_RESIZE : WINDOW_CROP;
    }
    if (given->spacing != NULL) {
        status = parse_spacing(preset->spacing, given->spacing, "spacing");
    }
    if (status == VOCO_OK && given->hu != NULL) {
        status = parse_hu_window(&preset->low, &preset->high, given->hu, "hu");
        preset->intensity = INTENSITY_WINDOW;
    }
    return status;
}

/* How volumes are prepared of which the list does not say it. Every failure is the command line's. */
static enum voco_status read_settings(struct cache_settings *settings, const struct arguments *given)
{
    struct recipe recipe;
    enum voco_status status = recipe_load(&recipe, given->recipe != NULL ? given->recipe : "base");
    if (status != VOCO_OK) {
        return status;
    }
    recipe.sampling.roi = given->roi > 0 ? given->roi : recipe.sampling.roi;
    recipe.bits = given->bits > 0 ? given->bits : recipe.bits;
    if (levels_of_bits(recipe.bits) == 0) {
        return fail(VOCO_BAD_INPUT, "--bits is 8, 12 or 16, not %d", recipe.bits);
    }
    if (given->preset != NULL) {
        (void)snprintf(recipe.preset, sizeof recipe.preset, "%s", given->preset);
    }
    status = cache_settings_of_recipe(settings, &recipe);
    settings->level = given->level;
    return status == VOCO_OK ? override_preset(&settings->preset, given) : status;
}

/* ---- from DATA to requests ---- */

static enum voco_status job_open(struct job *job, const struct arguments *given,
                                 const struct cache_settings *settings)
{
    *job = (struct job){0};
    char *converted = NULL;
    if (asprintf(&converted, "%s/dicom", given->out) < 0) {
        return fail(VOCO_NO_MEMORY, "out of memory");
    }
    enum voco_status status = dataset_open_converting(&job->dataset, given->data, converted, &stop_asked);
    free(converted);
    if (status != VOCO_OK) {
        return status;
    }
    if (job->dataset.is_cache) {
        return fail(VOCO_BAD_INPUT, "%s is a cache already; voco info %s shows what is in it", given->data,
                    given->data);
    }
    status = cache_plan_make(&job->plan, &job->dataset, settings);
    if (status != VOCO_OK) {
        return status;
    }
    job->problems = calloc((size_t)job->dataset.set_count, sizeof *job->problems);
    if (job->problems == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for a list of %d data sets", job->dataset.set_count);
    }
    for (int i = 0; i < job->dataset.set_count; i++) {
        const struct dataset_set *set = &job->dataset.sets[i];
        if (set->problem != NULL) {
            job->problems[job->problem_count++] = (struct set_problem){set->name, set->problem};
        }
    }
    return VOCO_OK;
}

/* ---- the work ---- */

static int dry_run(const struct verb *verb, const struct job *job, const struct arguments *given,
                   const struct preparation_options *options)
{
    json_t *forecast = NULL;
    const enum voco_status status = preparation_forecast(&forecast, job->plan.requests, job->dataset.count,
                                                         (size_t)given->sample, options);
    if (status == VOCO_OK && given->json) {
        json_report_dump(stdout, forecast);
    } else if (status == VOCO_OK) {
        preparation_forecast_print(stdout, forecast);
    }
    json_decref(forecast);
    return report_failure(verb, status);
}

/* Writes the report into the folder and shows it. That it cannot be written does not undo the volumes, and
 * where the work ended for that very reason it is not said again. */
static void tell(const struct job *job, const struct preparation *preparation, const struct arguments *given,
                 enum voco_status status, const char *ended)
{
    json_t *report = preparation_report(preparation, job->plan.requests, job->dataset.count, job->problems,
                                        job->problem_count, ended);
    if (report == NULL) {
        log_line(LOG_WARNING, "no memory for the report");
        return;
    }
    if (preparation_report_write(given->out, report) != VOCO_OK && status != VOCO_IO) {
        log_line(LOG_WARNING, "the report is not written: %s", voco_error_message());
    }
    if (given->json) {
        json_report_dump(stdout, report);
    } else if (status != VOCO_IO || preparation->count > 0) {
        preparation_report_print(stdout, report, 0);
    }
    json_decref(report);
}

static int fill(const struct verb *verb, const struct job *job, const struct arguments *given,
                const struct preparation_options *options)
{
    struct preparation preparation;
    const enum voco_status status =
        volume_cache_prepare(&preparation, job->plan.requests, job->dataset.count, options);
    char *message = status != VOCO_OK ? strdup(voco_error_message()) : NULL;
    if (status != VOCO_NO_MEMORY) {
        tell(job, &preparation, given, status,
             status == VOCO_OK        ? "finished"
             : status == VOCO_STOPPED ? "stopped"
             : message != NULL        ? message
                                      : "failed");
    }
    if (preparation.failure_count > 0) {
        log_line(LOG_WARNING, "skipped %zu of %zu volumes; %s/report.txt says why, --retry tries again",
                 preparation.failure_count, job->dataset.count, given->out);
    }
    const int some_are_ready = preparation.count > 0;
    preparation_free(&preparation);
    if (message != NULL) {
        (void)fail(status, "%s", message);
        free(message);
    }
    if (status == VOCO_STOPPED && some_are_ready) {
        log_line(LOG_INFO, "%s; the same command goes on from there", voco_error_message());
        return exit_ok;
    }
    return report_failure(verb, status);
}

static int run(const struct verb *verb, int argc, char **argv)
{
    struct arguments given = {.jobs = processor_count(), .level = cache_default_level, .sample = 8};
    const struct option_description options[] = {
        {"out", OPTION_TEXT, &given.out, "DIR", "the cache's folder; made where it is not there", 0, 0},
        {"preset", OPTION_TEXT, &given.preset, "abdomen|chest|headneck|mr",
         "how volumes are prepared; the recipe's else", 0, 0},
        {"recipe", OPTION_TEXT, &given.recipe, "tiny|base|large|huge|FILE",
         "for which training: preset, window and bits are its [base]", 0, 0},
        {"roi", OPTION_INT, &given.roi, "R", "for crops of R voxels an axis; the recipe's else", 1, 1024},
        {"take", OPTION_TEXT, &given.take, "crop|resize",
         "how the window is taken from a volume; the preset's else", 0, 0},
        {"spacing", OPTION_TEXT, &given.spacing, "MM", "instead of the preset's: one number or x,y,z", 0, 0},
        {"hu", OPTION_TEXT, &given.hu, "LOW,HIGH", "instead of the preset's intensities: this HU window", 0,
         0},
        {"bits", OPTION_INT, &given.bits, "8|12|16", "per voxel; the recipe's else", 1, 64},
        {"level", OPTION_INT, &given.level, "N", "of zstd: more is smaller and slower, the same voxels", 1,
         19},
        {"jobs", OPTION_INT, &given.jobs, "N", "volumes at the same time", 1, 1024},
        {"memory", OPTION_BYTES, &given.memory, "SIZE", "for volumes under way, as 8G [half of what is free]",
         1, 9e18},
        {"verify", OPTION_FLAG, &given.verify, NULL,
         "read all that is there, and prepare again what is damaged", 0, 0},
        {"retry", OPTION_FLAG, &given.retry, NULL, "try again what was skipped before", 0, 0},
        {"dry-run", OPTION_FLAG, &given.dry_run, NULL,
         "only tell how large it will be, and how long it takes", 0, 0},
        {"sample", OPTION_INT, &given.sample, "N", "volumes that --dry-run judges by", 1, 1e6},
        {"json", OPTION_FLAG, &given.json, NULL, "print the report as JSON", 0, 0},
        {0},
    };
    int exit_status = exit_ok;
    if (command_line_parse(verb, options, argc, argv, &given.data, 1, 1, &exit_status) < 0) {
        return exit_status;
    }
    if (given.out == NULL) {
        (void)fail(VOCO_BAD_INPUT, "--out DIR is missing: where should the volumes go? (see: voco cache "
                                   "--help)");
        (void)report_failure(verb, VOCO_BAD_INPUT);
        return exit_usage;
    }
    struct cache_settings settings;
    enum voco_status status = read_settings(&settings, &given);
    if (status != VOCO_OK) {
        (void)report_failure(verb, status);
        return exit_usage;
    }
    catch_stop_signals();
    struct job job;
    status = job_open(&job, &given, &settings);
    if (status == VOCO_OK) {
        const struct preparation_options how = {.folder = given.out,
                                                .jobs = given.jobs,
                                                .memory = given.memory,
                                                .verify = given.verify,
                                                .retry = given.retry,
                                                .stop = &stop_asked};
        exit_status = given.dry_run ? dry_run(verb, &job, &given, &how) : fill(verb, &job, &given, &how);
    } else {
        exit_status = report_failure(verb, status);
    }
    job_free(&job);
    return exit_status;
}

const struct verb verb_cache = {
    .name = "cache",
    .arguments = "DATA --out DIR [options]",
    .summary = "prepare volumes once",
    .details =
        "DATA is a folder of .nii and .nii.gz files, a MSD/decathlon dataset.json, a text file of paths, one "
        "volume, a\n"
        "folder of DICOM series, or a corpus (YAML), whose data sets say how they are prepared. Each volume "
        "becomes\n"
        "DIR/NAME-KEY.ome.zarr, which napari and zarr-python open too. Train on it with voco pretrain DIR, "
        "or "
        "with\n"
        "voco pretrain DATA --cache DIR.\n\n"
        "What is there is used again: stop it, kill it, add volumes, and give the same command. Several "
        "machines may\n"
        "fill one DIR at the same time; they share the work. A volume that cannot be read is skipped, and "
        "not read\n"
        "again before it changes or --retry is given. DIR/report.txt and report.json tell what became of "
        "each data set\n"
        "and why volumes were skipped. Where some volumes are ready the exit status is 0.\n\n"
        "SIGTERM, SIGINT and SIGUSR1 end it after the volumes under way; a second SIGINT ends it at once.\n",
    .examples = "  voco cache ct-folder --out cache --preset chest\n"
                "  voco cache corpus.yaml --out /scratch/cache --recipe large --dry-run --sample 40\n"
                "  voco cache corpus.yaml --out /scratch/cache --recipe large --jobs 16 --memory 64G\n"
                "  voco cache ct-folder --out cache --preset chest --verify\n",
    .run = run,
};
