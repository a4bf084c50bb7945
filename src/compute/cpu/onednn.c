#include "compute/cpu/onednn.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

enum { most_convolutions = 512, most_copies = 512 };

/* Version 2 passes memory descriptors as structs, version 3 as handles. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t descriptor;
typedef const_dnnl_memory_desc_t descriptor_view;
#define view(d) (d)
#else
typedef dnnl_memory_desc_t descriptor;
typedef const dnnl_memory_desc_t *descriptor_view;
#define view(d) (&(d))
#endif

struct convolution {
    enum convolution_pass pass;
    struct conv3d_shape shape;
    enum compute_precision precision;
    int with_bias;
    dnnl_primitive_t primitive,
        reorder; /* reorder: plain weights to the wanted order, or the gradient back */
    dnnl_memory_t source, weights, bias, destination, scratch, plain;
    size_t weights_bytes, scratch_bytes;
};

/* Weights in the order that a convolution wants, and all others that want the same, such as of other batches.
 */
struct copy {
    const float *weight;
    const struct convolution *convolution;
    void *packed;
    int fresh;
};

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct convolution *convolutions[most_convolutions];
    int convolution_count;
    struct copy copies[most_copies];
    int copy_count;
};

static int make_descriptor(descriptor *d, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                           dnnl_format_tag_t tag)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(d, rank, dims, type, tag);
#else
    return dnnl_memory_desc_init_by_tag(d, rank, dims, type, tag);
#endif
}

static size_t descriptor_bytes(descriptor_view d)
{
    return dnnl_memory_desc_get_size(d);
}

/* The descriptors of a convolution's tensors. Weights and their gradient are in any order, or the weights in
 * PyTorch's. */
struct descriptors {
    descriptor source, weights, gradient, plain_weights, bias, destination;
};

static void free_descriptors(struct descriptors *d)
{
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_destroy(d->source);
    dnnl_memory_desc_destroy(d->weights);
    dnnl_memory_desc_destroy(d->gradient);
    dnnl_memory_desc_destroy(d->plain_weights);
    dnnl_memory_desc_destroy(d->bias);
    dnnl_memory_desc_destroy(d->destination);
#else
    (void)d;
#endif
}

static int make_descriptors(struct descriptors *d, const struct conv3d_shape *s,
                            enum compute_precision precision)
{
    const dnnl_data_type_t type = precision == PRECISION_BF16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_dims_t source = {s->n, s->in_channels, s->d, s->h, s->w};
    const dnnl_dims_t weights = {s->out_channels, s->in_channels, s->kernel, s->kernel, s->kernel};
    const dnnl_dims_t destination = {s->n, s->out_channels, s->d / s->stride, s->h / s->stride,
                                     s->w / s->stride};
    const dnnl_dims_t bias = {s->out_channels};
    const dnnl_format_tag_t any = dnnl_format_tag_any;
    int status = make_descriptor(&d->source, 5, source, type, dnnl_ndhwc);
    status = status != 0 ? status : make_descriptor(&d->weights, 5, weights, type, any);
    status = status != 0 ? status : make_descriptor(&d->gradient, 5, weights, dnnl_f32, any);
    status = status != 0 ? status : make_descriptor(&d->plain_weights, 5, weights, dnnl_f32, dnnl_oidhw);
    status = status != 0 ? status : make_descriptor(&d->bias, 1, bias, dnnl_f32, dnnl_a);
    return status != 0 ? status : make_descriptor(&d->destination, 5, destination, type, dnnl_ndhwc);
}

