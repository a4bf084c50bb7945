/* Window attention on the plain arithmetic units: float32, and every head_dim that tensor cores do not take.
 * Thread t of a block is the window's query t, and in the second half of backward its key t, with its vectors
 * in registers; the other side's pass through shared memory a few at a time. */
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/window_attention.cuh"

enum { plain_threads_most = 352 };

/* Keys (queries) that are in shared memory at a time. */
template <int dims> struct plain_chunk {
    static const int length = dims <= 64 ? 49 : 16;
};

/* Element i of part 0 (q), 1 (k) or 2 (v) of a token; padding's is the bias. */
template <typename T>
static __device__ __forceinline__ float element_of(const T *qkv, const float *qkv_bias, const window_grid &g,
                                                   int row, int part, int head, int i)
{
    const size_t column = ((size_t)part * g.heads + head) * g.head_dim + i;
    return row >= 0 ? to_float(qkv[(size_t)row * 3 * g.heads * g.head_dim + column]) : qkv_bias[column];
}

/* Of out or dout. */
template <typename T>
static __device__ __forceinline__ float output_of(const T *out, const window_grid &g, int row, int head,
                                                  int i)
{
    return to_float(out[((size_t)row * g.heads + head) * g.head_dim + i]);
}

template <int dims> static __device__ __forceinline__ float dot(const float *a, const float *b)
{
    float sum = 0;
#pragma unroll(dims <= 32 ? dims : 4)
    for (int i = 0; i < dims; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* to += factor x */
template <int dims>
static __device__ __forceinline__ void add_multiple(float *to, float factor, const float *x)
{
#pragma unroll(dims <= 32 ? dims : 4)
    for (int i = 0; i < dims; i++) {
        to[i] += factor * x[i];
    }
}

/* x = factor x */
template <int dims> static __device__ __forceinline__ void multiply(float *x, float factor)
{
#pragma unroll(dims <= 32 ? dims : 4)
    for (int i = 0; i < dims; i++) {
        x[i] *= factor;
    }
}

/* Part `part` of a token, from memory to registers; zeros beyond head_dim. */
template <typename T, int dims>
static __device__ __forceinline__ void load_vector(float *to, const T *qkv, const float *qkv_bias,
                                                   const window_grid &g, int row, int part, int head)
{
#pragma unroll(dims <= 32 ? dims : 4)
    for (int i = 0; i < dims; i++) {
        to[i] = i < g.head_dim ? element_of(qkv, qkv_bias, g, row, part, head, i) : 0.0f;
    }
}

/* Part `part` of tokens first, first + 1, ... to shared memory, by the block. */
template <typename T, int dims>
static __device__ __forceinline__ void load_chunk(float *to, const T *qkv, const float *qkv_bias,
                                                  const window_grid &g, const int *rows, int first, int part,
                                                  int head)
{
    for (int e = (int)threadIdx.x; e < plain_chunk<dims>::length * dims; e += (int)blockDim.x) {
        const int number = first + e / dims, i = e % dims;
        to[e] = number < g.tokens && i < g.head_dim
                    ? element_of(qkv, qkv_bias, g, rows[number], part, head, i)
                    : 0.0f;
    }
}

/* The place of a key as that of a query. */
static __device__ __forceinline__ uint32_t as_query(uint32_t place)
{
    return place + query_place(0, 0);
}

/* Where the window's token of this thread is; told to the block, which must wait before it reads. */
static __device__ __forceinline__ int place_token(int *rows, uint32_t *places, const window_grid &g,
                                                  const window_cut &cut)
{
    const int number = (int)threadIdx.x;
    if (number >= g.tokens) {
        return -1;
    }
    const window_token token = token_of_window(g, cut, number);
    rows[number] = token.row;
    places[number] = key_place(number, token.region);
    return token.row;
}

template <typename T, int dims>
static __global__ void __launch_bounds__(plain_threads_most)
    attend_plainly(T *out, float *logsumexp, const T *qkv, const float *qkv_bias, const float *bias_table,
                   window_grid g)
{
    const int chunk = plain_chunk<dims>::length;
    dynamic_shared(float, table);
    float *keys = table + table_slots, *values = keys + chunk * dims;
    int *rows = (int *)(values + chunk * dims);
    uint32_t *places = (uint32_t *)(rows + plain_threads_most);
    const int head = (int)blockIdx.x;
    float q[dims], sum_of_values[dims];
    load_table(table, bias_table, head, g.heads, 1);
    for (int window = (int)blockIdx.y; window < g.windows; window += (int)gridDim.y) {
        __syncthreads();
        const int row = place_token(rows, places, g, cut_window(g, window));
        __syncthreads();
        uint32_t place = 0;
        float largest = -INFINITY, sum = 0;
        if (row >= 0) {
            place = as_query(places[threadIdx.x]);
            load_vector<T, dims>(q, qkv, qkv_bias, g, row, 0, head);
            multiply<dims>(q, g.scale);
#pragma unroll(dims <= 32 ? dims : 4)
            for (int i = 0; i < dims; i++) {
                sum_of_values[i] = 0;
            }
        }
        for (int first = 0; first < g.tokens; first += chunk) {
            __syncthreads();
            load_chunk<T, dims>(keys, qkv, qkv_bias, g, rows, first, 1, head);
            load_chunk<T, dims>(values, qkv, qkv_bias, g, rows, first, 2, head);
            __syncthreads();
            for (int j = 0; row >= 0 && j < chunk && first + j < g.tokens; j++) {
                const float score = dot<dims>(q, keys + j * dims) +
                                    bias_of<true>(table, place, places[first + j], masked_score);
                if (score > largest) {
                    const float factor = expf(largest - score);
                    sum *= factor;
                    multiply<dims>(sum_of_values, factor);
                    largest = score;
                }
                const float p = expf(score - largest);
                sum += p;
                add_multiple<dims>(sum_of_values, p, values + j * dims);
            }
        }
        if (row >= 0) {
            for (int i = 0; i < dims; i++) {
                if (i < g.head_dim) {
                    out[((size_t)row * g.heads + head) * g.head_dim + i] =
                        from_float<T>(sum_of_values[i] / sum);
                }
            }
            logsumexp[(size_t)row * g.heads + head] = largest + logf(sum);
        }
    }
}

/* What the block of backward shares. */
template <int dims> struct plain_backward_shared {
    double table_gradient[relative_table_rows];
    float table[table_slots];
    float one[plain_chunk<dims>::length * dims],
        other[plain_chunk<dims>::length * dims];                    /* k, v or q, dout */
    float logsumexp[plain_threads_most], delta[plain_threads_most]; /* of queries; delta: dout . out */
    float bias_gradient[plain_threads_most / warp_size][2 * dims];  /* of k and v, what each warp has seen */
    int rows[plain_threads_most];
    uint32_t places[plain_threads_most];
};

/* The gradient of the thread's query, from all keys of the window; keeps logsumexp and delta for the second
 * half. */
template <typename T, int dims>
static __device__ __forceinline__ void
query_gradient(T *dqkv, plain_backward_shared<dims> *s, const T *dout, const T *out, const float *logsumexp,
               const T *qkv, const float *qkv_bias, const window_grid &g, int head, int row)
{
    float q[dims], dy[dims], dq[dims], delta = 0, log_sum = 0;
    uint32_t place = 0;
    if (row >= 0) {
        load_vector<T, dims>(q, qkv, qkv_bias, g, row, 0, head);
        multiply<dims>(q, g.scale);
#pragma unroll(dims <= 32 ? dims : 4)
        for (int i = 0; i < dims; i++) {
            dq[i] = 0;
            dy[i] = i < g.head_dim ? output_of(dout, g, row, head, i) : 0.0f;
            delta += i < g.head_dim ? dy[i] * output_of(out, g, row, head, i) : 0.0f;
        }
        log_sum = logsumexp[(size_t)row * g.heads + head];
        place = as_query(s->places[threadIdx.x]);
        s->logsumexp[threadIdx.x] = log_sum;
        s->delta[threadIdx.x] = delta;
    }
    for (int first = 0; first < g.tokens; first += plain_chunk<dims>::length) {
        __syncthreads();
        load_chunk<T, dims>(s->one, qkv, qkv_bias, g, s->rows, first, 1, head);
        load_chunk<T, dims>(s->other, qkv, qkv_bias, g, s->rows, first, 2, head);
        __syncthreads();
        for (int j = 0; row >= 0 && j < plain_chunk<dims>::length && first + j < g.tokens; j++) {
            const float score = dot<dims>(q, s->one + j * dims) +
                                bias_of<true>(s->table, place, s->places[first + j], masked_score);
            const float dscore = expf(score - log_sum) * (dot<dims>(dy, s->other + j * dims) - delta);
            add_multiple<dims>(dq, dscore, s->one + j * dims);
        }
    }
    for (int i = 0; row >= 0 && i < dims; i++) {
        if (i < g.head_dim) {
            dqkv[((size_t)row * 3 * g.heads + head) * g.head_dim + i] = from_float<T>(dq[i] * g.scale);
        }
    }
}

/* Adds dk and dv of the window's padding to the sums of this warp. */
template <int dims>
static __device__ __forceinline__ void add_padding(plain_backward_shared<dims> *s, const float *dk,
                                                   const float *dv, int is_padding, float scale)
{
    float *sums = s->bias_gradient[threadIdx.x / warp_size];
#pragma unroll(dims <= 32 ? dims : 4)
    for (int i = 0; i < dims; i++) {
        const float of_k = warp_sum(is_padding ? dk[i] * scale : 0.0f);
        const float of_v = warp_sum(is_padding ? dv[i] : 0.0f);
        if (threadIdx.x % warp_size == 0) {
            sums[i] += of_k;
            sums[dims + i] += of_v;
        }
    }
}

/* The gradients of the thread's key and value, from all queries of the window, and that of the table: for one
 * query, each key has a row of the table to itself, so that the block adds query by query without two threads
 * meeting. */
template <typename T, int dims>
static __device__ __forceinline__ void key_gradient(T *dqkv, plain_backward_shared<dims> *s, const T *dout,
                                                    const T *qkv, const float *qkv_bias, const window_grid &g,
                                                    int head, int row, int any_padding)
{
    const int is_key = (int)threadIdx.x < g.tokens;
    const uint32_t place = is_key ? s->places[threadIdx.x] : 0;
    float k[dims], v[dims], dk[dims], dv[dims];
    if (is_key) {
        load_vector<T, dims>(k, qkv, qkv_bias, g, row, 1, head);
        multiply<dims>(k, g.scale);
        load_vector<T, dims>(v, qkv, qkv_bias, g, row, 2, head);
    }
#pragma unroll(dims <= 32 ? dims : 4)
    for (int i = 0; i < dims; i++) {
        dk[i] = dv[i] = 0;
    }
    for (int first = 0; first < g.tokens; first += plain_chunk<dims>::length) {
        __syncthreads();
        load_chunk<T, dims>(s->one, qkv, qkv_bias, g, s->rows, first, 0, head);
        for (int e = (int)threadIdx.x; e < plain_chunk<dims>::length * dims; e += (int)blockDim.x) {
            const int number = first + e / dims, i = e % dims;
            s->other[e] = number < g.tokens && i < g.head_dim && s->rows[number] >= 0
                              ? output_of(dout, g, s->rows[number], head, i)
                              : 0.0f;
        }
        __syncthreads();
        for (int j = 0; j < plain_chunk<dims>::length && first + j < g.tokens; j++) {
            const int query = first + j;
            if (s->rows[query] < 0) {
                continue;
            }
            if (is_key) {
                const uint32_t of_query = as_query(s->places[query]);
                const float score =
                    dot<dims>(k, s->one + j * dims) + bias_of<true>(s->table, of_query, place, masked_score);
                const float p = expf(score - s->logsumexp[query]);
                const float dscore = p * (dot<dims>(v, s->other + j * dims) - s->delta[query]);
                add_multiple<dims>(dk, dscore, s->one + j * dims);
                add_multiple<dims>(dv, p, s->other + j * dims);
                s->table_gradient[table_row(of_query, place)] += dscore;
            }
            __syncthreads();
        }
    }
    for (int i = 0; is_key && row >= 0 && i < dims; i++) {
        if (i < g.head_dim) {
            T *to = dqkv + ((size_t)(row * (size_t)3 + 1) * g.heads + head) * g.head_dim + i;
            to[0] = from_float<T>(dk[i] * g.scale);
            to[g.heads * g.head_dim] = from_float<T>(dv[i]);
        }
    }
    if (any_padding) {
        add_padding<dims>(s, dk, dv, is_key && row < 0, g.scale);
    }
}

template <typename T, int dims>
static __global__ void __launch_bounds__(plain_threads_most)
    attend_plainly_backward(T *dqkv, float *partials, const T *dout, const T *out, const float *logsumexp,
                            const T *qkv, const float *qkv_bias, const float *bias_table, window_grid g)
{
    dynamic_shared(plain_backward_shared<dims>, s);
    const int head = (int)blockIdx.x, warps = (int)blockDim.x / warp_size;
    load_table(s->table, bias_table, head, g.heads, 1);
    for (int r = (int)threadIdx.x; r < relative_table_rows; r += (int)blockDim.x) {
        s->table_gradient[r] = 0;
    }
    for (int k = (int)threadIdx.x; k < warps * 2 * dims; k += (int)blockDim.x) {
        s->bias_gradient[0][k] = 0;
    }
    for (int window = (int)blockIdx.y; window < g.windows; window += (int)gridDim.y) {
        const window_cut cut = cut_window(g, window);
        const int any_padding = cut.real[0] * cut.real[1] * cut.real[2] < g.tokens;
        __syncthreads();
        const int row = place_token(s->rows, s->places, g, cut);
        __syncthreads();
        query_gradient<T, dims>(dqkv, s, dout, out, logsumexp, qkv, qkv_bias, g, head, row);
        key_gradient<T, dims>(dqkv, s, dout, qkv, qkv_bias, g, head, row, any_padding);
    }
    __syncthreads();
    partials += ((size_t)head * gridDim.y + blockIdx.y) * attention_partial_length(g.head_dim);
    for (int r = (int)threadIdx.x; r < relative_table_rows; r += (int)blockDim.x) {
        partials[r] = (float)s->table_gradient[r];
    }
    for (int k = (int)threadIdx.x; k < 2 * g.head_dim; k += (int)blockDim.x) {
        float sum = 0;
        for (int warp = 0; warp < warps; warp++) {
            sum += s->bias_gradient[warp][k / g.head_dim * dims + k % g.head_dim];
        }
        partials[relative_table_rows + k] = sum;
    }
}

static dim3 threads_of_window(const window_grid *g)
{
    return dim3((unsigned)divide_up((size_t)g->tokens, warp_size) * warp_size);
}

template <typename T, int dims>
static void forward_of(struct compute *c, activation *out, float *logsumexp, const activation *qkv,
                       const float *qkv_bias, const float *bias_table, const window_grid *g)
{
    const int groups = window_groups(g, 2 * cuda_state(c)->multiprocessors);
    const size_t shared = (table_slots + 2 * (size_t)plain_chunk<dims>::length * dims) * sizeof(float) +
                          plain_threads_most * (sizeof(int) + sizeof(uint32_t));
    launch(c, attend_plainly<T, dims>, dim3((unsigned)g->heads, (unsigned)groups), threads_of_window(g),
           shared, (T *)out, logsumexp, (const T *)qkv, qkv_bias, bias_table, *g);
}

template <typename T>
static void forward_in(struct compute *c, activation *out, float *logsumexp, const activation *qkv,
                       const float *qkv_bias, const float *bias_table, const window_grid *g)
{
    if (g->head_dim <= 4) {
        forward_of<T, 4>(c, out, logsumexp, qkv, qkv_bias, bias_table, g);
    } else if (g->head_dim <= 16) {
        forward_of<T, 16>(c, out, logsumexp, qkv, qkv_bias, bias_table, g);
    } else if (g->head_dim <= 32) {
        forward_of<T, 32>(c, out, logsumexp, qkv, qkv_bias, bias_table, g);
    } else if (g->head_dim <= 64) {
        forward_of<T, 64>(c, out, logsumexp, qkv, qkv_bias, bias_table, g);
    } else if (g->head_dim <= 256) {
        forward_of<T, 256>(c, out, logsumexp, qkv, qkv_bias, bias_table, g);
    } else {
        compute_failed(c, VOCO_UNSUPPORTED, "attention with more than 256 channels in a head");
    }
}

void plain_window_attention_forward(struct compute *c, activation *out, float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *shape)
{
    const window_grid g = window_grid_of(shape);
    if (c->precision == PRECISION_BF16) {
        forward_in<bf16>(c, out, logsumexp, qkv, qkv_bias, bias_table, &g);
    } else {
        forward_in<float>(c, out, logsumexp, qkv, qkv_bias, bias_table, &g);
    }
}

/* The arguments of backward, which pass through the choice of a kernel together. */
struct plain_backward {
    activation *dqkv;
    float *dqkv_bias, *dbias_table;
    const activation *dout, *out;
    const float *logsumexp;
    const activation *qkv;
    const float *qkv_bias, *bias_table;
};

template <typename T, int dims>
static void backward_of(struct compute *c, const plain_backward *b, const window_grid *g)
{
    const int groups = window_groups(g, 2 * cuda_state(c)->multiprocessors);
    float *partials = (float *)leaf_input(c, (size_t)g->heads * groups *
                                                 attention_partial_length(g->head_dim) * sizeof *partials);
    launch(c, attend_plainly_backward<T, dims>, dim3((unsigned)g->heads, (unsigned)groups),
           threads_of_window(g), sizeof(plain_backward_shared<dims>), (T *)b->dqkv, partials,
           (const T *)b->dout, (const T *)b->out, b->logsumexp, (const T *)b->qkv, b->qkv_bias, b->bias_table,
           *g);
    launch_attention_sums(c, b->dqkv_bias, b->dbias_table, partials, g, groups);
}

template <typename T>
static void backward_in(struct compute *c, const plain_backward *b, const window_grid *g)
{
    if (g->head_dim <= 4) {
        backward_of<T, 4>(c, b, g);
    } else if (g->head_dim <= 16) {
        backward_of<T, 16>(c, b, g);
    } else if (g->head_dim <= 32) {
        backward_of<T, 32>(c, b, g);
    } else if (g->head_dim <= 64) {
        backward_of<T, 64>(c, b, g);
    } else if (g->head_dim <= 256) {
        backward_of<T, 256>(c, b, g);
    } else {
        compute_failed(c, VOCO_UNSUPPORTED, "attention with more than 256 channels in a head");
    }
}

void plain_window_attention_backward(struct compute *c, activation *dqkv, float *dqkv_bias,
                                     float *dbias_table, const activation *dout, const activation *out,
                                     const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                     const float *bias_table, const struct attention_shape *shape)
{
    const window_grid g = window_grid_of(shape);
    const plain_backward b = {dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias, bias_table};
    if (c->precision == PRECISION_BF16) {
        backward_in<bf16>(c, &b, &g);
    } else {
        backward_in<float>(c, &b, &g);
    }
}
