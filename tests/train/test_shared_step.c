/* A step that ranks share: run by itself, and by mpirun with several ranks (tests/CMakeLists.txt). One of
 * them makes the same step once more as the only process, on the whole batch, and all compare. The same with
 * a device for each rank (dist/ranks_on_device.h). */
#include "dist/ranks.h"
#include "dist/ranks_implementation.h"
#include "dist/ranks_on_device.h"
#include "train/plain_step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct model_config config = {3, 48, 16, PATCH_MERGING_V2};

enum { volumes = 4, randoms = 1, bases = 2, crops_of_volume = randoms + bases };

static struct ranks ranks;
static struct compute compute;
static struct model model;
static struct batch whole; /* V = 4, S = 1, K = 2 */

static struct train_step_settings plain; /* plain_step with drop */

/* ---- buckets that never leave ---- */

/* Who waits for an order that was never started waits for ever, and the other ranks with it. Orders pass
 * through here on their way, so that the test says which one it is. */
static const struct ranks_implementation *watched;
static const struct gradient_exchange *exchange_at_work;

static void end_for_lack_of(const struct ranks_order *order)
{
    (void)fprintf(stderr, "rank %d waits for an order that was not given", ranks.rank);
    for (int b = 0; exchange_at_work != NULL && b < exchange_at_work->count; b++) {
        const struct gradient_bucket *bucket = &exchange_at_work->buckets[b];
        if (&bucket->order == order) {
            (void)fprintf(stderr, ": gradient bucket %d of %d, part %d of the %d of backward, has not left",
                          b + 1, exchange_at_work->count, bucket->part, backbone_parts + 1);
        }
    }
    (void)fprintf(stderr, "\n");
    watched->abort(ranks.link);
    exit(1);
}

/* What is done is forgotten, so that the next step must give it anew. */
static void finish_watched(void *link, struct ranks_order *order)
{
    if (order->values == NULL) {
        end_for_lack_of(order);
    }
    watched->finish(link, order);
    order->values = NULL;
}

static void watch_orders(void)
{
    static struct ranks_implementation watching;
    watched = ranks.implementation;
    watching = *watched;
    watching.finish = finish_watched;
    ranks.implementation = &watching;
}

static int open_all(void **state)
{
    (void)state;
    if (ranks_open(&ranks) != VOCO_OK || !open_test_compute(&compute, &ranks) ||
        model_create(&model, &config) != VOCO_OK ||
        batch_create(&whole, volumes, randoms, bases, config.roi) != VOCO_OK) {
        return -1;
    }
    watch_orders();
    plain = plain_step;
    plain.drop = (struct drop){.mode = DROP_CROP, .rate = 0.2, .seed = 5};
    fill_voxels(&whole);
    for (int v = 0; v < volumes; v++) {
        whole.labels[bases * v] = 0.25F * (float)v;
        whole.labels[bases * v + 1] = 1 - 0.25F * (float)v;
    }
    return 0;
}

/* Volumes of the whole batch as a batch of their own. */
static struct batch part_of(const struct batch_share *share)
{
    struct batch part;
    const size_t side = (size_t)config.roi, crop = side * side * side;
    assert_int_equal(batch_create(&part, share->count, randoms, bases, config.roi), VOCO_OK);
    for (int v = 0; v < share->count; v++) {
        for (int s = 0; s < randoms; s++) {
            memcpy(batch_random_crop(&part, v, s), batch_random_crop(&whole, share->first + v, s),
                   crop * sizeof(float));
        }
        for (int k = 0; k < bases; k++) {
            memcpy(batch_base_crop(&part, v, k), batch_base_crop(&whole, share->first + v, k),
                   crop * sizeof(float));
        }
    }
    memcpy(part.labels, whole.labels + share->first * randoms * bases,
           (size_t)share->count * randoms * bases * sizeof(float));
    return part;
}

/* A step on its way: alone where there is no exchange. */
struct trial {
    struct training_state state;
    struct train_step step;
    struct gradient_exchange exchange;
    struct batch batch;
    struct step_result result;
    const float *gradients; /* of the last step */
};

static void begin(struct trial *t, const struct train_step_settings *settings, const struct batch *batch)
{
    t->batch = *batch;
    assert_int_equal(training_state_create(&t->state, &model.table), VOCO_OK);
    parameters_initialise(t->state.params, &model.table, 17);
    assert_int_equal(train_step_create(&t->step, &model, &compute, &t->state, settings), VOCO_OK);
}

