#include "volume/resample_stream.h"

#include "base/error.h"
#include "base/team.h"
#include "volume/rows.h"

#include <stdlib.h>
#include <string.h>

enum { most_slices_at_once = 16, least_batch_bytes = 1 << 18 };

/* What a thread works with. */
struct bench {
    float *slice;          /* of the file, as floats */
    float *row;            /* of a slice, or of the output */
    uint32_t *columns;     /* foreground met in each output column ... */
    unsigned char *rows;   /* ... and row */
    unsigned char *memory; /* owned: all of it */
};

/* What came out of checking a slice. */
struct slice_check {
    struct not_finite bad;
    int differs; /* from the first voxel of the file */
};

struct stream {
    const struct stream_job *job;
    struct voxel_reader *reader;
    void *out;
    int size[3], out_size[3];
    size_t slice_voxels, plane_voxels;
    int batch; /* slices read at once */
    int ring;  /* planes held: that of slice k is number k % ring */
    int output_runs_back;
    unsigned char *raw[2]; /* a batch each */
    float *planes;
    unsigned char *needed;        /* [size[2]]: some output slice is made from this one */
    unsigned char *slice_is_seen; /* [out_size[2]]: it has foreground */
    struct slice_check *checks;   /* [batch] */
    struct bench *benches;        /* [threads] */
    int may_be_not_finite, differs;
    float first_value;
    struct not_finite bad;
    int next_output; /* how many output slices are done or being done */
};

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* The n-th output slice in the order in which the file delivers them, and the last slice that it needs. */
static int output_slice(const struct stream *stream, int n)
{
    return stream->output_runs_back ? stream->out_size[2] - 1 - n : n;
}

static int last_slice_of(const struct stream *stream, int output)
{
    const struct axis_places *along = &stream->job->places[2];
    return larger(along->left[output], along->right[output]);
}

static int take_bench(struct bench *bench, const struct stream *stream)
{
    const size_t row = (size_t)larger(stream->size[0], stream->out_size[0]);
    const size_t columns = (size_t)stream->out_size[0];
    bench->memory =
        calloc((stream->slice_voxels + row + columns) * sizeof(float) + (size_t)stream->out_size[1], 1);
    if (bench->memory == NULL) {
        return 0;
    }
    bench->slice = (float *)bench->memory;
    bench->row = bench->slice + stream->slice_voxels;
    bench->columns = (uint32_t *)(bench->row + row);
    bench->rows = (unsigned char *)(bench->columns + columns);
    return 1;
}

static void close_stream(struct stream *stream)
{
    for (int i = 0; stream->benches != NULL && i < stream->job->threads; i++) {
        free(stream->benches[i].memory);
    }
    free(stream->benches);
    free(stream->checks);
    free(stream->slice_is_seen);
    free(stream->needed);
    free(stream->planes);
    free(stream->raw[0]);
    free(stream->raw[1]);
}