/* The primitive descriptor of one pass; hint is that of the forward pass. */
static int describe_pass(dnnl_primitive_desc_t *result, enum convolution_pass pass,
                         const struct descriptors *d, const struct convolution *v, dnnl_primitive_desc_t hint,
                         const_dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
    const struct conv3d_shape *s = &v->shape;
    const int padding = s->stride == 1 ? (s->kernel - 1) / 2 : 0;
    const dnnl_dims_t strides = {s->stride, s->stride, s->stride};
    const dnnl_dims_t pad = {padding, padding, padding};
    const dnnl_alg_kind_t direct = dnnl_convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
    const dnnl_dims_t dense = {0, 0, 0};
    switch (pass) {
    case CONVOLUTION_BACKWARD_DATA:
        return dnnl_convolution_backward_data_primitive_desc_create(result, engine, direct, d->source,
                                                                    d->weights, d->destination, strides,
                                                                    dense, pad, pad, hint, attr);
    case CONVOLUTION_BACKWARD_WEIGHTS:
        return dnnl_convolution_backward_weights_primitive_desc_create(result, engine, direct, d->source,
                                                                       d->gradient, NULL, d->destination,
                                                                       strides, dense, pad, pad, hint, attr);
    default:
        return dnnl_convolution_forward_primitive_desc_create(
            result, engine, dnnl_forward_training, direct, d->source, d->weights,
            v->with_bias ? d->bias : NULL, d->destination, strides, dense, pad, pad, attr);
    }
#else
    dnnl_convolution_desc_t operation;
    int status;
    switch (pass) {
    case CONVOLUTION_BACKWARD_DATA:
        status = dnnl_convolution_backward_data_desc_init(&operation, direct, &d->source, &d->weights,
                                                          &d->destination, strides, pad, pad);
        break;
    case CONVOLUTION_BACKWARD_WEIGHTS:
        status = dnnl_convolution_backward_weights_desc_init(&operation, direct, &d->source, &d->gradient,
                                                             NULL, &d->destination, strides, pad, pad);
        break;
    default:
        status = dnnl_convolution_forward_desc_init(&operation, dnnl_forward_training, direct, &d->source,
                                                    &d->weights, v->with_bias ? &d->bias : NULL,
                                                    &d->destination, strides, pad, pad);
    }
    return status != 0 ? status : (int)dnnl_primitive_desc_create(result, &operation, attr, engine, hint);
#endif
}

static int make_memory(dnnl_memory_t *memory, descriptor_view d, dnnl_engine_t engine)
{
    return dnnl_memory_create(memory, d, engine, DNNL_MEMORY_NONE);
}

/* An attribute that lets a reorder add to what is there. */
static int make_adding(dnnl_primitive_attr_t *attr)
{
    dnnl_post_ops_t operations = NULL;
    int status = dnnl_post_ops_create(&operations);
#if DNNL_VERSION_MAJOR >= 3
    status = status != 0 ? status : (int)dnnl_post_ops_append_sum(operations, 1, 0, dnnl_data_type_undef);
#else
    status = status != 0 ? status : (int)dnnl_post_ops_append_sum(operations, 1);
#endif
    status = status != 0 ? status : (int)dnnl_primitive_attr_create(attr);
    status = status != 0 ? status : (int)dnnl_primitive_attr_set_post_ops(*attr, operations);
    dnnl_post_ops_destroy(operations);
    return status;
}

/* The reorder between plain weights and those of the primitive: towards it, or for a gradient back, added to
 * the plain one. */