static void begin_shared(struct trial *t, int sync_bn, enum ranks_form form, int sharded)
{
    struct train_step_settings settings = plain;
    settings.share = batch_share_of(volumes, ranks.rank, ranks.size);
    settings.sync_bn = sync_bn;
    const struct batch part = part_of(&settings.share);
    assert_int_equal(gradient_exchange_create(&t->exchange, &ranks, &model.table, form, sharded,
                                              sync_bn ? 1 : 1.0 / ranks.size),
                     VOCO_OK);
    t->batch = part;
    assert_int_equal(training_state_create_part(&t->state, &model.table,
                                                sharded ? t->exchange.own_total : model.table.trained),
                     VOCO_OK);
    parameters_initialise(t->state.params, &model.table, 17);
    assert_int_equal(train_step_create(&t->step, &model, &compute, &t->state, &settings), VOCO_OK);
    train_step_join(&t->step, &t->exchange);
}

static void run(struct trial *t)
{
    compute.parameters_changed(&compute);
    exchange_at_work = t->step.exchange;
    assert_int_equal(train_step_run(&t->step, &t->batch, 1e-3, &t->result, NULL), VOCO_OK);
    assert_int_equal(train_step_fetch_state(&t->step), VOCO_OK);
    t->gradients = train_step_host_gradients(&t->step);
    assert_non_null(t->gradients);
}

static void end(struct trial *t)
{
    if (t->batch.voxels != whole.voxels) {
        batch_free(&t->batch);
    }
    train_step_free(&t->step);
    training_state_free(&t->state);
    gradient_exchange_free(&t->exchange);
}

/* What a step came to, for comparison. */
struct outcome {
    struct step_result result;
    float *gradients;
};

/* Of all ranks in float32, each with its moments whole: several tests look at its first step. */
static struct trial shared;
static struct outcome first_step;

static void keep_outcome(struct outcome *outcome, const struct trial *t)
{
    outcome->result = t->result;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): whoever made the outcome frees its gradients */
    memcpy(outcome->gradients, t->gradients, model.table.trained * sizeof(float));
}

/* That of a rank, at every rank. */
static void tell_outcome(struct outcome *outcome, int rank)
{
    ranks_broadcast(&ranks, &outcome->result, sizeof outcome->result, rank);
    ranks_broadcast(&ranks, outcome->gradients, model.table.trained * sizeof(float), rank);
}

static struct outcome new_outcome(void)
{
    struct outcome outcome = {.gradients = calloc(model.table.trained, sizeof(float))};
    assert_non_null(outcome.gradients);
    return outcome;
}

static int make_first_step(void **state)
{
    if (open_all(state) != 0) {
        return -1;
    }
    begin_shared(&shared, 1, RANKS_FLOAT32, 0);
    run(&shared);
    first_step = new_outcome();
    keep_outcome(&first_step, &shared);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    end(&shared);
    free(first_step.gradients);
    batch_free(&whole);
    model_free(&model);
    ranks.implementation = watched;
    close_test_compute(&compute, &ranks);
    ranks_close(&ranks);
    return 0;
}

static double relative_distance(const float *a, const float *b, size_t count)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return sqrt(difference / size);
}

static void the_embeddings_of_all_ranks_make_the_step_of_one_process(void **state)
{
    (void)state;
    struct outcome one = new_outcome();
    if (ranks.rank == 0) {
        struct trial alone = {0};
        begin(&alone, &plain, &whole);
        run(&alone);
        keep_outcome(&one, &alone);
        end(&alone);
    }
    tell_outcome(&one, 0);
    const size_t trained = model.table.trained, backbone = model.table.backbone;
    const struct step_result *result = &first_step.result;
    const float *gradients = first_step.gradients;
    assert_float_equal(result->loss.total, one.result.loss.total, 1e-6);
    assert_float_equal(result->loss.inter, one.result.loss.inter, 1e-6);
    assert_float_equal(result->gradient_norm / one.result.gradient_norm, 1, 1e-5);
    assert_int_equal(result->positions.positions, volumes * randoms);
    assert_float_equal(result->embeddings.effective_rank, one.result.embeddings.effective_rank, 1e-4);
    assert_true(relative_distance(gradients, one.gradients, trained) < 1e-4);
    assert_true(relative_distance(gradients, one.gradients, backbone) < 1e-4);
    assert_true(relative_distance(gradients + backbone, one.gradients + backbone, trained - backbone) < 1e-4);
    free(one.gradients);
}

/* The gradient of each part as if there were no others, their mean: what the published code's data-parallel
 * training takes. */
