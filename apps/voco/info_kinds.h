/* The kinds of files that voco info describes. Each describer adds to a JSON object what it finds out; one
 * that fails half way leaves there what it knows. Failures are one line that names the file. */
#ifndef APPS_INFO_KINDS_H
#define APPS_INFO_KINDS_H

#include "json_report.h"
#include "voco/status.h"

struct info_request {
    const char *path;
    int all_tensors; /* list them, of a checkpoint too */
};

typedef enum voco_status (*describer)(json_t *report, const struct info_request *request);

/* A NIfTI file: its header, and of one volume the range of its voxels. */
enum voco_status describe_nifti(json_t *report, const struct info_request *request);

/* The folder of a volume in a cache. */
enum voco_status describe_cached(json_t *report, const struct info_request *request);

/* safetensors or .pt: a network's sizes, names and steps (train/stored_network.h), or else every tensor. */
enum voco_status describe_tensor_file(json_t *report, const struct info_request *request);

/* Adds a member; the value is the report's from then on. */
void add(json_t *report, const char *key, json_t *value);

#endif
