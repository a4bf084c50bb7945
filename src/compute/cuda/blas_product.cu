#include "compute/cuda/blas_library.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/measured.cuh"

#include <initializer_list>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct blas_plan {
    struct measured_key key;
    struct matrix_product product;
    unsigned alignment; /* of every array, in bytes, at most 16: what vector accesses and bulk copies need */
    int bias;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    int found; /* there is an algorithm */
};

struct product_arrays {
    void *d;
    const void *a, *b;
};

static void free_plan(const struct blas_functions *f, struct blas_plan *plan)
{
    if (plan->operation != NULL) {
        (void)f->operation_destroy(plan->operation);
    }
    for (cublasLtMatrixLayout_t layout : {plan->a, plan->b, plan->d}) {
        if (layout != NULL) {
            (void)f->layout_destroy(layout);
        }
    }
}

void blas_free_plans(struct compute *c)
{
    struct blas *blas = cuda_state(c)->blas;
    for (size_t k = 0; k < blas->count; k++) {
        free_plan(&blas->functions, &blas->plans[k]);
    }
    free(blas->plans);
    blas->plans = NULL;
    blas->count = blas->capacity = 0;
}

/* cuBLASLt's matrices are column-major: to it, row-major d is its transpose, d' = b' a'. Its first factor is
 * our b, its second our a, and what we call transposed is transposed to it as well. */
