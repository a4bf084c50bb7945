#include "compute/reference/operations.h"

#include <math.h>
#include <string.h>

static const double least_norms_product = 1e-8;
static const double smallest = 1e-6; /* the epsilon of ce */

/* Rows of projections with their norms. */
struct rows {
    const real *values; /* (N, D) */
    double *norm;       /* (N) */
    int width;
};

struct workspace {
    struct rows z, t;
    double *dz;          /* (N, D) */
    double *target;      /* (S, K) */
    double *similarity;  /* (S, K) */
    double *dsimilarity; /* (S, K) */
};

static double dot(const real *a, const real *b, int width)
{
    double sum = 0;
    for (int d = 0; d < width; d++) {
        sum += (double)a[d] * b[d];
    }
    return sum;
}

static const real *row_of(const struct rows *rows, size_t row)
{
    return rows->values + row * (size_t)rows->width;
}

static void measure_norms(struct rows *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        rows->norm[i] = sqrt(dot(row_of(rows, i), row_of(rows, i), rows->width));
    }
}

/* A comparison that NaN passes unchanged. */
static double at_least(double value, double least)
{
    return value < least ? least : value;
}

static double cosine(const struct rows *a, size_t i, const struct rows *b, size_t j)
{
    return dot(row_of(a, i), row_of(b, j), a->width) / at_least(a->norm[i] * b->norm[j], least_norms_product);
}

/* da (D) += scale d cos(a_i, b_j) / d a_i, given cos(a_i, b_j). */
static void cosine_backward(double *da, double scale, double cos, const struct rows *a, size_t i,
                            const struct rows *b, size_t j)
{
    const real *a_i = row_of(a, i), *b_j = row_of(b, j);
    const double product = a->norm[i] * b->norm[j];
    const int clamped = product < least_norms_product;
    const double along_b = scale / at_least(product, least_norms_product);
    const double along_a = clamped ? 0 : scale * cos / (a->norm[i] * a->norm[i]);
    for (int d = 0; d < a->width; d++) {
        da[d] += along_b * b_j[d] - along_a * a_i[d];
    }
}

/* sim[s * K + k] = relu(cos(a_(first_a + s), b_(first_b + k))) */
static void similarities(double *sim, const struct rows *a, size_t first_a, const struct rows *b,
                         size_t first_b, const struct contrast_shape *shape)
{
    for (int s = 0; s < shape->crops; s++) {
        for (int k = 0; k < shape->bases; k++) {
            *sim++ = at_least(cosine(a, first_a + (size_t)s, b, first_b + (size_t)k), 0);
        }
    }
}

/* ce of voco.md section 3 over `count` entries, and its derivative with respect to s. */
static double overlap_entropy(double *ds, const double *y, const double *s, int count)
{
    double sum_y = smallest, sum_zero = smallest;
    for (int e = 0; e < count; e++) {
        sum_y += y[e];
        sum_zero += y[e] == 0;
    }
    double value = 0;
    for (int e = 0; e < count; e++) {
        const double likeness = 1 - fabs(y[e] - s[e]) + smallest;
        const double side = s[e] > y[e] ? 1 : s[e] < y[e] ? -1 : 0;
        value -= y[e] * log(likeness) / sum_y;
        ds[e] = y[e] * side / (likeness * sum_y);
        if (y[e] == 0) {
            const double apart = 1 - s[e] + smallest;
            value -= log(apart) / sum_zero;
            ds[e] += 1 / (apart * sum_zero);
        }
    }
    return value;
}

static double intra_term(struct workspace *w, real *similarity, const float *labels, int volume,
                         const struct contrast_shape *shape)
{
    const size_t first_crop = (size_t)volume * (size_t)shape->crops;
    const size_t first_base =
        (size_t)shape->volumes * (size_t)shape->crops + (size_t)volume * (size_t)shape->bases;
    const int count = shape->crops * shape->bases;
    similarities(w->similarity, &w->z, first_crop, &w->t, first_base, shape);
    for (int e = 0; e < count; e++) {
        w->target[e] = labels[e];
        similarity[e] = (real)w->similarity[e];
    }
    const double value = overlap_entropy(w->dsimilarity, w->target, w->similarity, count);
    for (int e = 0; e < count; e++) {
        const size_t s = first_crop + (size_t)(e / shape->bases), k = first_base + (size_t)(e % shape->bases);
        if (w->similarity[e] > 0) {
            cosine_backward(w->dz + s * (size_t)shape->width, w->dsimilarity[e] / shape->volumes,
                            w->similarity[e], &w->z, s, &w->t, k);
        }
    }
    return value;
}

