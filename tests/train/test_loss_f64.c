/* The loss and its gradient in double: against the formulas of voco.md section 3 evaluated by hand, and
 * against finite differences with the stopped gradients frozen. */
#include "base/philox.h"
#include "compute/compute.h"
#include "train/loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { most_rows = 64, most_width = 16, most_entries = 256 };

struct example {
    struct contrast_shape shape;
    double z[most_rows * most_width];
    double t[most_rows * most_width];
    float labels[most_entries];
};

static struct compute compute;

static int open_reference(void **state)
{
    (void)state;
    return compute_open(&compute, "reference", 1, PRECISION_FLOAT32) == VOCO_OK ? 0 : -1;
}

static int close_reference(void **state)
{
    (void)state;
    compute_close(&compute);
    return 0;
}

static size_t rows_of(const struct contrast_shape *shape)
{
    return (size_t)shape->volumes * (size_t)(shape->crops + shape->bases);
}

static size_t elements_of(const struct contrast_shape *shape)
{
    return rows_of(shape) * (size_t)shape->width;
}

/* Labels as overlaps have them: at most four entries of a row are not zero, and they sum to 1. `lean` is
 * added to every element: the larger, the more cosines are positive. */
static struct example random_example(struct contrast_shape shape, uint64_t seed, double lean)
{
    struct example x = {.shape = shape};
    const struct random_key key = {.seed = seed, .purpose = RANDOM_TEST};
    uint32_t drawn = 0;
    for (size_t e = 0; e < elements_of(&shape); e++) {
        x.z[e] = lean + random_normal(&key, drawn++);
        x.t[e] = lean + random_normal(&key, drawn++);
    }
    for (int row = 0; row < shape.volumes * shape.crops; row++) {
        float *labels = x.labels + (ptrdiff_t)row * shape.bases;
        const uint32_t first = random_below(&key, drawn++, (uint32_t)shape.bases);
        const float share = random_uniform(&key, drawn++);
        labels[first] = share;
        labels[(first + 1) % (uint32_t)shape.bases] += 1 - share;
    }
    return x;
}

static struct loss loss_of(const struct example *x, double *dz, double *similarity)
{
    static double own_dz[most_rows * most_width], own_similarity[most_entries];
    double terms[most_rows * contrast_terms];
    double *work = calloc(contrast_loss_work(&x->shape), sizeof *work);
    assert_non_null(work);
    compute.contrast_loss(&compute, terms, dz != NULL ? dz : own_dz,
                          similarity != NULL ? similarity : own_similarity, x->z, x->t, x->labels, work,
                          &x->shape);
    assert_int_equal(compute_status(&compute), VOCO_OK);
    free(work);
    return loss_of_terms(terms, x->shape.volumes);
}

/* ---- the formulas, written down once more, with every stopped operand apart ---- */

static double plain_cosine(const double *a, const double *b, int width)
{
    double ab = 0, aa = 0, bb = 0;
    for (int d = 0; d < width; d++) {
        ab += a[d] * b[d];
        aa += a[d] * a[d];
        bb += b[d] * b[d];
    }
    return ab / fmax(sqrt(aa) * sqrt(bb), 1e-8);
}

static double plain_ce(const double *y, const double *s, int count)
{
    double above = 0, weight = 1e-6, apart = 0, zeros = 1e-6;
    for (int e = 0; e < count; e++) {
        above -= y[e] * log(1 - fabs(y[e] - s[e]) + 1e-6);
        weight += y[e];
        if (y[e] == 0) {
            apart -= log(1 - s[e] + 1e-6);
            zeros += 1;
        }
    }
    return above / weight + apart / zeros;
}

/* The loss with z where gradients flow and `frozen` where the method stops them (only reg has such a place in
 * the student). */