static int make_reorder(struct convolution *v, descriptor_view wanted, descriptor_view plain,
                        dnnl_engine_t engine)
{
    const int back = v->pass == CONVOLUTION_BACKWARD_WEIGHTS;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    int status = back ? make_adding(&attr) : 0;
    status = status != 0 ? status
                         : (int)dnnl_reorder_primitive_desc_create(&pd, back ? wanted : plain, engine,
                                                                   back ? plain : wanted, engine, attr);
    status = status != 0 ? status : (int)dnnl_primitive_create(&v->reorder, pd);
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static int make_primitive(struct convolution *v, const struct descriptors *d, dnnl_engine_t engine)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t forward = NULL, backward = NULL;
    int status = dnnl_primitive_attr_create(&attr);
    status =
        status != 0 ? status : (int)dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    status = status != 0 ? status : describe_pass(&forward, CONVOLUTION_FORWARD, d, v, NULL, attr, engine);
    if (status == 0 && v->pass != CONVOLUTION_FORWARD) {
        status = describe_pass(&backward, v->pass, d, v, forward, attr, engine);
    }
    if (status != 0) {
        goto done;
    }
    const_dnnl_primitive_desc_t pd = backward != NULL ? backward : forward;
    const dnnl_query_t query =
        v->pass == CONVOLUTION_BACKWARD_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    descriptor_view wanted = dnnl_primitive_desc_query_md(pd, query, 0);
    descriptor_view scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    v->weights_bytes = descriptor_bytes(wanted);
    v->scratch_bytes = descriptor_bytes(scratch);
    status = dnnl_primitive_create(&v->primitive, pd);
    status = status != 0 ? status : make_reorder(v, wanted, view(d->plain_weights), engine);
    status = status != 0 ? status : make_memory(&v->source, view(d->source), engine);
    status = status != 0 ? status : make_memory(&v->weights, wanted, engine);
    status = status != 0 ? status : make_memory(&v->bias, view(d->bias), engine);
    status = status != 0 ? status : make_memory(&v->destination, view(d->destination), engine);
    status = status != 0 ? status : make_memory(&v->scratch, scratch, engine);
    status = status != 0 ? status : make_memory(&v->plain, view(d->plain_weights), engine);
done:
    dnnl_primitive_desc_destroy(backward);
    dnnl_primitive_desc_destroy(forward);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static void free_convolution(struct convolution *v)
{
    if (v != NULL) {
        dnnl_memory_destroy(v->plain);
        dnnl_memory_destroy(v->scratch);
        dnnl_memory_destroy(v->destination);
        dnnl_memory_destroy(v->bias);
        dnnl_memory_destroy(v->weights);
        dnnl_memory_destroy(v->source);
        dnnl_primitive_destroy(v->reorder);
        dnnl_primitive_destroy(v->primitive);
        free(v);
    }
}

static void free_copies(struct onednn *o)
{
    for (int k = 0; k < o->copy_count; k++) {
        free(o->copies[k].packed);
    }
    o->copy_count = 0;
}

static void free_convolutions(struct onednn *o)
{
    free_copies(o);
    for (int k = 0; k < o->convolution_count; k++) {
        free_convolution(o->convolutions[k]);
    }
    o->convolution_count = 0;
}

static int same_shape(const struct conv3d_shape *a, const struct conv3d_shape *b)
{
    return a->n == b->n && a->d == b->d && a->h == b->h && a->w == b->w && a->in_channels == b->in_channels &&
           a->out_channels == b->out_channels && a->kernel == b->kernel && a->stride == b->stride;
}

struct convolution *onednn_convolution(struct onednn *o, enum convolution_pass pass,
                                       const struct conv3d_shape *shape, enum compute_precision precision,
                                       int with_bias)
{
    for (int k = 0; k < o->convolution_count; k++) {
        struct convolution *v = o->convolutions[k];
        if (v->pass == pass && v->precision == precision && v->with_bias == with_bias &&
            same_shape(&v->shape, shape)) {
            return v;
        }
    }
    if (o->convolution_count == most_convolutions) {
        free_convolutions(o);
    }
    struct convolution *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return NULL;
    }
    v->pass = pass;
    v->shape = *shape;
    v->precision = precision;
    v->with_bias = with_bias;
    struct descriptors d = {0};
    int status = make_descriptors(&d, shape, precision);
    status = status != 0 ? status : make_primitive(v, &d, o->engine);
    free_descriptors(&d);
    if (status != 0) {
        free_convolution(v);
        return NULL;
    }
    o->convolutions[o->convolution_count++] = v;
    return v;
}

size_t convolution_scratch(const struct convolution *v)
{
    const size_t gradient = v->pass == CONVOLUTION_BACKWARD_WEIGHTS ? (v->weights_bytes + 63) / 64 * 64 : 0;
    return gradient + v->scratch_bytes;
}

struct onednn *onednn_open(void)
{
    struct onednn *o = calloc(1, sizeof *o);
    if (o != NULL && (dnnl_engine_create(&o->engine, dnnl_cpu, 0) != dnnl_success ||
                      dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags) != dnnl_success)) {
        onednn_close(o);
        return NULL;
    }
    return o;
}

void onednn_close(struct onednn *o)
{
    if (o != NULL) {
        free_convolutions(o);
        dnnl_stream_destroy(o->stream);
        dnnl_engine_destroy(o->engine);
        free(o);
    }
}

void onednn_forget_weights(struct onednn *o)
{
    for (int k = 0; k < o->copy_count; k++) {
        o->copies[k].fresh = 0;
    }
}

static int point(dnnl_memory_t memory, const void *data)
{
    return dnnl_memory_set_data_handle(memory, (void *)data);
}

static int run_reorder(struct onednn *o, struct convolution *v, dnnl_memory_t from, dnnl_memory_t to)
{
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    return dnnl_primitive_execute(v->reorder, o->stream, 2, arguments);
}

