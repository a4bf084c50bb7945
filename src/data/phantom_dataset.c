/* Phantoms as a data set of the Medical Segmentation Decathlon's layout. */
#include "data/phantom.h"

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "volume/nifti.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { path_size = 4096 };

struct work {
    const char *folder;
    const struct phantom_dataset *dataset;
    pthread_mutex_t lock;
    int next;
    int done;
    double started;
    enum voco_status status;
    char message[1024];
};

static enum voco_status write_phantom(const char *folder, const struct phantom_dataset *dataset, int number,
                                      int16_t *hu, uint8_t *labels)
{
    struct phantom_subject subject;
    phantom_subject_draw(&subject, dataset->seed, (uint32_t)number);
    phantom_rasterise(hu, labels, &subject, dataset->size, dataset->spacing);
    double affine[3][4] = {{0}};
    for (int axis = 0; axis < 3; axis++) {
        affine[axis][axis] = dataset->spacing[axis];
        affine[axis][3] = -0.5 * (dataset->size[axis] - 1) * dataset->spacing[axis];
    }
    char path[path_size];
    snprintf(path, sizeof path, "%s/imagesTr/phantom_%04d.nii.gz", folder, number);
    enum voco_status status = nifti_write(path, dataset->size, affine, NIFTI_INT16, hu);
    if (status == VOCO_OK) {
        snprintf(path, sizeof path, "%s/labelsTr/phantom_%04d.nii.gz", folder, number);
        status = nifti_write(path, dataset->size, affine, NIFTI_UINT8, labels);
    }
    return status;
}

static void *write_phantoms(void *argument)
{
    struct work *work = argument;
    const struct phantom_dataset *dataset = work->dataset;
    const size_t voxels = (size_t)dataset->size[0] * (size_t)dataset->size[1] * (size_t)dataset->size[2];
    int16_t *hu = malloc(voxels * sizeof *hu);
    uint8_t *labels = malloc(voxels);
    enum voco_status status = VOCO_OK;
    if (hu == NULL || labels == NULL) {
        status = fail(VOCO_NO_MEMORY, "%s: no memory for a phantom of %zu voxels", work->folder, voxels);
    }
    for (;;) {
        pthread_mutex_lock(&work->lock);
        if (status != VOCO_OK && work->status == VOCO_OK) {
            work->status = status;
            snprintf(work->message, sizeof work->message, "%s", voco_error_message());
        }
        const int number = work->status == VOCO_OK && work->next < dataset->count ? work->next++ : -1;
        pthread_mutex_unlock(&work->lock);
        if (number < 0) {
            break;
        }
        status = write_phantom(work->folder, dataset, number, hu, labels);
        pthread_mutex_lock(&work->lock);
        work->done++;
        const double rate = work->done / (seconds_now() - work->started + 1e-9);
        char left[32];
        log_line(LOG_PROGRESS, "phantom %d of %d, %.1f a second, %s left", work->done, dataset->count, rate,
                 format_duration(left, (dataset->count - work->done) / rate));
        pthread_mutex_unlock(&work->lock);
    }
    free(hu);
    free(labels);
    return NULL;
}

static enum voco_status write_list(const char *folder, const struct phantom_dataset *dataset)
{
    json_t *training = json_array();
    json_t *validation = json_array();
    json_t *labels = json_object();
    const int trained = dataset->count < 2 ? dataset->count : dataset->count - (dataset->count + 4) / 5;
    for (int i = 0; i < dataset->count; i++) {
        char image[64];
        char label[64];
        snprintf(image, sizeof image, "./imagesTr/phantom_%04d.nii.gz", i);
        snprintf(label, sizeof label, "./labelsTr/phantom_%04d.nii.gz", i);
        json_array_append_new(i < trained ? training : validation,
                              json_pack("{s:s, s:s}", "image", image, "label", label));
    }
    for (int i = 0; i < PHANTOM_STRUCTURES; i++) {
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        json_object_set_new(labels, value, json_string(phantom_structure_name((enum phantom_structure)i)));
    }
    json_t *root = json_pack("{s:s, s:s, s:s, s:{s:s}, s:o, s:i, s:i, s:o, s:o}", "name", "voco phantoms",
                             "description", "synthetic torsos in HU, made by voco phantom", "tensorImageSize",
                             "3D", "modality", "0", "CT", "labels", labels, "numTraining", trained, "numTest",
                             0, "training", training, "validation", validation);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (text == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for the data list", folder);
    }
    char path[path_size];
    snprintf(path, sizeof path, "%s/dataset.json", folder);
    struct atomic_file file;
    enum voco_status status = atomic_file_open(&file, path);
    if (status == VOCO_OK) {
        (void)fprintf(file.stream, "%s\n", text);
        status = atomic_file_commit(&file);
    }
    free(text);
    return status;
}

enum voco_status phantom_dataset_write(const char *folder, const struct phantom_dataset *dataset)
{
    char path[path_size];
    if (strlen(folder) + 64 > path_size) {
        return fail(VOCO_BAD_INPUT, "%s: the name of the folder is too long", folder);
    }
    static const char *const parts[2] = {"imagesTr", "labelsTr"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, parts[i]);
        const enum voco_status status = make_folders(path);
        if (status != VOCO_OK) {
            return status;
        }
    }
    struct work work = {.folder = folder, .dataset = dataset, .started = seconds_now()};
    pthread_mutex_init(&work.lock, NULL);
    enum { most_jobs = 256 };
    pthread_t threads[most_jobs];
    int started = 0;
    const int jobs = dataset->jobs < most_jobs ? dataset->jobs : most_jobs;
    for (int i = 1; i < jobs && i < dataset->count; i++) {
        if (pthread_create(&threads[started], NULL, write_phantoms, &work) != 0) {
            break; /* fewer threads do the same work */
        }
        started++;
    }
    write_phantoms(&work);
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_mutex_destroy(&work.lock);
    if (work.status != VOCO_OK) {
        return fail(work.status, "%s", work.message);
    }
    return write_list(folder, dataset);
}