static struct loss plain_loss(const struct example *x, const double *z, const double *frozen)
{
    const struct contrast_shape *shape = &x->shape;
    const int volumes = shape->volumes, crops = shape->crops, bases = shape->bases, width = shape->width;
    struct loss sum = {0};
    for (int i = 0; i < volumes; i++) {
        const int j = (i + 1) % volumes;
        double y[most_entries] = {0}, intra[most_entries] = {0};
        double inter[most_entries] = {0}, target[most_entries] = {0};
        for (int s = 0; s < crops; s++) {
            for (int k = 0; k < bases; k++) {
                const ptrdiff_t crop = (ptrdiff_t)(i * crops + s) * width;
                const ptrdiff_t own = (ptrdiff_t)(volumes * crops + i * bases + k) * width;
                const ptrdiff_t other = (ptrdiff_t)(volumes * crops + j * bases + k) * width;
                const int e = s * bases + k;
                y[e] = x->labels[i * crops * bases + e];
                intra[e] = fmax(0, plain_cosine(z + crop, x->t + own, width));
                inter[e] = fmax(0, plain_cosine(z + crop, z + other, width));
                target[e] = fmax(0, plain_cosine(x->t + crop, x->t + other, width));
            }
        }
        double reg = 0;
        int pairs = 0;
        for (int a = 0; a < bases; a++) {
            for (int b = a + 1; b < bases; b++) {
                const ptrdiff_t first = (ptrdiff_t)(volumes * crops + i * bases) * width;
                const double cos = plain_cosine(z + first + (ptrdiff_t)a * width,
                                                frozen + first + (ptrdiff_t)b * width, width);
                reg += cos > 0 ? cos * cos : 0;
                pairs++;
            }
        }
        sum.intra += plain_ce(y, intra, crops * bases) / volumes;
        sum.inter += plain_ce(target, inter, crops * bases) / volumes;
        sum.reg += pairs > 0 ? reg / pairs / volumes : 0;
    }
    sum.total = sum.intra + sum.inter + sum.reg;
    return sum;
}

static const struct contrast_shape shapes[] = {
    {1, 2, 9, 8}, {2, 2, 9, 8}, {3, 2, 9, 16}, {1, 1, 1, 3}, {2, 3, 4, 5}, {3, 1, 6, 7}, {2, 5, 2, 1},
};
enum { shape_count = sizeof shapes / sizeof shapes[0] };
static const double leans[] = {0, 0.5, -1.5};
enum { lean_count = sizeof leans / sizeof leans[0] };

static void terms_are_those_of_the_formulas(void **state)
{
    (void)state;
    for (int i = 0; i < shape_count * lean_count; i++) {
        const struct example x = random_example(shapes[i / lean_count], (uint64_t)i, leans[i % lean_count]);
        const struct loss loss = loss_of(&x, NULL, NULL), expected = plain_loss(&x, x.z, x.z);
        assert_true(fabs(loss.intra - expected.intra) <= 1e-12 * (1 + expected.intra));
        assert_true(fabs(loss.inter - expected.inter) <= 1e-12 * (1 + expected.inter));
        assert_true(fabs(loss.reg - expected.reg) <= 1e-12);
        assert_true(fabs(loss.total - expected.total) <= 1e-12 * (1 + expected.total));
    }
}

/* Whether some cosine or |y - s| that matters lies within 1e-3 of its kink. */
static int near_a_kink(const struct example *x)
{
    const struct contrast_shape *shape = &x->shape;
    for (size_t a = 0; a < rows_of(shape); a++) {
        for (size_t b = 0; b < rows_of(shape); b++) {
            const double *z_a = x->z + a * (size_t)shape->width;
            if (fabs(plain_cosine(z_a, x->z + b * (size_t)shape->width, shape->width)) < 1e-3 ||
                fabs(plain_cosine(z_a, x->t + b * (size_t)shape->width, shape->width)) < 1e-3) {
                return 1;
            }
        }
    }
    return 0;
}

/* Checks dz element by element with Richardson's extrapolation of central differences; returns the largest
 * difference, relative to the largest element. */
static double gradient_error(const struct example *x)
{
    static double dz[most_rows * most_width];
    double worst = 0, largest = 0;
    (void)loss_of(x, dz, NULL);
    for (size_t e = 0; e < elements_of(&x->shape); e++) {
        double z[most_rows * most_width], slope[2];
        for (int half = 0; half < 2; half++) {
            const double step = half ? 5e-6 : 1e-5;
            memcpy(z, x->z, sizeof z);
            z[e] = x->z[e] + step;
            const double above = plain_loss(x, z, x->z).total;
            z[e] = x->z[e] - step;
            slope[half] = (above - plain_loss(x, z, x->z).total) / (2 * step);
        }
        worst = fmax(worst, fabs((4 * slope[1] - slope[0]) / 3 - dz[e]));
        largest = fmax(largest, fabs(dz[e]));
    }
    return largest > 0 ? worst / largest : worst;
}