/* Whatever comes of it, close_stream follows. */
static enum voco_status open_stream(struct stream *stream, void *out, struct voxel_reader *reader,
                                    const struct stream_job *job)
{
    const struct axis_places *along = &job->places[2];
    *stream = (struct stream){.job = job, .reader = reader, .out = out};
    for (int axis = 0; axis < 3; axis++) {
        stream->size[axis] = reader->header.info.size[axis];
        stream->out_size[axis] = job->places[axis].count;
    }
    stream->slice_voxels = (size_t)stream->size[0] * (size_t)stream->size[1];
    stream->plane_voxels = (size_t)stream->out_size[0] * (size_t)stream->out_size[1];
    stream->output_runs_back = along->left[0] > along->left[along->count - 1];
    stream->may_be_not_finite = voxels_may_be_not_finite(&reader->header);
    const size_t slice_bytes = stream->slice_voxels * (size_t)reader->header.info.bytes_per_voxel;
    stream->batch = 1;
    if (job->threads > 1) {
        const size_t for_bytes = (least_batch_bytes + slice_bytes - 1) / slice_bytes;
        stream->batch = larger((int)for_bytes, smaller(2 * job->threads, most_slices_at_once));
        stream->batch = smaller(stream->batch, stream->size[2]);
    }
    stream->ring = job->threads > 1 ? 2 * stream->batch + 1 : 2;
    const size_t batch = (size_t)stream->batch;
    stream->raw[0] = malloc(batch * slice_bytes);
    stream->raw[1] = job->threads > 1 ? malloc(batch * slice_bytes) : NULL;
    stream->planes = malloc((size_t)stream->ring * stream->plane_voxels * sizeof *stream->planes);
    stream->needed = calloc((size_t)stream->size[2], 1);
    stream->slice_is_seen = calloc((size_t)along->count, 1);
    stream->checks = calloc(batch, sizeof *stream->checks);
    stream->benches = calloc((size_t)job->threads, sizeof *stream->benches);
    int whole = stream->raw[0] != NULL && (stream->raw[1] != NULL || job->threads == 1) &&
                stream->planes != NULL && stream->needed != NULL && stream->slice_is_seen != NULL &&
                stream->checks != NULL && stream->benches != NULL;
    for (int i = 0; whole && i < job->threads; i++) {
        whole = take_bench(&stream->benches[i], stream);
    }
    if (!whole) {
        return fail(VOCO_NO_MEMORY, "%s: no memory for slices of %dx%d voxels", voxel_reader_name(reader),
                    stream->size[0], stream->size[1]);
    }
    for (int i = 0; i < along->count; i++) {
        stream->needed[along->left[i]] = 1;
        stream->needed[along->right[i]] = 1;
    }
    return VOCO_OK;
}

static int batch_count(const struct stream *stream)
{
    return (stream->size[2] + stream->batch - 1) / stream->batch;
}

static int slices_in_batch(const struct stream *stream, int batch)
{
    return smaller(stream->batch, stream->size[2] - batch * stream->batch);
}

static unsigned char *raw_slice(const struct stream *stream, int slice)
{
    const int buffer = stream->raw[1] != NULL ? slice / stream->batch & 1 : 0;
    return stream->raw[buffer] + (size_t)(slice % stream->batch) * stream->slice_voxels *
                                     (size_t)stream->reader->header.info.bytes_per_voxel;
}

static enum voco_status read_batch(struct stream *stream, int batch)
{
    const int first = batch * stream->batch;
    const size_t slices = (size_t)slices_in_batch(stream, batch);
    unsigned char *raw = raw_slice(stream, first);
    const enum voco_status status = voxel_reader_read(stream->reader, raw, slices * stream->slice_voxels);
    if (status == VOCO_OK && batch == 0) {
        uint64_t voxel = 0; /* a copy: conversion swaps bytes in place */
        memcpy(&voxel, raw, (size_t)stream->reader->header.info.bytes_per_voxel);
        nifti_convert_voxels(&stream->first_value, &voxel, 1, &stream->reader->header);
    }
    return status;
}

static int differs_from(const float *values, size_t count, float value)
{
    for (size_t i = 0; i < count; i++) {
        if (values[i] != value) {
            return 1;
        }
    }
    return 0;
}

static void sample_plane(float *plane, const struct stream *stream, struct bench *bench)
{
    const struct axis_places *across = &stream->job->places[0];
    const struct axis_places *down = &stream->job->places[1];
    const size_t row_length = (size_t)stream->size[0];
    const size_t out_length = (size_t)across->count;
    for (int y = 0; y < down->count; y++, plane += out_length) {
        const float *left = bench->slice + (size_t)down->left[y] * row_length;
        const float *right = bench->slice + (size_t)down->right[y] * row_length;
        const int blended = down->weight[y] > 0;
        if (across->in_order && blended) {
            blend_rows(plane, left, right, down->weight[y], row_length);
        } else if (across->in_order) {
            memcpy(plane, left, row_length * sizeof *plane);
        } else if (blended) {
            blend_rows(bench->row, left, right, down->weight[y], row_length);
            sample_row(plane, bench->row, across);
        } else {
            sample_row(plane, left, across);
        }
    }
}

