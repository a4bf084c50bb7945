#include "../guarded_arrays.h"
#include "libraries_on_host.h"

#include <cudnn.h>

#include <map>
#include <memory>
#include <string.h>
#include <vector>

/* What a descriptor holds. Descriptors share it with those that were made of them, and may go before these.
 */
struct content {
    cudnnBackendDescriptorType_t type;
    std::map<int, std::vector<unsigned char>> values;
    std::map<int, std::shared_ptr<content>> parts;
    int engine;

    template <typename T> const T *get(cudnnBackendAttributeName_t name)
    {
        return reinterpret_cast<const T *>(values.at(name).data());
    }
};

typedef std::shared_ptr<content> descriptor;

static descriptor &of(cudnnBackendDescriptor_t handle)
{
    return *static_cast<descriptor *>(handle);
}

static size_t bytes_of(cudnnBackendAttributeType_t type)
{
    return type == CUDNN_TYPE_INT64 || type == CUDNN_TYPE_HANDLE || type == CUDNN_TYPE_VOID_PTR ? 8 : 4;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made)
{
    *made = new descriptor(new content{type, {}, {}, 0});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t handle)
{
    delete static_cast<descriptor *>(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t)
{
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        of(handle)->parts[name] = of(*static_cast<const cudnnBackendDescriptor_t *>(values));
    } else {
        const unsigned char *bytes = static_cast<const unsigned char *>(values);
        of(handle)->values[name].assign(bytes, bytes + (size_t)count * bytes_of(type));
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- what is offered ---- */

static const std::vector<cudnnBackendNumericalNote_t> notes_of[convolution_engines] = {
    {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC},
    {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS},
    {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_WINOGRAD},
    {CUDNN_NUMERICAL_NOTE_TENSOR_CORE},
    {CUDNN_NUMERICAL_NOTE_FFT},
    {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP},
};

/* An operation's attributes, whose names differ by direction only. */
struct operation_parts {
    content *convolution, *input, *weight, *output;
};

static operation_parts parts_of(const descriptor &graph)
{
    content *operation = graph->parts.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).get();
    const int first = operation->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR
                          ? CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC
                      : operation->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
                          ? CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC
                          : CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC;
    return {operation->parts.at(first).get(), operation->parts.at(first + 1).get(),
            operation->parts.at(first + 2).get(), operation->parts.at(first + 3).get()};
}

static int is_of_floats(const descriptor &graph)
{
    const operation_parts parts = parts_of(graph);
    int good = 1;
    for (content *tensor : {parts.input, parts.weight, parts.output}) {
        good = good && *tensor->get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_FLOAT;
    }
    return good;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t most, int64_t *count,
                                       void *values)
{
    const descriptor &asked = of(handle);
    *count = 1;
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        const descriptor &graph = asked->parts.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        *count = !is_of_floats(graph) ? 0 : most < convolution_engines ? most : (int64_t)convolution_engines;
        for (int64_t k = 0; k < *count; k++) {
            const descriptor &config = of(static_cast<cudnnBackendDescriptor_t *>(values)[k]);
            config->engine = (int)k;
            config->parts[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] = graph;
        }
    } else if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
        of(*static_cast<cudnnBackendDescriptor_t *>(values))->engine = asked->engine;
    } else if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        const std::vector<cudnnBackendNumericalNote_t> &notes = notes_of[asked->engine];
        *count = (int64_t)notes.size();
        memcpy(values, notes.data(), notes.size() * sizeof notes[0]);
    } else if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        *static_cast<int64_t *>(values) = 64;
    } else {
        return CUDNN_STATUS_BAD_PARAM;
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- convolutions ---- */

static size_t size_of(content *tensor)
{
    const int64_t *sizes = tensor->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    return (size_t)(sizes[0] * sizes[1] * sizes[2] * sizes[3] * sizes[4]);
}

/* A tensor as it is multiplied. */
static std::vector<double> factor(content *tensor, int tf32, const float *values)
{
    std::vector<double> made(size_of(tensor));
    for (size_t k = 0; k < made.size(); k++) {
        made[k] = (double)(tf32 ? rounded_to_tf32(values[k]) : values[k]);
    }
    return made;
}

/* The input voxel that a tap of an output voxel reads, along one axis; negative where it is outside. */
static int64_t along(int64_t output, int64_t tap, int64_t stride, int64_t padding, int64_t size)
{
    const int64_t input = output * stride + tap - padding;
    return input < size ? input : -1;
}

/* Calls with(input voxel, output voxel, tap) for all that meet. */
template <typename With> static void for_each_meeting(const operation_parts &parts, With with)
{
    const int64_t *in = parts.input->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    const int64_t *out = parts.output->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    const int64_t kernel = parts.weight->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)[2];
    const int64_t stride = parts.convolution->get<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)[0];
    const int64_t padding = parts.convolution->get<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)[0];
    for (int64_t o = 0; o < out[0] * out[2] * out[3] * out[4]; o++) {
        const int64_t n = o / (out[2] * out[3] * out[4]), d = o / (out[3] * out[4]) % out[2],
                      h = o / out[4] % out[3], w = o % out[4];
        for (int64_t tap = 0; tap < kernel * kernel * kernel; tap++) {
            const int64_t id = along(d, tap / (kernel * kernel), stride, padding, in[2]),
                          ih = along(h, tap / kernel % kernel, stride, padding, in[3]),
                          iw = along(w, tap % kernel, stride, padding, in[4]);
            if (id >= 0 && ih >= 0 && iw >= 0) {
                with((size_t)(((n * in[2] + id) * in[3] + ih) * in[4] + iw), (size_t)o, (size_t)tap);
            }
        }
    }
}

/* Which of the three tensors, in the order of parts_of, is the sum. */
static int sum_of(cudnnBackendDescriptorType_t operation)
{
    return operation == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR         ? 2
           : operation == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? 0
                                                                                       : 1;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    cuda_on_host::access_to_arrays access;
    const descriptor &config = of(plan)->parts.at(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const descriptor &graph = config->parts.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    const operation_parts parts = parts_of(graph);
    content *const tensors[3] = {parts.input, parts.weight, parts.output};
    float *const *arrays = of(pack)->get<float *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    const int sum = sum_of(graph->parts.at(CUDNN_ATTR_OPERATIONGRAPH_OPS)->type);
    const size_t ins = (size_t)parts.input->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)[1];
    const size_t outs = (size_t)parts.output->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)[1];
    std::vector<double> values[3];
    for (int k = 0; k < 3; k++) {
        values[k] = k == sum ? std::vector<double>(size_of(tensors[k]))
                             : factor(tensors[k], config->engine == ENGINE_ON_TENSOR_CORES, arrays[k]);
    }
    const size_t taps = values[1].size() / ins / outs;
    for_each_meeting(parts, [&](size_t in_voxel, size_t out_voxel, size_t tap) {
        for (size_t o = 0; o < outs; o++) {
            for (size_t i = 0; i < ins; i++) {
                double *met[3] = {&values[0][in_voxel * ins + i], &values[1][(o * taps + tap) * ins + i],
                                  &values[2][out_voxel * outs + o]};
                *met[sum] += *met[(sum + 1) % 3] * *met[(sum + 2) % 3];
            }
        }
    });
    for (size_t k = 0; k < values[sum].size(); k++) {
        arrays[sum][k] = (float)values[sum][k];
    }
    libraries_on_host.convolutions[config->engine]++;
    return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetVersion(void)
{
    return 90000;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    return status == CUDNN_STATUS_SUCCESS ? "none" : "not on the host";
}