static void gradient_is_that_of_finite_differences(void **state)
{
    (void)state;
    int checked = 0;
    double worst = 0;
    for (int i = 0; i < shape_count; i++) {
        for (int lean = 0; lean < lean_count; lean++) {
            struct example x;
            uint64_t seed = 100;
            do {
                x = random_example(shapes[i], seed++, leans[lean]);
            } while (near_a_kink(&x) && seed < 140);
            if (shapes[i].width > 1 && !near_a_kink(&x)) {
                worst = fmax(worst, gradient_error(&x));
                checked++;
            }
        }
    }
    printf("loss gradient: largest relative difference %.2g over %d examples\n", worst, checked);
    assert_true(checked >= 12);
    assert_true(worst <= 1e-5);
}

/* With D = 2, S = 1, K = 2, V = 1 and these angles, by hand: z_x at 0 degrees; z_q at 60 and 120, t_x at 0,
 * t_q at 60 and 90 degrees; lengths do not matter. */
static void values_by_hand(void **state)
{
    (void)state;
    struct example x = {.shape = {1, 1, 2, 2}};
    const double pi = acos(-1), angles_z[] = {0, 60, 120}, angles_t[] = {0, 60, 90};
    for (int row = 0; row < 3; row++) {
        x.z[2 * row] = (row + 2) * cos(angles_z[row] * pi / 180);
        x.z[2 * row + 1] = (row + 2) * sin(angles_z[row] * pi / 180);
        x.t[2 * row] = 3 * cos(angles_t[row] * pi / 180);
        x.t[2 * row + 1] = 3 * sin(angles_t[row] * pi / 180);
    }
    x.t[4] = 0;
    x.labels[0] = 0.75F;
    x.labels[1] = 0.25F;
    double similarity[2];
    const struct loss loss = loss_of(&x, NULL, similarity);
    assert_true(fabs(similarity[0] - 0.5) < 1e-12);
    assert_true(similarity[1] == 0);
    /* both labels are positive: no zero entries, each off by 1/4 */
    const double intra = -(0.75 + 0.25) * log(1 - 0.25 + 1e-6) / (1 + 1e-6);
    /* target (1/2, 0) met exactly */
    const double inter = -0.5 * log(1 + 1e-6) / (0.5 + 1e-6) - log(1 + 1e-6) / (1 + 1e-6);
    assert_true(fabs(loss.intra - intra) < 1e-12);
    assert_true(fabs(loss.inter - inter) < 1e-12);
    assert_true(fabs(loss.reg - 0.25) < 1e-12); /* cos 60 degrees, squared */
}

static void opposite_bases_cost_nothing(void **state)
{
    (void)state;
    struct example x = {.shape = {1, 1, 2, 2}};
    const double z[] = {1, 0, 1, 1, -1, -0.5};
    memcpy(x.z, z, sizeof z);
    memcpy(x.t, z, sizeof z);
    x.labels[0] = 1;
    double dz[6];
    assert_true(loss_of(&x, dz, NULL).reg == 0);
    /* base 1 is met by nothing: cos with the crop and with base 0 is negative */
    assert_true(dz[4] == 0 && dz[5] == 0);
}

static double largest_difference(const double *a, const double *b, size_t count)
{
    double worst = 0;
    for (size_t e = 0; e < count; e++) {
        worst = fmax(worst, fabs(a[e] - b[e]));
    }
    return worst;
}

/* Intra alone: bases at right angles to all others, so that inter and reg are flat. The teacher's bases get
 * no gradient at all (there is no dt), and the student's bases none from intra. */
