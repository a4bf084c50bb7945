/* cuDNN, loaded at run time, and the convolutions planned with it. conv3d.cu is what calls. */
#ifndef COMPUTE_CUDA_CUDNN_CUH
#define COMPUTE_CUDA_CUDNN_CUH

#include "compute/cuda/cuda_state.h"

/* Loads libcudnn.so.9 and opens a handle on c's stream, in c's state. VOCO_UNSUPPORTED, naming the library,
 * where it cannot be loaded. */
enum voco_status cudnn_open(struct compute *c);
void cudnn_close(struct compute *c); /* harmless where it was never opened */

#endif