static int want_same_order(const struct convolution *a, const struct convolution *b)
{
    descriptor_view order_of_a = NULL, order_of_b = NULL;
    return dnnl_memory_get_memory_desc(a->weights, &order_of_a) == dnnl_success &&
           dnnl_memory_get_memory_desc(b->weights, &order_of_b) == dnnl_success &&
           dnnl_memory_desc_equal(order_of_a, order_of_b);
}

static struct copy *find_copy(struct onednn *o, const struct convolution *v, const float *weight)
{
    for (int k = 0; k < o->copy_count; k++) {
        if (o->copies[k].weight == weight &&
            (o->copies[k].convolution == v || want_same_order(o->copies[k].convolution, v))) {
            return &o->copies[k];
        }
    }
    if (o->copy_count == most_copies) {
        free_copies(o);
    }
    struct copy *copy = &o->copies[o->copy_count];
    *copy = (struct copy){.weight = weight, .convolution = v};
    copy->packed = aligned_alloc(64, (v->weights_bytes + 63) / 64 * 64);
    if (copy->packed == NULL) {
        return NULL;
    }
    o->copy_count++;
    return copy;
}

/* Points v->weights at `weight` in the order it wants. */
static int provide_weights(struct onednn *o, struct convolution *v, const float *weight)
{
    struct copy *copy = find_copy(o, v, weight);
    if (copy == NULL) {
        return dnnl_out_of_memory;
    }
    int status = point(v->weights, copy->packed);
    if (status == 0 && !copy->fresh) {
        status = point(v->plain, weight);
        status = status != 0 ? status : run_reorder(o, v, v->plain, v->weights);
        copy->fresh = status == 0;
    }
    return status;
}

int convolution_run(struct onednn *o, struct convolution *v, activation *result, const activation *first,
                    const float *weight, const float *bias, void *scratch)
{
    const int forward = v->pass == CONVOLUTION_FORWARD;
    int status = provide_weights(o, v, weight);
    status = status != 0 ? status : point(v->source, forward ? first : result);
    status = status != 0 ? status : point(v->destination, forward ? result : first);
    status = status != 0 ? status : point(v->scratch, scratch);
    status = status != 0 ? status : point(v->bias, bias);
    const dnnl_exec_arg_t arguments[] = {{forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_SRC, v->source},
                                         {DNNL_ARG_WEIGHTS, v->weights},
                                         {forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, v->destination},
                                         {DNNL_ARG_SCRATCHPAD, v->scratch},
                                         {DNNL_ARG_BIAS, v->bias}};
    status = status != 0
                 ? status
                 : (int)dnnl_primitive_execute(v->primitive, o->stream, v->with_bias ? 5 : 4, arguments);
    return status != 0 ? status : (int)dnnl_stream_wait(o->stream);
}

int convolution_add_weight_gradient(struct onednn *o, struct convolution *v, float *dweight,
                                    const activation *dout, const activation *inp, void *scratch)
{
    unsigned char *packed = scratch;
    int status = point(v->source, inp);
    status = status != 0 ? status : point(v->destination, dout);
    status = status != 0 ? status : point(v->weights, packed);
    status = status != 0 ? status : point(v->plain, dweight);
    status = status != 0 ? status : point(v->scratch, packed + (v->weights_bytes + 63) / 64 * 64);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, v->source},
                                         {DNNL_ARG_DIFF_WEIGHTS, v->weights},
                                         {DNNL_ARG_DIFF_DST, v->destination},
                                         {DNNL_ARG_SCRATCHPAD, v->scratch}};
    status = status != 0 ? status : (int)dnnl_primitive_execute(v->primitive, o->stream, 4, arguments);
    status = status != 0 ? status : run_reorder(o, v, v->weights, v->plain);
    return status != 0 ? status : (int)dnnl_stream_wait(o->stream);
}

int onednn_product(float *out, const float *a, int transpose_a, const float *b, int transpose_b, size_t m,
                   size_t n, size_t k, float beta)
{
    return dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n,
                      (dnnl_dim_t)k, 1, a, (dnnl_dim_t)(transpose_a ? m : k), b,
                      (dnnl_dim_t)(transpose_b ? k : n), beta, out, (dnnl_dim_t)n);
}