static float *plane_of(const struct stream *stream, int slice)
{
    return stream->planes + (size_t)(slice % stream->ring) * stream->plane_voxels;
}

/* One slice of the file, from stored voxels to its plane. */
static void take_slice(struct stream *stream, int slice, struct bench *bench)
{
    struct slice_check *check = &stream->checks[slice % stream->batch];
    *check = (struct slice_check){0};
    if (!stream->needed[slice] && !stream->may_be_not_finite && stream->differs) {
        return;
    }
    nifti_convert_voxels(bench->slice, raw_slice(stream, slice), stream->slice_voxels,
                         &stream->reader->header);
    if (stream->may_be_not_finite) {
        not_finite_count(&check->bad, bench->slice, stream->slice_voxels,
                         (size_t)slice * stream->slice_voxels);
    }
    if (!stream->differs) {
        check->differs = differs_from(bench->slice, stream->slice_voxels, stream->first_value);
    }
    if (stream->needed[slice]) {
        sample_plane(plane_of(stream, slice), stream, bench);
    }
}

/* Rows of an output slice, interpolated between two planes, windowed, quantised. */
static void make_output_slice(struct stream *stream, int z, struct bench *bench)
{
    const struct stream_job *job = stream->job;
    const size_t length = (size_t)stream->out_size[0];
    const float *left = plane_of(stream, job->places[2].left[z]);
    const float *right = plane_of(stream, job->places[2].right[z]);
    const float weight = job->places[2].weight[z];
    size_t target = (size_t)z * stream->plane_voxels;
    for (int y = 0; y < stream->out_size[1]; y++) {
        float *row = job->levels == 0 ? (float *)stream->out + target : bench->row;
        if (weight > 0) {
            blend_rows(row, left, right, weight, length);
        } else {
            memcpy(row, left, length * sizeof *row);
        }
        if (job->windowed) {
            window_row(row, length, job->low, job->width);
            if (mark_foreground(bench->columns, row, length)) {
                bench->rows[y] = 1;
                stream->slice_is_seen[z] = 1;
            }
        }
        if (job->levels > UINT8_MAX) {
            quantise_words((uint16_t *)stream->out + target, row, length, job->levels);
        } else if (job->levels > 0) {
            quantise_bytes((uint8_t *)stream->out + target, row, length, job->levels);
        }
        left += length;
        right += length;
        target += length;
    }
}

/* How many output slices can be made once all slices up to the batch's last are planes, less those already
 * made. */
static int outputs_of_batch(const struct stream *stream, int batch)
{
    const int end = smaller((batch + 1) * stream->batch, stream->size[2]);
    int n = stream->next_output;
    while (n < stream->out_size[2] && last_slice_of(stream, output_slice(stream, n)) < end) {
        n++;
    }
    return n - stream->next_output;
}

static void take_checks(struct stream *stream, int batch)
{
    for (int i = 0; i < slices_in_batch(stream, batch); i++) {
        const struct slice_check *check = &stream->checks[i];
        if (check->bad.count > 0 && stream->bad.count == 0) {
            stream->bad.first = check->bad.first;
        }
        stream->bad.count += check->bad.count;
        stream->differs = stream->differs || check->differs;
    }
}

static enum voco_status run_alone(struct stream *stream)
{
    enum voco_status status = VOCO_OK;
    for (int slice = 0; slice < stream->size[2] && status == VOCO_OK; slice++) {
        status = read_batch(stream, slice);
        if (status != VOCO_OK) {
            break;
        }
        take_slice(stream, slice, &stream->benches[0]);
        take_checks(stream, slice);
        const int outputs = outputs_of_batch(stream, slice);
        for (int i = 0; i < outputs; i++) {
            make_output_slice(stream, output_slice(stream, stream->next_output + i), &stream->benches[0]);
        }
        stream->next_output += outputs;
    }
    return status;
}

