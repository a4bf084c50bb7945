#include "train/symmetric_eigenvalues.h"

#include <float.h>
#include <math.h>

/* Replaces the trailing block's first row and column by one element off the diagonal: with the reflection
 * H = I - v v^T / scale that maps the column below (k, k) to a multiple of the first unit vector, the block
 * becomes H A H. v and p hold n - k - 1 elements. */
static double reflect(double *matrix, double *v, double *p, size_t n, size_t k)
{
    const size_t m = n - k - 1;
    double *block = matrix + (k + 1) * n + k + 1;
    double squares = 0;
    for (size_t i = 0; i < m; i++) {
        v[i] = matrix[k * n + k + 1 + i];
        squares += v[i] * v[i];
    }
    const double off_diagonal = v[0] > 0 ? -sqrt(squares) : sqrt(squares);
    const double scale = squares - v[0] * off_diagonal; /* |v|^2 / 2 after the next line */
    v[0] -= off_diagonal;
    if (scale <= 0) {
        return off_diagonal;
    }
    double projection = 0;
    for (size_t i = 0; i < m; i++) {
        p[i] = 0;
        for (size_t j = 0; j < m; j++) {
            p[i] += block[i * n + j] * v[j];
        }
        p[i] /= scale;
        projection += p[i] * v[i];
    }
    for (size_t i = 0; i < m; i++) {
        p[i] -= projection / (2 * scale) * v[i];
    }
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < m; j++) {
            block[i * n + j] -= v[i] * p[j] + p[i] * v[j];
        }
    }
    return off_diagonal;
}

/* A symmetric tridiagonal matrix T. */
struct tridiagonal {
    const double *diagonal;     /* (n) */
    const double *off_diagonal; /* (n - 1) */
    size_t n;
    double bound; /* no eigenvalue is larger in size (Gershgorin) */
};

/* How many eigenvalues lie below x: the negative pivots of T - x I. */
static size_t count_below(const struct tridiagonal *t, double x)
{
    const double tiny = DBL_EPSILON * t->bound;
    size_t below = 0;
    double pivot = 1;
    for (size_t i = 0; i < t->n; i++) {
        const double coupling = i == 0 ? 0 : t->off_diagonal[i - 1] * t->off_diagonal[i - 1];
        pivot = t->diagonal[i] - x - coupling / pivot;
        if (fabs(pivot) < tiny) {
            pivot = -tiny;
        }
        below += pivot < 0;
    }
    return below;
}

/* The eigenvalue that `rank` others lie below, found in [-bound, bound]. */
static double eigenvalue(const struct tridiagonal *t, size_t rank)
{
    double low = -t->bound, high = t->bound;
    while (high - low > 2 * DBL_EPSILON * t->bound) {
        const double middle = low + (high - low) / 2;
        if (count_below(t, middle) > rank) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return low + (high - low) / 2;
}

static double gershgorin_bound(const struct tridiagonal *t)
{
    double bound = 0;
    for (size_t i = 0; i < t->n; i++) {
        const double before = i > 0 ? fabs(t->off_diagonal[i - 1]) : 0;
        const double after = i + 1 < t->n ? fabs(t->off_diagonal[i]) : 0;
        bound = fmax(bound, fabs(t->diagonal[i]) + before + after);
    }
    return bound;
}

void symmetric_eigenvalues(double *eigenvalues, double *matrix, double *work, size_t n)
{
    double *off_diagonal = work, *diagonal = work + n;
    for (size_t k = 0; k + 1 < n; k++) {
        off_diagonal[k] = reflect(matrix, work + n, work + 2 * n, n, k);
    }
    for (size_t k = 0; k < n; k++) {
        diagonal[k] = matrix[k * n + k];
    }
    struct tridiagonal t = {.diagonal = diagonal, .off_diagonal = off_diagonal, .n = n};
    t.bound = gershgorin_bound(&t);
    for (size_t k = 0; k < n; k++) {
        eigenvalues[k] = eigenvalue(&t, k);
    }
}
