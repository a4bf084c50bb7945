#include "case_list.h"

#include "tensors.h"

#include <math.h>
#include <stddef.h>

static void apply_gelu(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    activation *inp = given_activations(r, random_tensor(1, count, 2), count);
    activation *dout = given_activations(r, random_tensor(2, count, 1), count);
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    activation *in_place = new_activations(r, "dinp over dout", count, 0);
    c->copy(c, in_place, dout, count * c->activation_size);
    c->gelu_forward(c, out, inp, count);
    c->gelu_backward(c, dinp, dout, inp, count);
    c->gelu_backward(c, in_place, in_place, inp, count);
}

/* From far left to far right, where a rational or tabulated error function would show. */
static void sweep_gelu(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *values = filled_tensor(count, 0);
    for (size_t k = 0; k < count; k++) {
        values[k] = (real)(-30 + 60 * (double)k / (double)(count - 1));
    }
    activation *inp = given_activations(r, values, count);
    activation *ones = given_activations(r, filled_tensor(count, 1), count);
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    c->gelu_forward(c, out, inp, count);
    c->gelu_backward(c, dinp, ones, inp, count);
}

static int has_gelu(const struct compute *c)
{
    return c->gelu_forward != NULL && c->gelu_backward != NULL;
}

static void list_gelus(struct case_list *list)
{
    static const size_t counts[] = {1, 7, 8, 15, 16, 105, 2051, 13824UL * 48, 65537UL * 192};
    static const size_t points = 6001;
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct operation_case *it = append_case(list, "gelu", apply_gelu, &counts[i],
                                                60.0 * (double)counts[i], i + 1 == COUNT_OF(counts));
        name_case(it, "gelu %zu", counts[i]);
        it->is_there = has_gelu;
    }
    struct operation_case *it =
        append_case(list, "gelu_sweep", sweep_gelu, &points, 60.0 * (double)points, 0);
    name_case(it, "gelu from -30 to 30");
    it->is_there = has_gelu;
}

static void add(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    activation *a = given_activations(r, random_tensor(1, count, 1), count);
    activation *b = given_activations(r, random_tensor(2, count, 1), count);
    activation *sum = new_activations(r, "sum", count, 77),
               *over_sum = new_activations(r, "in place", count, 3);
    c->add(c, sum, a, b, count);
    c->add(c, over_sum, over_sum, b, count);
}

static int has_add(const struct compute *c)
{
    return c->add != NULL;
}

static void list_additions(struct case_list *list)
{
    static const size_t counts[] = {1, 7, 105, 2050, 100003, 8000003};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct operation_case *it =
            append_case(list, "add", add, &counts[i], 4.0 * (double)counts[i], i + 1 == COUNT_OF(counts));
        name_case(it, "add %zu", counts[i]);
        it->is_there = has_add;
    }
}

/* A third is masked, whatever it was. */
static void mask(struct compute *c, const void *chosen, struct results *r)
{
    const size_t count = *(const size_t *)chosen;
    real *values = random_tensor(1, count, 1), *factors = filled_tensor(count, 1.25);
    for (size_t k = 0; k < count; k += 3) {
        factors[k] = 0;
        values[k] = k % 2 == 0 ? values[k] : INFINITY;
    }
    real *inp = given_reals(r, values, count), *factor = given_reals(r, factors, count);
    real *out = new_result(r, "masked", count, 77), *over = new_result(r, "in place", count, 3);
    c->apply_mask(c, out, inp, factor, count);
    c->apply_mask(c, over, over, factor, count);
}

static int has_mask(const struct compute *c)
{
    return c->apply_mask != NULL;
}

static void list_masks(struct case_list *list)
{
    static const size_t counts[] = {1, 7, 1024, 50691};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct operation_case *it = append_case(list, "mask", mask, &counts[i], 4.0 * (double)counts[i], 0);
        name_case(it, "mask of %zu", counts[i]);
        it->is_there = has_mask;
    }
}

void list_elementwise_cases(struct case_list *list)
{
    list_gelus(list);
    list_additions(list);
    list_masks(list);
}
