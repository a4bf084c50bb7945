#include "volume/resample_general.h"

#include "base/team.h"

#include <math.h>
#include <stddef.h>

static float value_at(const float *inp, const int size[3], const double place[3])
{
    ptrdiff_t step[3];
    float weight[3];
    ptrdiff_t stride = 1;
    const float *corner = inp;
    for (int axis = 0; axis < 3; axis++) {
        const double inside = fmin(fmax(place[axis], 0), size[axis] - 1);
        const int low = (int)inside;
        weight[axis] = (float)(inside - low);
        step[axis] = low + 1 < size[axis] ? stride : 0;
        corner += low * stride;
        stride *= size[axis];
    }
    float along[2][2];
    for (int z = 0; z < 2; z++) {
        for (int y = 0; y < 2; y++) {
            const float *pair = corner + z * step[2] + y * step[1];
            along[z][y] = pair[0] + weight[0] * (pair[step[0]] - pair[0]);
        }
    }
    const float front = along[0][0] + weight[1] * (along[0][1] - along[0][0]);
    const float back = along[1][0] + weight[1] * (along[1][1] - along[1][0]);
    return front + weight[2] * (back - front);
}

struct job {
    float *out;
    const int *out_size;
    const float *inp;
    const int *size;
    const double (*position)[4];
};

static void sample_slice(void *context, int z, int member)
{
    (void)member;
    const struct job *job = context;
    const int *out_size = job->out_size;
    float *to = job->out + (size_t)z * (size_t)out_size[0] * (size_t)out_size[1];
    for (int y = 0; y < out_size[1]; y++) {
        for (int x = 0; x < out_size[0]; x++) {
            double place[3];
            for (int axis = 0; axis < 3; axis++) {
                const double *p = job->position[axis];
                place[axis] = p[0] * x + p[1] * y + p[2] * z + p[3];
            }
            *to++ = value_at(job->inp, job->size, place);
        }
    }
}

void resample_general(float *out, const int out_size[3], const float *inp, const int size[3],
                      const double position[3][4], int threads)
{
    struct job job = {out, out_size, inp, size, position};
    struct team *team = threads > 1 ? team_gather(threads) : NULL;
    if (team != NULL) {
        team_begin(team, out_size[2], sample_slice, &job);
        team_finish(team);
        team_dismiss(team);
        return;
    }
    for (int z = 0; z < out_size[2]; z++) {
        sample_slice(&job, z, 0);
    }
}
