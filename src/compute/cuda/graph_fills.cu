/* Before some products cuBLASLt zeroes four bytes of its workspace. As a node of a graph such a fill takes 1
 * us, with 5 around it in which the GPU does nothing; a kernel that does the same takes 1 us and leaves no
 * gap. */
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/recording.cuh"

#include <stdlib.h>

enum { most_bytes = 64, most_neighbours = 32 };

static __global__ void zero_bytes(unsigned char *to, unsigned count)
{
    if (threadIdx.x < count) {
        to[threadIdx.x] = 0;
    }
}

/* Nodes before or after another. */
struct neighbours {
    cudaGraphNode_t nodes[most_neighbours];
    size_t count;
};

/* CUDA 13 asks for the kinds of edges, too; those of fills are all plain. */
static cudaError_t nodes_before(cudaGraphNode_t node, cudaGraphNode_t *nodes, size_t *count)
{
#if CUDART_VERSION >= 13000
    return cudaGraphNodeGetDependencies(node, nodes, NULL, count);
#else
    return cudaGraphNodeGetDependencies(node, nodes, count);
#endif
}

static cudaError_t nodes_after(cudaGraphNode_t node, cudaGraphNode_t *nodes, size_t *count)
{
#if CUDART_VERSION >= 13000
    return cudaGraphNodeGetDependentNodes(node, nodes, NULL, count);
#else
    return cudaGraphNodeGetDependentNodes(node, nodes, count);
#endif
}

static cudaError_t add_edge(cudaGraph_t graph, cudaGraphNode_t from, cudaGraphNode_t to)
{
#if CUDART_VERSION >= 13000
    return cudaGraphAddDependencies(graph, &from, &to, NULL, 1);
#else
    return cudaGraphAddDependencies(graph, &from, &to, 1);
#endif
}

/* 0 where there are more than it holds. */
static int find_neighbours(struct neighbours *before, struct neighbours *after, cudaGraphNode_t node)
{
    return nodes_before(node, NULL, &before->count) == cudaSuccess &&
           nodes_after(node, NULL, &after->count) == cudaSuccess && before->count <= most_neighbours &&
           after->count <= most_neighbours &&
           nodes_before(node, before->nodes, &before->count) == cudaSuccess &&
           nodes_after(node, after->nodes, &after->count) == cudaSuccess;
}

static cudaError_t add_zeroing(cudaGraphNode_t *added, cudaGraph_t graph, const struct neighbours *before,
                               unsigned char *to, unsigned count)
{
    void *arguments[] = {&to, &count};
    struct cudaKernelNodeParams kernel = {};
    kernel.func = (void *)zero_bytes;
    kernel.gridDim = dim3(1);
    kernel.blockDim = dim3(most_bytes);
    kernel.kernelParams = arguments;
    return cudaGraphAddKernelNode(added, graph, before->nodes, before->count, &kernel);
}

static void replace_fill(struct compute *c, cudaGraph_t graph, cudaGraphNode_t fill)
{
    struct cudaMemsetParams p = {};
    struct neighbours before = {}, after = {};
    cudaGraphNode_t zeroing = NULL;
    cuda_check(c, cudaGraphMemsetNodeGetParams(fill, &p), "looking at a recording");
    const size_t bytes = p.width * p.elementSize;
    if (c->status != VOCO_OK || p.value != 0 || p.height != 1 || bytes > most_bytes ||
        !find_neighbours(&before, &after, fill)) {
        return;
    }
    cuda_check(c, add_zeroing(&zeroing, graph, &before, (unsigned char *)p.dst, (unsigned)bytes),
               "changing a recording");
    for (size_t k = 0; k < after.count; k++) {
        cuda_check(c, add_edge(graph, zeroing, after.nodes[k]), "changing a recording");
    }
    cuda_check(c, cudaGraphDestroyNode(fill), "changing a recording");
}

void cuda_replace_small_fills(struct compute *c, cudaGraph_t graph)
{
    size_t count = 0;
    cuda_check(c, cudaGraphGetNodes(graph, NULL, &count), "looking at a recording");
    cudaGraphNode_t *nodes = (cudaGraphNode_t *)malloc((count + 1) * sizeof *nodes);
    if (nodes == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "no memory for a recording's list of nodes");
        return;
    }
    cuda_check(c, cudaGraphGetNodes(graph, nodes, &count), "looking at a recording");
    for (size_t k = 0; k < count && c->status == VOCO_OK; k++) {
        cudaGraphNodeType type = cudaGraphNodeTypeKernel;
        cuda_check(c, cudaGraphNodeGetType(nodes[k], &type), "looking at a recording");
        if (type == cudaGraphNodeTypeMemset) {
            replace_fill(c, graph, nodes[k]);
        }
    }
    free(nodes);
}
