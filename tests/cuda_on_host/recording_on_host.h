/* Recordings (struct compute) of the GPU that cuda_on_host.h plays: launches, copies and zeroing with their
 * arguments, in place of a CUDA graph. */
#ifndef RECORDING_ON_HOST_H
#define RECORDING_ON_HOST_H

#include "compute/cuda/recording.cuh"

#include <functional>

namespace cuda_on_host
{

/* Scratch memory of an operation that is being recorded, which lives as long as the recording. */
void *recorded_scratch(struct compute *c, size_t bytes);

/* Does it, or keeps it where operations are recorded. */
void do_or_record(struct compute *c, const std::function<void()> &work);

} // namespace cuda_on_host

#endif
