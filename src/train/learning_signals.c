#include "train/learning_signals.h"

#include "base/error.h"
#include "train/symmetric_eigenvalues.h"

#include <math.h>

static int predicts_position(const real *similarity, const float *labels, int bases)
{
    int most_similar = 0;
    float largest = labels[0];
    for (int k = 1; k < bases; k++) {
        most_similar = similarity[k] > similarity[most_similar] ? k : most_similar;
        largest = labels[k] > largest ? labels[k] : largest;
    }
    return labels[most_similar] >= largest;
}

void position_signals_add(struct position_signals *signals, const real *similarity, const float *labels,
                          size_t rows, int bases)
{
    for (size_t row = 0; row < rows; row++) {
        const size_t first = row * (size_t)bases;
        signals->right += predicts_position(similarity + first, labels + first, bases);
    }
    signals->positions += rows;
    signals->pairs += rows * (size_t)bases;
    for (size_t e = 0; e < rows * (size_t)bases; e++) {
        const double s = similarity[e], y = labels[e];
        signals->similarity += s;
        signals->label += y;
        signals->similarity_squared += s * s;
        signals->label_squared += y * y;
        signals->product += s * y;
    }
}

double position_accuracy(const struct position_signals *signals)
{
    return signals->positions > 0 ? (double)signals->right / (double)signals->positions : 0;
}

double position_correlation(const struct position_signals *signals)
{
    const double n = (double)signals->pairs;
    const double variance_s = n * signals->similarity_squared - signals->similarity * signals->similarity;
    const double variance_y = n * signals->label_squared - signals->label * signals->label;
    /* Rounding leaves this much where nothing varies. */
    const double noise = 1e-14 * n;
    if (variance_s <= noise * signals->similarity_squared || variance_y <= noise * signals->label_squared) {
        return 0;
    }
    return (n * signals->product - signals->similarity * signals->label) / sqrt(variance_s * variance_y);
}

/* Rows of doubles. */
struct matrix {
    double *values; /* (rows, width) */
    size_t rows, width;
};

/* Subtracts the mean row. */
static void centre(const struct matrix *x)
{
    for (size_t d = 0; d < x->width; d++) {
        double mean = 0;
        for (size_t i = 0; i < x->rows; i++) {
            mean += x->values[i * x->width + d];
        }
        mean /= (double)x->rows;
        for (size_t i = 0; i < x->rows; i++) {
            x->values[i * x->width + d] -= mean;
        }
    }
}

static double mean_deviation_of_centred(const struct matrix *x)
{
    double sum = 0;
    for (size_t d = 0; d < x->width; d++) {
        double squares = 0;
        for (size_t i = 0; i < x->rows; i++) {
            squares += x->values[i * x->width + d] * x->values[i * x->width + d];
        }
        sum += sqrt(squares / (double)x->rows);
    }
    return sum / (double)x->width;
}

static void fill(const struct matrix *x, const real *embedding)
{
    for (size_t e = 0; e < x->rows * x->width; e++) {
        x->values[e] = embedding[e];
    }
}

/* A row of zeros stays. */
static void fill_normalised(const struct matrix *x, const real *embedding)
{
    fill(x, embedding);
    for (size_t i = 0; i < x->rows; i++) {
        double *row = x->values + i * x->width;
        double squares = 0;
        for (size_t d = 0; d < x->width; d++) {
            squares += row[d] * row[d];
        }
        for (size_t d = 0; d < x->width && squares > 0; d++) {
            row[d] /= sqrt(squares);
        }
    }
}

/* x x^T or x^T x, whichever is smaller: their eigenvalues other than zero are the same. */
static void gram_matrix(double *gram, const struct matrix *x)
{
    const int of_rows = x->rows <= x->width;
    const size_t n = of_rows ? x->rows : x->width, terms = of_rows ? x->width : x->rows;
    const size_t step = of_rows ? x->width : 1, term_step = of_rows ? 1 : x->width;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            const double *a = x->values + i * step, *b = x->values + j * step;
            double sum = 0;
            for (size_t k = 0; k < terms; k++) {
                sum += a[k * term_step] * b[k * term_step];
            }
            gram[i * n + j] = gram[j * n + i] = sum;
        }
    }
}

static double sum_of_squares(const struct matrix *x)
{
    double sum = 0;
    for (size_t e = 0; e < x->rows * x->width; e++) {
        sum += x->values[e] * x->values[e];
    }
    return sum;
}

/* From squares of singular values; up to `noise` they count as zero. */
static double rank_of_spectrum(const double *squares, size_t n, double noise)
{
    double sum = 0, entropy = 0;
    for (size_t i = 0; i < n; i++) {
        sum += squares[i] > noise ? sqrt(squares[i]) : 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (squares[i] > noise) {
            const double share = sqrt(squares[i]) / sum;
            entropy -= share * log(share);
        }
    }
    return sum > 0 ? exp(entropy) : 0;
}

enum voco_status embedding_signals(struct embedding_signals *signals, const real *embedding, size_t rows,
                                   size_t width, struct arena *arena)
{
    const struct arena_mark mark = arena_mark(arena);
    const size_t n = rows < width ? rows : width;
    const struct matrix x = {arena_push_host(arena, rows * width * sizeof(double)), rows, width};
    double *gram = arena_push_host(arena, n * n * sizeof *gram);
    double *squares = arena_push_host(arena, n * sizeof *squares);
    double *work = arena_push_host(arena, 3 * n * sizeof *work);
    *signals = (struct embedding_signals){NAN, NAN, NAN};
    enum voco_status status = VOCO_OK;
    if (x.values == NULL || gram == NULL || squares == NULL || work == NULL) {
        status = fail(VOCO_NO_MEMORY, "the spread of %zu embeddings does not fit into the arena", rows);
    } else {
        fill_normalised(&x, embedding);
        centre(&x);
        const double normalised = mean_deviation_of_centred(&x) * sqrt((double)width);
        fill(&x, embedding);
        const double all = sum_of_squares(&x); /* the mean row included */
        centre(&x);
        const double spread = mean_deviation_of_centred(&x);
        if (isfinite(spread)) {
            gram_matrix(gram, &x);
            symmetric_eigenvalues(squares, gram, work, n);
            /* what rounding leaves of subtracting the mean, and of the largest eigenvalue */
            const double noise = fmax(1e-26 * all, 1e-14 * (double)n * squares[n - 1]);
            *signals = (struct embedding_signals){spread, normalised, rank_of_spectrum(squares, n, noise)};
        }
    }
    arena_release(arena, mark);
    return status;
}