static void by_default_each_rank_sees_its_own_part(void **state)
{
    (void)state;
    if (volumes % ranks.size != 0) {
        return;
    }
    struct trial own_parts = {0}, alone = {0};
    begin_shared(&own_parts, 0, RANKS_FLOAT32, 0);
    run(&own_parts);
    struct train_step_settings settings = plain;
    settings.share = batch_share_of(volumes, ranks.rank, ranks.size);
    const struct batch part = part_of(&settings.share);
    begin(&alone, &settings, &part);
    run(&alone);
    const size_t trained = model.table.trained;
    float *mean = calloc(trained, sizeof *mean);
    assert_non_null(mean);
    double loss = 0;
    for (int rank = 0; rank < ranks.size; rank++) {
        struct outcome one = new_outcome();
        keep_outcome(&one, &alone);
        tell_outcome(&one, rank);
        loss += one.result.loss.total / ranks.size;
        for (size_t i = 0; i < trained; i++) {
            mean[i] += one.gradients[i] / (float)ranks.size;
        }
        free(one.gradients);
    }
    assert_float_equal(own_parts.result.loss.total, loss, 1e-6);
    assert_int_equal(own_parts.result.positions.positions, volumes * randoms);
    assert_true(relative_distance(own_parts.gradients, mean, trained) < 1e-6);
    free(mean);
    end(&alone);
    end(&own_parts);
}

static void sharded_moments_change_no_bit(void **state)
{
    (void)state;
    struct trial sharded = {0};
    begin_shared(&sharded, 1, RANKS_FLOAT32, 1);
    run(&sharded);
    run(&sharded);
    run(&shared);
    assert_int_equal(shared.state.step, 2);
    assert_memory_equal(shared.state.params, sharded.state.params, model.table.total * sizeof(float));
    assert_true(ranks.size == 1 || sharded.exchange.own_total < model.table.trained * 2 / 3);
    for (int b = 0; b < sharded.exchange.count; b++) {
        const struct gradient_bucket *bucket = &sharded.exchange.buckets[b];
        assert_memory_equal(shared.state.exp_avg + bucket->own_first,
                            sharded.state.exp_avg + bucket->own_moments, bucket->own_count * sizeof(float));
    }
    end(&sharded);
}

static void bf16_costs_the_gradient_little_and_ranks_stay_alike(void **state)
{
    (void)state;
    struct trial rounded = {0};
    begin_shared(&rounded, 1, RANKS_BF16, 0);
    run(&rounded);
    const size_t bytes = model.table.total * sizeof(float);
    float *of_first = malloc(bytes);
    assert_non_null(of_first);
    memcpy(of_first, rounded.state.params, bytes);
    ranks_broadcast(&ranks, of_first, bytes, 0);
    assert_memory_equal(of_first, rounded.state.params, bytes);
    const double distance = relative_distance(rounded.gradients, first_step.gradients, model.table.trained);
    assert_true(distance < 6e-3);
    assert_true(ranks.size == 1 || distance > 1e-5);
    free(of_first);
    end(&rounded);
}

/* Volume 3's crops are NaN, so that one rank alone has a bad loss of its own: all must skip. */
static void a_step_is_skipped_by_all_or_by_none(void **state)
{
    (void)state;
    if (volumes % ranks.size != 0) {
        return;
    }
    struct trial skipping = {0};
    begin_shared(&skipping, 0, RANKS_FLOAT32, 0);
    if (ranks.rank == ranks.size - 1) {
        skipping.batch.voxels[5] = NAN;
    }
    run(&skipping);
    assert_true(skipping.result.skipped);
    assert_int_equal(skipping.state.step, 1);
    assert_int_equal(skipping.state.optimizer_step, 0);
    end(&skipping);
}

static void set_voxels(const struct batch *batch, float factor)
{
    const size_t side = (size_t)config.roi, count = crops_of_volume * side * side * side;
    for (size_t k = 0; k < count; k++) {
        batch->voxels[k] = factor * whole.voxels[k];
    }
}

/* Each step on other crops, of one volume. In one life they are there when it begins; in the other they were
 * brought while the step before was computed, and are gone when the step has looked at them. */