static cublasStatus_t describe(const struct blas_functions *f, struct blas_plan *plan)
{
    const struct matrix_product *p = &plan->product;
    const cudaDataType_t input = p->bf16_inputs ? CUDA_R_16BF : CUDA_R_32F;
    const cudaDataType_t output = p->bf16_output ? CUDA_R_16BF : CUDA_R_32F;
    const cublasOperation_t first = p->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = p->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = plan->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    const size_t b_rows = p->b_transposed ? p->depth : p->columns;
    const size_t b_columns = p->b_transposed ? p->columns : p->depth;
    const size_t a_rows = p->a_transposed ? p->rows : p->depth;
    const size_t a_columns = p->a_transposed ? p->depth : p->rows;
    const cublasComputeType_t arithmetic = p->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasStatus_t error = f->operation_create(&plan->operation, arithmetic, CUDA_R_32F);
    if (error == CUBLAS_STATUS_SUCCESS) {
        error = f->operation_set(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
    }
    if (error == CUBLAS_STATUS_SUCCESS) {
        error = f->operation_set(plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
    }
    if (error == CUBLAS_STATUS_SUCCESS) {
        error = f->operation_set(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    }
    if (error == CUBLAS_STATUS_SUCCESS) {
        error = f->layout_create(&plan->a, input, b_rows, b_columns, (int64_t)b_rows);
    }
    if (error == CUBLAS_STATUS_SUCCESS) {
        error = f->layout_create(&plan->b, input, a_rows, a_columns, (int64_t)a_rows);
    }
    if (error == CUBLAS_STATUS_SUCCESS) {
        error = f->layout_create(&plan->d, output, p->columns, p->rows, (int64_t)p->columns);
    }
    return error;
}

static cublasStatus_t set_bias(const struct blas_functions *f, struct blas_plan *plan, const float *bias)
{
    return plan->bias
               ? f->operation_set(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)
               : CUBLAS_STATUS_SUCCESS;
}

enum { most_candidates = 8 };

/* How many algorithms there are whose partial sums are added as `reductions` says. */
static int ask(const struct blas *blas, const struct blas_plan *plan, uint32_t reductions,
               cublasLtMatmulHeuristicResult_t *candidates)
{
    const struct blas_functions *f = &blas->functions;
    const uint64_t workspace = blas_workspace_bytes;
    const uint32_t alignment = plan->alignment;
    cublasLtMatmulPreference_t preference = NULL;
    int count = 0;
    cublasStatus_t error = f->preference_create(&preference);
    if (error != CUBLAS_STATUS_SUCCESS) {
        return 0;
    }
    error =
        f->preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    if (error == CUBLAS_STATUS_SUCCESS) {
        error = f->preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                  sizeof reductions);
    }
    for (cublasLtMatmulPreferenceAttributes_t attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
        if (error == CUBLAS_STATUS_SUCCESS) {
            error = f->preference_set(preference, attribute, &alignment, sizeof alignment);
        }
    }
    if (error == CUBLAS_STATUS_SUCCESS) {
        error = f->get_heuristic(blas->handle, plan->operation, plan->a, plan->b, plan->d, plan->d,
                                 preference, most_candidates, candidates, &count);
    }
    (void)f->preference_destroy(preference);
    return error == CUBLAS_STATUS_SUCCESS ? count : 0;
}

/* Products of leaves run beside others. */
static void **workspace_of(struct compute *c)
{
    const struct leaves *leaves = cuda_state(c)->leaves;
    return &cuda_state(c)->blas->workspaces[leaves != NULL && leaves->within];
}

static cublasStatus_t multiply(struct compute *c, const struct blas_plan *plan,
                               const cublasLtMatmulAlgo_t *algorithm, const struct product_arrays *arrays)
{
    const struct blas *blas = cuda_state(c)->blas;
    const float alpha = 1;
    const float beta = plan->product.accumulates ? 1.0f : 0.0f;
    return blas->functions.matmul(blas->handle, plan->operation, &alpha, arrays->b, plan->a, arrays->a,
                                  plan->b, &beta, arrays->d, plan->d, arrays->d, plan->d, algorithm,
                                  *workspace_of(c), blas_workspace_bytes, cuda_stream(c));
}

/* The fastest candidate, or -1. What accumulates is measured into memory of its own. */
static int measure(struct compute *c, const struct blas_plan *plan, const struct product_arrays *arrays,
                   const cublasLtMatmulHeuristicResult_t *candidates, int count)
{
    const struct matrix_product *p = &plan->product;
    struct product_arrays trial = *arrays;
    char times[160] = "";
    size_t length = 0;
    float best_time = -1;
    int best = -1;
    if (p->accumulates) {
        trial.d = c->allocate(c, p->rows * p->columns * (p->bf16_output ? sizeof(bf16) : sizeof(float)));
    }
    for (int k = 0; k < count && trial.d != NULL; k++) {
        if (candidates[k].state != CUBLAS_STATUS_SUCCESS ||
            candidates[k].workspaceSize > blas_workspace_bytes) {
            continue;
        }
        const float time = measured_time(
            c, [&] { return multiply(c, plan, &candidates[k].algo, &trial) == CUBLAS_STATUS_SUCCESS; });
        if (measured_is_faster(time, best_time)) {
            best_time = time;
            best = k;
        }
        if (length < sizeof times) {
            length += (size_t)snprintf(times + length, sizeof times - length, " %.3f", (double)time);
        }
        if (best >= 0 && !measuring_wanted()) {
            break;
        }
    }
    if (p->accumulates) {
        c->release(c, trial.d);
    }
    if (measuring_is_verbose()) {
        fprintf(stderr, "cuBLASLt %zu x %zu, depth %zu%s:%s ms, takes %d\n", p->rows, p->columns, p->depth,
                p->bf16_inputs ? " bf16"
                : p->tf32      ? " tf32"
                               : "",
                times, best);
    }
    return best;
}

static void choose_algorithm(struct compute *c, struct blas_plan *plan, const struct product_arrays *arrays)
{
    struct blas *blas = cuda_state(c)->blas;
    cublasLtMatmulHeuristicResult_t candidates[most_candidates];
    /* Not those that add partial sums to d in whatever order they arrive. */
    int count = ask(blas, plan, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, candidates);
    if (count == 0) {
        count = ask(blas, plan, CUBLASLT_REDUCTION_SCHEME_NONE, candidates);
    }
    int choice = measured_choice(&plan->key);
    if (choice < 0 || choice >= count) {
        choice = measure(c, plan, arrays, candidates, count);
        if (choice >= 0) {
            measured_remember(&plan->key, choice);
        }
    }
    if (choice >= 0) {
        plan->algorithm = candidates[choice].algo;
        plan->found = 1;
    }
}

static struct blas_plan *add_plan(struct compute *c)
{
    struct blas *blas = cuda_state(c)->blas;
    if (blas->count == blas->capacity) {
        const size_t capacity = blas->capacity > 0 ? 2 * blas->capacity : 64;
        void *plans = realloc(blas->plans, capacity * sizeof *blas->plans);
        if (plans == NULL) {
            compute_failed(c, VOCO_NO_MEMORY, "no memory for the list of matrix products");
            return NULL;
        }
        blas->plans = (struct blas_plan *)plans;
        blas->capacity = capacity;
    }
    struct blas_plan *plan = &blas->plans[blas->count++];
    memset(plan, 0, sizeof *plan);
    return plan;
}

static struct blas_plan *find_plan(struct blas *blas, const struct measured_key *key)
{
    for (size_t k = 0; k < blas->count; k++) {
        if (memcmp(&blas->plans[k].key, key, sizeof *key) == 0) {
            return &blas->plans[k];
        }
    }
    return NULL;
}

static struct blas_plan *make_plan(struct compute *c, const struct blas_plan *wanted,
                                   const struct product_arrays *arrays, const float *bias)
{
    struct blas *blas = cuda_state(c)->blas;
    struct blas_plan *plan = add_plan(c);
    if (plan == NULL) {
        return NULL;
    }
    *plan = *wanted;
    if (describe(&blas->functions, plan) == CUBLAS_STATUS_SUCCESS &&
        set_bias(&blas->functions, plan, bias) == CUBLAS_STATUS_SUCCESS) {
        choose_algorithm(c, plan, arrays);
    }
    return plan;
}

static unsigned common_alignment(const struct product_arrays *arrays, const float *bias)
{
    const uintptr_t addresses =
        (uintptr_t)arrays->d | (uintptr_t)arrays->a | (uintptr_t)arrays->b | (uintptr_t)bias | 16;
    return (unsigned)(addresses & -addresses);
}

static struct measured_key key_of(const struct blas_plan *plan)
{
    const struct matrix_product *p = &plan->product;
    const size_t flags = (size_t)p->a_transposed | (size_t)p->b_transposed << 1 |
                         (size_t)p->bf16_inputs << 2 | (size_t)p->bf16_output << 3 |
                         (size_t)p->accumulates << 4 | (size_t)plan->bias << 5 | (size_t)p->tf32 << 6;
    return measured_key{{'b', p->rows, p->columns, p->depth, flags, plan->alignment}};
}

int blas_product(struct compute *c, const struct matrix_product *product, void *d, const void *a,
                 const void *b, const float *bias)
{
    struct blas *blas = cuda_state(c)->blas;
    const struct product_arrays arrays = {d, a, b};
    struct blas_plan wanted = {};
    if (c->status != VOCO_OK || blas == NULL) {
        return 0;
    }
    wanted.product = *product;
    wanted.alignment = common_alignment(&arrays, bias);
    wanted.bias = bias != NULL;
    wanted.key = key_of(&wanted);
    void **workspace = workspace_of(c);
    if (*workspace == NULL) {
        *workspace = c->allocate(c, blas_workspace_bytes);
    }
    if (*workspace == NULL) {
        return 0;
    }
    struct blas_plan *plan = find_plan(blas, &wanted.key);
    if (plan == NULL && cuda_may_do(c, "planning a matrix product")) {
        plan = make_plan(c, &wanted, &arrays, bias);
    }
    if (plan == NULL || !plan->found || set_bias(&blas->functions, plan, bias) != CUBLAS_STATUS_SUCCESS) {
        return 0;
    }
    const cublasStatus_t error = multiply(c, plan, &plan->algorithm, &arrays);
    if (error != CUBLAS_STATUS_SUCCESS) {
        char message[96];
        snprintf(message, sizeof message, "a matrix product of cuBLASLt: its status is %d", (int)error);
        compute_failed(c, VOCO_UNSUPPORTED, message);
    }
    return 1;
}