static void intra_reaches_only_the_students_random_crops(void **state)
{
    (void)state;
    struct example x = {.shape = {1, 1, 2, 4}};
    const double z[] = {1, 0.2, 0, 0, /**/ 0, 0, 1, 0, /**/ 0, 0, 0, 1};
    const double t[] = {1, 0, 0, 0, /**/ 1, 1, 0, 0, /**/ 0, 1, 0, 0};
    memcpy(x.z, z, sizeof z);
    memcpy(x.t, t, sizeof t);
    x.labels[0] = 1;
    double dz[12];
    const struct loss before = loss_of(&x, dz, NULL);
    assert_true(fabs(dz[0]) + fabs(dz[1]) > 0.01);
    for (int e = 4; e < 12; e++) {
        assert_true(dz[e] == 0);
    }
    x.t[5] += 0.5;
    assert_true(fabs(loss_of(&x, NULL, NULL).intra - before.intra) > 1e-3);
}

/* The second of a pair of bases is stopped: the last base is never first, so reg gives it nothing, though
 * moving it changes reg. Crops point away from every base, so that intra and inter are flat. */
static void reg_stops_the_second_of_a_pair(void **state)
{
    (void)state;
    struct example x = {.shape = {2, 1, 3, 3}};
    for (int row = 0; row < 8; row++) {
        const double base[] = {1, 0.3 * row, 0.1 * row * row}, crop[] = {-1, 0, 0};
        memcpy(x.z + (ptrdiff_t)3 * row, row < 2 ? crop : base, sizeof base);
        memcpy(x.t + (ptrdiff_t)3 * row, row < 2 ? crop : base, sizeof base);
    }
    x.labels[0] = x.labels[3] = 1;
    double dz[24];
    const struct loss before = loss_of(&x, dz, NULL);
    for (int volume = 0; volume < 2; volume++) {
        const double *bases = dz + 6 + (ptrdiff_t)9 * volume;
        assert_true(fabs(bases[0]) + fabs(bases[1]) > 1e-3);
        assert_true(fabs(bases[3]) + fabs(bases[4]) > 1e-3);
        assert_true(bases[6] == 0 && bases[7] == 0 && bases[8] == 0);
    }
    x.z[12] += 0.3; /* in the last base of volume 0 */
    assert_true(fabs(loss_of(&x, NULL, NULL).reg - before.reg) > 1e-3);
}

/* Inter gives both of its student's sides a gradient, and none to the target: moving the teacher changes the
 * loss, and where the signs of s - y stay, the gradient changes only through the weights. */
static void inter_reaches_both_sides_of_the_student(void **state)
{
    (void)state;
    struct example x = {.shape = {1, 1, 1, 2}};
    const double z[] = {1, 0, 1, 1}, t[] = {0, -1, 1, 0.2};
    memcpy(x.z, z, sizeof z);
    memcpy(x.t, t, sizeof t);
    x.t[0] = -0.2; /* t_x.t_q < 0: the target is zero, intra meets its label exactly below */
    x.labels[0] = 1;
    x.t[2] = 1;
    x.t[3] = 0; /* cos(z_x, t_q) = 1 = label */
    double dz[4], moved[4];
    const struct loss before = loss_of(&x, dz, NULL);
    assert_true(fabs(dz[1]) > 0.1);               /* the random crop */
    assert_true(fabs(dz[2]) + fabs(dz[3]) > 0.1); /* the base */
    /* -log(1 - s + 1e-6) with s = cos 45 degrees */
    const double slope = 1 / (1 - sqrt(0.5) + 1e-6) / (1 + 1e-6);
    assert_true(fabs(dz[1] - slope * sqrt(0.5)) < 1e-9);
    /* A target that stays zero: neither loss nor gradient may move with the teacher's crop. */
    x.t[0] = -0.7;
    assert_true(loss_of(&x, moved, NULL).inter == before.inter);
    assert_true(largest_difference(dz, moved, 4) == 0);
    /* A target above zero moves the loss. */
    x.t[0] = 0.5;
    assert_true(fabs(loss_of(&x, moved, NULL).inter - before.inter) > 1e-3);
}