static double inter_term(struct workspace *w, int volume, const struct contrast_shape *shape)
{
    const int next = (volume + 1) % shape->volumes;
    const size_t width = (size_t)shape->width;
    const size_t first_crop = (size_t)volume * (size_t)shape->crops;
    const size_t first_base =
        (size_t)shape->volumes * (size_t)shape->crops + (size_t)next * (size_t)shape->bases;
    const int count = shape->crops * shape->bases;
    similarities(w->target, &w->t, first_crop, &w->t, first_base, shape);
    similarities(w->similarity, &w->z, first_crop, &w->z, first_base, shape);
    const double value = overlap_entropy(w->dsimilarity, w->target, w->similarity, count);
    for (int e = 0; e < count; e++) {
        const size_t s = first_crop + (size_t)(e / shape->bases), k = first_base + (size_t)(e % shape->bases);
        const double scale = w->dsimilarity[e] / shape->volumes;
        if (w->similarity[e] > 0) {
            cosine_backward(w->dz + s * width, scale, w->similarity[e], &w->z, s, &w->z, k);
            cosine_backward(w->dz + k * width, scale, w->similarity[e], &w->z, k, &w->z, s);
        }
    }
    return value;
}

static double reg_term(struct workspace *w, int volume, const struct contrast_shape *shape)
{
    const int bases = shape->bases;
    const size_t first = (size_t)shape->volumes * (size_t)shape->crops + (size_t)volume * (size_t)bases;
    if (bases < 2) {
        return 0;
    }
    const double pairs = 0.5 * bases * (bases - 1.0);
    double value = 0;
    for (size_t a = first; a < first + (size_t)bases; a++) {
        for (size_t b = a + 1; b < first + (size_t)bases; b++) {
            const double cos = at_least(cosine(&w->z, a, &w->z, b), 0);
            value += cos * cos / pairs;
            if (cos > 0) {
                cosine_backward(w->dz + a * (size_t)shape->width, 2 * cos / (pairs * shape->volumes), cos,
                                &w->z, a, &w->z, b);
            }
        }
    }
    return value;
}

/* Divides `work`. */
static struct workspace prepare(double *work, const real *z, const real *t, size_t rows,
                                const struct contrast_shape *shape)
{
    const size_t entries = (size_t)shape->crops * (size_t)shape->bases;
    const size_t elements = rows * (size_t)shape->width;
    struct workspace w = {.z = {z, work, shape->width}, .t = {t, work + rows, shape->width}};
    w.dz = w.t.norm + rows;
    w.target = w.dz + elements;
    w.similarity = w.target + entries;
    w.dsimilarity = w.similarity + entries;
    memset(w.dz, 0, elements * sizeof(double));
    measure_norms(&w.z, rows);
    measure_norms(&w.t, rows);
    return w;
}

void reference_contrast_loss(struct compute *c, double *terms, real *dz, real *similarity, const real *z,
                             const real *t, const float *labels, double *work,
                             const struct contrast_shape *shape)
{
    const size_t rows = (size_t)shape->volumes * ((size_t)shape->crops + (size_t)shape->bases);
    const size_t entries = (size_t)shape->crops * (size_t)shape->bases;
    if (c->status != VOCO_OK) {
        return;
    }
    struct workspace w = prepare(work, z, t, rows, shape);
    for (int i = 0; i < shape->volumes; i++) {
        const size_t first = (size_t)i * entries;
        double *of_volume = terms + (size_t)i * contrast_terms;
        of_volume[CONTRAST_INTRA] = intra_term(&w, similarity + first, labels + first, i, shape);
        of_volume[CONTRAST_INTER] = inter_term(&w, i, shape);
        of_volume[CONTRAST_REG] = reg_term(&w, i, shape);
    }
    for (size_t e = 0; e < rows * (size_t)shape->width; e++) {
        dz[e] = (real)w.dz[e];
    }
}