/* What the team does in a round: planes of a batch, and output slices of the batch before it. */
struct round {
    struct stream *stream;
    int first_slice, slices;
};

static void take_item(void *context, int item, int member)
{
    const struct round *round = context;
    struct stream *stream = round->stream;
    struct bench *bench = &stream->benches[member];
    if (item < round->slices) {
        take_slice(stream, round->first_slice + item, bench);
    } else {
        make_output_slice(stream, output_slice(stream, stream->next_output + item - round->slices), bench);
    }
}

/* The calling thread reads the batch after these meanwhile, and then helps. */
static enum voco_status run_together(struct stream *stream)
{
    const int batches = batch_count(stream);
    struct team *team = team_gather(stream->job->threads);
    if (team == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", voxel_reader_name(stream->reader));
    }
    enum voco_status status = read_batch(stream, 0);
    for (int batch = 0; batch <= batches && status == VOCO_OK; batch++) {
        struct round round = {.stream = stream, .first_slice = batch * stream->batch};
        round.slices = batch < batches ? slices_in_batch(stream, batch) : 0;
        const int outputs = batch > 0 ? outputs_of_batch(stream, batch - 1) : 0;
        team_begin(team, round.slices + outputs, take_item, &round);
        if (batch + 1 < batches) {
            status = read_batch(stream, batch + 1);
        }
        team_finish(team);
        if (batch < batches) {
            take_checks(stream, batch);
        }
        stream->next_output += outputs;
    }
    team_dismiss(team);
    return status;
}

/* From the first to one past the last of `count` marks. */
static void bounds_of_marks(int *first, int *end, const unsigned char *marks, int count)
{
    *first = 0;
    *end = count;
    while (*end > 0 && !marks[*end - 1]) {
        --*end;
    }
    while (*first < *end && !marks[*first]) {
        ++*first;
    }
}

static void gather_bounds(int first[3], int end[3], const struct stream *stream)
{
    struct bench *all = &stream->benches[0];
    for (int i = 1; i < stream->job->threads; i++) {
        const struct bench *bench = &stream->benches[i];
        for (int x = 0; x < stream->out_size[0]; x++) {
            all->columns[x] |= bench->columns[x];
        }
        for (int y = 0; y < stream->out_size[1]; y++) {
            all->rows[y] |= bench->rows[y];
        }
    }
    unsigned char *columns = (unsigned char *)all->columns; /* narrowed in place, front to back */
    for (int x = 0; x < stream->out_size[0]; x++) {
        columns[x] = all->columns[x] != 0;
    }
    bounds_of_marks(&first[0], &end[0], columns, stream->out_size[0]);
    bounds_of_marks(&first[1], &end[1], all->rows, stream->out_size[1]);
    bounds_of_marks(&first[2], &end[2], stream->slice_is_seen, stream->out_size[2]);
}

enum voco_status resample_stream(void *out, int first[3], int end[3], struct voxel_reader *reader,
                                 const struct stream_job *job)
{
    struct stream stream;
    enum voco_status status = open_stream(&stream, out, reader, job);
    if (status == VOCO_OK) {
        status = job->threads > 1 ? run_together(&stream) : run_alone(&stream);
    }
    if (status == VOCO_OK) {
        status = voxel_reader_finish(reader, &stream.bad);
    }
    if (status == VOCO_OK && !stream.differs) {
        status = fail(VOCO_BAD_INPUT, "%s: constant: all %zu voxels have the value %g",
                      voxel_reader_name(reader), reader->header.voxels, stream.first_value);
    }
    if (status == VOCO_OK) {
        gather_bounds(first, end, &stream);
    }
    close_stream(&stream);
    return status;
}