/* The teacher's similarity counts as "no overlap" only where it is exactly zero. */
static void targets_next_to_zero_are_not_zero(void **state)
{
    (void)state;
    struct example x = {.shape = {1, 1, 1, 2}};
    const double z[] = {1, 0, 1, 1};
    memcpy(x.z, z, sizeof z);
    x.t[1] = x.t[2] = 1; /* crop (0, 1), base (1, 0): cos = 0 */
    x.labels[0] = 1;
    const double s = sqrt(0.5);
    assert_true(fabs(loss_of(&x, NULL, NULL).inter + log(1 - s + 1e-6) / (1 + 1e-6)) < 1e-9);
    x.t[0] = 1e-12;
    assert_true(fabs(loss_of(&x, NULL, NULL).inter) < 1e-5);
    /* one target next to zero and one that is zero: the sum over zeros is divided by one */
    struct example two = {.shape = {1, 1, 2, 2}};
    const double both[] = {1, 0, 1, 1, 1, -1}, teacher[] = {1e-12, 1, 1, 0, -1, 0};
    memcpy(two.z, both, sizeof both);
    memcpy(two.t, teacher, sizeof teacher);
    two.labels[0] = 1;
    assert_true(fabs(loss_of(&two, NULL, NULL).inter + log(1 - s + 1e-6) / (1 + 1e-6)) < 1e-5);
}

static void zero_vectors_are_similar_to_nothing(void **state)
{
    (void)state;
    struct example x = random_example((struct contrast_shape){2, 2, 3, 4}, 7, 0.5);
    for (int d = 0; d < 4; d++) {
        x.z[d] = x.z[4 * 4 + d] = x.t[4 * 5 + d] = 0;
    }
    double dz[most_rows * most_width], similarity[most_entries];
    const struct loss loss = loss_of(&x, dz, similarity);
    assert_true(isfinite(loss.total));
    for (size_t e = 0; e < elements_of(&x.shape); e++) {
        assert_true(isfinite(dz[e]));
    }
    for (int k = 0; k < 3; k++) {
        assert_true(similarity[k] == 0);
    }
    for (int d = 0; d < 4; d++) {
        assert_true(dz[d] == 0);
    }
}

/* Below 1e-8 the norms' product is 1e-8, so cos shrinks with the vectors and its gradient is b / 1e-8. */
static void tiny_vectors_are_clamped(void **state)
{
    (void)state;
    struct example x = {.shape = {1, 1, 1, 2}};
    const double z[] = {3e-9, 0, -1, 0}, t[] = {1, 0, 1, 1};
    memcpy(x.z, z, sizeof z);
    memcpy(x.t, t, sizeof t);
    x.labels[0] = 1;
    double dz[4], similarity[1];
    (void)loss_of(&x, dz, similarity);
    assert_true(fabs(similarity[0] - 0.3) < 1e-12);
    /* ce' = -1 / (s + 1e-6) / (1 + 1e-6) */
    const double slope = -1 / (0.3 + 1e-6) / (1 + 1e-6);
    assert_true(fabs(dz[0] - slope * 1e8) < 1);
    assert_true(fabs(dz[1] - slope * 1e8) < 1);
}

static void nan_anywhere_makes_the_loss_nan(void **state)
{
    (void)state;
    for (int e = 0; e < 20; e++) {
        struct example x = random_example((struct contrast_shape){2, 2, 3, 2}, 3, 0);
        x.z[e] = NAN;
        assert_true(isnan(loss_of(&x, NULL, NULL).total));
        x = random_example((struct contrast_shape){2, 2, 3, 2}, 3, 0);
        x.t[e] = e % 2 ? NAN : INFINITY;
        assert_true(isnan(loss_of(&x, NULL, NULL).total));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(terms_are_those_of_the_formulas),
        cmocka_unit_test(gradient_is_that_of_finite_differences),
        cmocka_unit_test(values_by_hand),
        cmocka_unit_test(opposite_bases_cost_nothing),
        cmocka_unit_test(intra_reaches_only_the_students_random_crops),
        cmocka_unit_test(reg_stops_the_second_of_a_pair),
        cmocka_unit_test(inter_reaches_both_sides_of_the_student),
        cmocka_unit_test(targets_next_to_zero_are_not_zero),
        cmocka_unit_test(zero_vectors_are_similar_to_nothing),
        cmocka_unit_test(tiny_vectors_are_clamped),
        cmocka_unit_test(nan_anywhere_makes_the_loss_nan),
    };
    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