static void crops_may_travel_ahead(void **state)
{
    (void)state;
    enum { steps = 3 };
    if (!compute.separate_memory) {
        skip(); /* nothing travels */
    }
    const struct batch_share one = {volumes, 0, 1};
    struct trial plainly = {0}, ahead = {0};
    struct batch slots[2] = {part_of(&one), part_of(&one)};
    const struct batch given = part_of(&one);
    begin(&plainly, &plain, &given);
    begin(&ahead, &plain, &given);
    set_voxels(&slots[1], 5); /* which no step is made of */
    assert_int_equal(train_step_bring(&ahead.step, &slots[1]), VOCO_OK);
    assert_int_equal(train_step_bring(&ahead.step, NULL), VOCO_OK);
    assert_int_equal(train_step_bring(&ahead.step, &slots[1]), VOCO_OK);
    set_voxels(&slots[0], 1);
    for (int k = 0; k < steps; k++) {
        struct batch *own = &slots[k % 2], *next = &slots[1 - k % 2];
        set_voxels(&given, (float)(1 + k));
        compute.parameters_changed(&compute);
        assert_int_equal(train_step_run(&plainly.step, &given, 1e-3, &plainly.result, NULL), VOCO_OK);
        compute.parameters_changed(&compute);
        assert_int_equal(train_step_gradients(&ahead.step, own, &ahead.result, NULL), VOCO_OK);
        set_voxels(own, NAN);
        set_voxels(next, (float)(2 + k));
        assert_int_equal(train_step_bring(&ahead.step, next), VOCO_OK);
        assert_int_equal(train_step_update(&ahead.step, 1e-3, &ahead.result), VOCO_OK);
        assert_true(!ahead.result.skipped && ahead.result.loss.total == plainly.result.loss.total);
        assert_true(ahead.result.gradient_norm == plainly.result.gradient_norm);
        assert_true(ahead.result.embeddings.spread == plainly.result.embeddings.spread);
    }
    assert_int_equal(train_step_fetch_state(&plainly.step), VOCO_OK);
    assert_int_equal(train_step_fetch_state(&ahead.step), VOCO_OK);
    assert_memory_equal(ahead.state.params, plainly.state.params, model.table.total * sizeof(float));
    end(&ahead);
    plainly.batch = whole; /* which both have been given */
    end(&plainly);
    batch_free(&slots[0]);
    batch_free(&slots[1]);
}

/* The rank's part, as it is stored and as floats: the same step to the bit. */
static void crops_may_come_as_they_are_stored(void **state)
{
    (void)state;
    static const struct batch_memory heap;
    if (!compute.separate_memory) {
        skip(); /* they come as floats, and test_stored_crops.c has the other case */
    }
    struct trial of_floats = {0}, of_stored = {0};
    begin_shared(&of_floats, 1, RANKS_FLOAT32, 0);
    begin_shared(&of_stored, 1, RANKS_FLOAT32, 0);
    struct batch *floats = &of_floats.batch, stored;
    assert_int_equal(
        batch_create_in(&stored, &heap, VOXELS_8_BITS, floats->volumes, randoms, bases, config.roi), VOCO_OK);
    fill_both(&stored, floats);
    memcpy(stored.labels, floats->labels, (size_t)floats->volumes * randoms * bases * sizeof(float));
    batch_free(&of_stored.batch);
    of_stored.batch = stored;
    run(&of_floats);
    run(&of_stored);
    assert_true(!of_stored.result.skipped && of_stored.result.loss.total == of_floats.result.loss.total);
    assert_memory_equal(of_stored.gradients, of_floats.gradients, model.table.trained * sizeof(float));
    end(&of_floats);
    end(&of_stored);
}

static void every_gradient_is_in_one_bucket(void **state)
{
    (void)state;
    struct gradient_exchange exchange;
    int parts[backbone_parts + 1] = {0};
    assert_int_equal(gradient_exchange_create(&exchange, &ranks, &model.table, RANKS_FLOAT32, 0, 1), VOCO_OK);
    size_t end_of_last = 0;
    for (int b = 0; b < exchange.count; b++) {
        assert_int_equal(exchange.buckets[b].offset, end_of_last);
        end_of_last += exchange.buckets[b].count;
        parts[exchange.buckets[b].part]++;
    }
    assert_int_equal(end_of_last, model.table.trained);
    for (int part = 0; part <= backbone_parts; part++) {
        assert_true(parts[part] >= 1);
    }
    gradient_exchange_free(&exchange);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_is_in_one_bucket),
        cmocka_unit_test(the_embeddings_of_all_ranks_make_the_step_of_one_process),
        cmocka_unit_test(by_default_each_rank_sees_its_own_part),
        cmocka_unit_test(sharded_moments_change_no_bit),
        cmocka_unit_test(bf16_costs_the_gradient_little_and_ranks_stay_alike),
        cmocka_unit_test(a_step_is_skipped_by_all_or_by_none),
        cmocka_unit_test(crops_may_travel_ahead),
        cmocka_unit_test(crops_may_come_as_they_are_stored),
    };
    return cmocka_run_group_tests(tests, make_first_step, close_all);
}
