#include "compute/cuda/cudnn_plan.cuh"

/* What tensors are called in a graph. */
enum { input_id = 'x', weight_id = 'w', output_id = 'y' };

/* Descriptors that are made for one purpose and go together. The first failure stays. */
struct descriptors {
    const struct cudnn *cudnn;
    cudnnBackendDescriptor_t made[8];
    int count;
    cudnnStatus_t status;
};

static cudnnBackendDescriptor_t make(struct descriptors *all, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t made = NULL;
    if (all->status == CUDNN_STATUS_SUCCESS) {
        all->status = all->cudnn->create_descriptor(type, &made);
    }
    if (all->status != CUDNN_STATUS_SUCCESS) {
        return NULL;
    }
    all->made[all->count++] = made;
    return made;
}

static void set(struct descriptors *all, cudnnBackendDescriptor_t of, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (all->status == CUDNN_STATUS_SUCCESS) {
        all->status = all->cudnn->set_attribute(of, name, type, count, values);
    }
}

static void set_descriptor(struct descriptors *all, cudnnBackendDescriptor_t of,
                           cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value)
{
    set(all, of, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finalize(struct descriptors *all, cudnnBackendDescriptor_t descriptor)
{
    if (all->status == CUDNN_STATUS_SUCCESS) {
        all->status = all->cudnn->finalize(descriptor);
    }
}

static void destroy_all(struct descriptors *all)
{
    while (all->count > 0) {
        (void)all->cudnn->destroy_descriptor(all->made[--all->count]);
    }
}

/* (n, channels, d, h, w) to cuDNN, channels last in memory. Weights are one such too. */
static cudnnBackendDescriptor_t tensor(struct descriptors *all, int64_t id, cudnnDataType_t type, int64_t n,
                                       int64_t channels, int64_t d, int64_t h, int64_t w)
{
    const int64_t alignment = cudnn_alignment;
    const int64_t sizes[5] = {n, channels, d, h, w};
    const int64_t strides[5] = {d * h * w * channels, 1, h * w * channels, w * channels, channels};
    cudnnBackendDescriptor_t made = make(all, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(all, made, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    set(all, made, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(all, made, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 5, sizes);
    set(all, made, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 5, strides);
    set(all, made, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    finalize(all, made);
    return made;
}

static cudnnBackendDescriptor_t convolution(struct descriptors *all, const struct conv3d_shape *s)
{
    const int64_t axes = 3;
    const int64_t padding = s->stride == 1 ? (s->kernel - 1) / 2 : 0;
    const int64_t paddings[3] = {padding, padding, padding};
    const int64_t strides[3] = {s->stride, s->stride, s->stride};
    const int64_t dilations[3] = {1, 1, 1};
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t made = make(all, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(all, made, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    set(all, made, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(all, made, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(all, made, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, axes, paddings);
    set(all, made, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, axes, paddings);
    set(all, made, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, axes, dilations);
    set(all, made, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, axes, strides);
    finalize(all, made);
    return made;
}

/* The same operation has its attributes under another name in every direction. */
struct operation_names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, input, weight, output, alpha, beta;
};

static const struct operation_names names_of[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

/* The graph of this one operation. */
static cudnnBackendDescriptor_t graph(struct descriptors *all, const struct conv3d_shape *s,
                                      enum conv_direction direction, cudnnDataType_t type,
                                      cudnnDataType_t weight_type)
{
    const struct operation_names *names = &names_of[direction];
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t operation = make(all, names->type);
    set_descriptor(all, operation, names->convolution, convolution(all, s));
    set_descriptor(all, operation, names->input,
                   tensor(all, input_id, type, s->n, s->in_channels, s->d, s->h, s->w));
    set_descriptor(all, operation, names->weight,
                   tensor(all, weight_id, weight_type, s->out_channels, s->in_channels, s->kernel, s->kernel,
                          s->kernel));
    set_descriptor(all, operation, names->output,
                   tensor(all, output_id, type, s->n, s->out_channels, s->d / s->stride, s->h / s->stride,
                          s->w / s->stride));
    set(all, operation, names->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(all, operation, names->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    finalize(all, operation);
    cudnnBackendDescriptor_t made = make(all, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(all, made, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &all->cudnn->handle);
    set_descriptor(all, made, CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
    finalize(all, made);
    return made;
}

static int is_exact(cudnnBackendNumericalNote_t note, enum compute_precision precision)
{
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        return 0;
    case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP:
        return 1;
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: /* TF32 in float32 */
        return precision != PRECISION_FLOAT32;
    default: /* Winograd's and Fourier's transforms, which lose digits */
        return precision == PRECISION_BF16;
    }
}

/* Whether the engine of a configuration always gives the same bits, and is exact enough. */
static int suits(const struct cudnn *cudnn, cudnnBackendDescriptor_t config, enum compute_precision precision)
{
    struct descriptors all = {cudnn, {NULL}, 0, CUDNN_STATUS_SUCCESS};
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendDescriptor_t engine = make(&all, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    int64_t count = 0;
    int good = all.status == CUDNN_STATUS_SUCCESS &&
               cudnn->get_attribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                    &count, &engine) == CUDNN_STATUS_SUCCESS &&
               cudnn->get_attribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                    CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes) == CUDNN_STATUS_SUCCESS;
    for (int64_t k = 0; good && k < count; k++) {
        good = is_exact(notes[k], precision);
    }
    destroy_all(&all);
    return good;
}

/* The plan of a configuration, which it then owns. */
static int make_plan(const struct cudnn *cudnn, struct cudnn_plan *plan, cudnnBackendDescriptor_t config)
{
    struct descriptors all = {cudnn, {NULL}, 0, CUDNN_STATUS_SUCCESS};
    int64_t workspace = 0, count = 0;
    cudnnBackendDescriptor_t made = make(&all, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(&all, made, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &cudnn->handle);
    set_descriptor(&all, made, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    finalize(&all, made);
    if (all.status == CUDNN_STATUS_SUCCESS) {
        all.status = cudnn->get_attribute(made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                          &count, &workspace);
    }
    const int64_t most_workspace = (int64_t)1 << 30;
    if (all.status != CUDNN_STATUS_SUCCESS || workspace > most_workspace) {
        destroy_all(&all);
        return 0;
    }
    plan->config = config;
    plan->plan = made;
    plan->workspace = workspace > 0 ? (size_t)workspace : 0;
    return 1;
}

/* Adds plans of what one of cuDNN's heuristics proposes to the `count` there are. Returns how many there are
 * now. */
static int add_plans(const struct cudnn *cudnn, struct cudnn_plan *plans, int count, int most,
                     cudnnBackendDescriptor_t of_graph, cudnnBackendHeurMode_t mode,
                     enum compute_precision precision)
{
    enum { most_configs = 24 };
    struct descriptors all = {cudnn, {NULL}, 0, CUDNN_STATUS_SUCCESS};
    cudnnBackendDescriptor_t configs[most_configs] = {NULL};
    int64_t found = 0;
    int made = 0;
    cudnnBackendDescriptor_t heuristics = make(&all, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(&all, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, of_graph);
    set(&all, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finalize(&all, heuristics);
    while (all.status == CUDNN_STATUS_SUCCESS && made < most_configs) {
        all.status = cudnn->create_descriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[made]);
        made += all.status == CUDNN_STATUS_SUCCESS;
    }
    if (all.status == CUDNN_STATUS_SUCCESS) {
        all.status = cudnn->get_attribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &found, configs);
    }
    for (int k = 0; k < made; k++) {
        const int usable = all.status == CUDNN_STATUS_SUCCESS && k < found && count < most &&
                           suits(cudnn, configs[k], precision) && make_plan(cudnn, &plans[count], configs[k]);
        if (usable) {
            count++;
        } else {
            (void)cudnn->destroy_descriptor(configs[k]);
        }
    }
    destroy_all(&all);
    return count;
}

/* Adds plans of one graph. The heuristics after the first are asked only where those before know nothing; the
 * last one lists what works for every shape. */
static int add_plans_of_graph(const struct cudnn *cudnn, struct cudnn_plan *plans, int count, int most,
                              const struct conv3d_shape *shape, enum conv_direction direction,
                              enum compute_precision precision, cudnnDataType_t weight_type)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    const cudnnDataType_t type = precision == PRECISION_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    struct descriptors all = {cudnn, {NULL}, 0, CUDNN_STATUS_SUCCESS};
    cudnnBackendDescriptor_t made = graph(&all, shape, direction, type, weight_type);
    const int before = count;
    for (size_t k = 0; all.status == CUDNN_STATUS_SUCCESS && k < sizeof modes / sizeof modes[0]; k++) {
        if (count == before) {
            count = add_plans(cudnn, plans, count, most, made, modes[k], precision);
        }
    }
    for (int k = before; k < count; k++) {
        plans[k].rounded = weight_type == CUDNN_DATA_BFLOAT16;
    }
    destroy_all(&all);
    return count;
}

int cudnn_make_plans(const struct cudnn *cudnn, struct cudnn_plan *plans, int most,
                     const struct conv3d_shape *shape, enum conv_direction direction,
                     enum compute_precision precision)
{
    int count = 0;
    if (precision != PRECISION_BF16) {
        return add_plans_of_graph(cudnn, plans, 0, most, shape, direction, precision, CUDNN_DATA_FLOAT);
    }
    if (direction == CONV_WEIGHT_GRADIENT) {
        count = add_plans_of_graph(cudnn, plans, 0, most < 2 ? most : 2, shape, direction, precision,
                                   CUDNN_DATA_FLOAT);
    }
    return add_plans_of_graph(cudnn, plans, count, most, shape, direction, precision, CUDNN_DATA_BFLOAT16);
}

void cudnn_free_plan(const struct cudnn *cudnn, struct cudnn_plan *plan)
{
    if (plan->plan != NULL) {
        (void)cudnn->destroy_descriptor(plan->plan);
        (void)cudnn->destroy_descriptor(plan->config);
    }
    *plan = cudnn_plan{};
}

cudnnStatus_t cudnn_run_plan(const struct cudnn *cudnn, const struct cudnn_plan *plan, const void *input,
                             const void *weight, const void *output, void *workspace)
{
    struct descriptors all = {cudnn, {NULL}, 0, CUDNN_STATUS_SUCCESS};
    const int64_t ids[3] = {input_id, weight_id, output_id};
    const void *const pointers[3] = {input, weight, output};
    cudnnBackendDescriptor_t pack = make(&all, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&all, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, ids);
    set(&all, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers);
    set(&all, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finalize(&all, pack);
    if (all.status == CUDNN_STATUS_SUCCESS) {
        all.status = cudnn->execute(cudnn->handle, plan->plan, pack);
    }
    destroy_all(&all);
    return all.status;
}
