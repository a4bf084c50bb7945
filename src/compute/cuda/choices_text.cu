/* The choices of measured.cuh as text, so that a run that is resumed computes as it did before, and all ranks
 * of a run as the others do. A line says what was measured with (GPU, cuDNN, cuBLASLt), then come a line for
 * each choice, its key's words and the choice itself. */
#include "compute/cuda/blas_library.cuh"
#include "compute/cuda/cudnn_plan.cuh"
#include "compute/cuda/measured.cuh"
#include "compute/cuda/memory.cuh"

extern "C" {
#include "base/error.h"
}
#include "compute/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { line_size = 512 };

/* Choices are numbers in lists that these three decide. */
static enum voco_status describe_origin(struct compute *c, char line[line_size])
{
    struct gpu gpu;
    const enum voco_status status = cuda_gpu_describe(&gpu, cuda_state(c)->gpu);
    (void)snprintf(line, line_size, "voco-gpu-choices-1: %s, cuDNN %zu, cuBLASLt %zu\n", gpu.name,
                   cuda_state(c)->cudnn->version(), cuda_state(c)->blas->functions.get_version());
    return status;
}

static void write_choice(void *context, const struct measured_key *key, int choice)
{
    FILE *stream = (FILE *)context;
    for (int k = 0; k < measured_key_words; k++) {
        (void)fprintf(stream, "%zu ", key->words[k]);
    }
    (void)fprintf(stream, "%d\n", choice);
}

char *cuda_choices(struct compute *c)
{
    char origin[line_size], *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    const enum voco_status status = describe_origin(c, origin);
    int whole = 0;
    if (stream != NULL) {
        (void)fputs(origin, stream);
        measured_for_each(write_choice, stream);
        whole = !ferror(stream);
        whole = fclose(stream) == 0 && whole;
    }
    if (status != VOCO_OK || !whole) {
        compute_failed(c, status != VOCO_OK ? status : VOCO_NO_MEMORY, "no memory for the list of choices");
        free(text);
        text = NULL;
    }
    return text;
}

/* The beginning of the next line; NULL where this one is none. */
static const char *read_choice(const char *line, struct measured_key *key, int *choice)
{
    char *end = NULL;
    for (int k = 0; k < measured_key_words; k++) {
        key->words[k] = (size_t)strtoull(line, &end, 10);
        if (end == line || *end != ' ') {
            return NULL;
        }
        line = end;
    }
    const unsigned long number = strtoul(line, &end, 10);
    *choice = (int)number;
    return end != line && *end == '\n' && number < measured_most_choices ? end + 1 : NULL;
}

/* What was planned with other choices. */
static void forget_plans(struct compute *c)
{
    cuda_wait(c);
    conv_choices_free(cuda_state(c)->cudnn);
    blas_free_plans(c);
}

enum voco_status cuda_take_choices(struct compute *c, const char *text, enum choices_taken *taken)
{
    char origin[line_size];
    const enum voco_status status = describe_origin(c, origin);
    *taken = CHOICES_OF_ANOTHER_MACHINE;
    if (status != VOCO_OK || strncmp(text, origin, strlen(origin)) != 0) {
        return status;
    }
    *taken = CHOICES_KNOWN;
    for (const char *line = text + strlen(origin); *line != '\0';) {
        struct measured_key key;
        int choice = 0;
        line = read_choice(line, &key, &choice);
        if (line == NULL) {
            return fail(VOCO_BAD_INPUT, "holds a line that is no choice; remove the file to measure anew");
        }
        if (measured_choice(&key) != choice) {
            measured_remember(&key, choice);
            *taken = CHOICES_NEW;
        }
    }
    if (*taken == CHOICES_NEW) {
        forget_plans(c);
    }
    return VOCO_OK;
}
