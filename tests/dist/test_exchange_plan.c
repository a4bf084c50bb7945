/* Plans of sums, carried out by all ranks of a job that is played in one array: messages are matched as MPI
 * and NCCL match them, between two ranks in their order, and the sums are compared with those that the header
 * of ranks.h defines. */
#include "dist/exchange_plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ranks_most = 12 };

struct job_case {
    int size;
    int names[ranks_most];
};

static const struct job_case job_cases[] = {
    {1, {7}},
    {2, {5, 5}},
    {2, {5, 3}},
    {3, {0, 0, 0}},
    {3, {0, 1, 1}},
    {3, {0, 0, 1}},
    {3, {2, 1, 0}},
    {4, {0, 0, 1, 1}},
    {4, {0, 1, 0, 1}},
    {4, {0, 0, 1, 2}},
    {4, {0, 1, 1, 0}},
    {5, {3, 1, 3, 3, 1}},
    {7, {0, 1, 2, 0, 1, 2, 0}},
    {8, {0, 0, 0, 0, 1, 1, 1, 1}},
    {9, {0, 0, 0, 1, 1, 1, 2, 2, 2}},
    {12, {0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4}},
    {12, {4, 4, 2, 0, 2, 4, 4, 0, 1, 2, 4, 1}},
};
enum { job_count = sizeof job_cases / sizeof job_cases[0] };

static const size_t counts[] = {0, 1, 16, 17, 1000, 12 * 5 * 3 * 2 * 16, 30011};
enum { count_count = sizeof counts / sizeof counts[0] };

/* A job of ranks, each with its plan, its array and what comes in. */
struct job {
    struct node_layout layout;
    size_t count;
    struct exchange_plan plans[ranks_most];
    float *values[ranks_most], *incoming[ranks_most];
};

static float element(size_t i, int rank)
{
    return sinf((float)(i + 1) * 0.37F + (float)rank) * (float)(rank + 1);
}

static void begin(struct job *job, const struct job_case *of, size_t count)
{
    *job = (struct job){.count = count};
    assert_true(node_layout_create(&job->layout, of->names, of->size));
    for (int rank = 0; rank < of->size; rank++) {
        assert_true(exchange_plan_make(&job->plans[rank], &job->layout, rank, count));
        job->values[rank] = malloc((count + 1) * sizeof(float));
        job->incoming[rank] = malloc((job->plans[rank].room + 1) * sizeof(float));
        assert_non_null(job->values[rank]);
        assert_non_null(job->incoming[rank]);
        for (size_t i = 0; i < count; i++) {
            job->values[rank][i] = element(i, rank);
        }
    }
}

static void end(struct job *job)
{
    for (int rank = 0; rank < job->layout.size; rank++) {
        exchange_plan_free(&job->plans[rank]);
        free(job->values[rank]);
        free(job->incoming[rank]);
    }
    node_layout_free(&job->layout);
}

static const struct exchange_stage *stage_of(const struct job *job, int rank, int between)
{
    return between ? &job->plans[rank].between : &job->plans[rank].within;
}

/* Number `number` of the transfers of a list that are with `peer`; NULL: there are fewer. */
static const struct transfer *transfer_with(const struct transfer_list *list, int peer, int number)
{
    for (int k = 0; k < list->count; k++) {
        if (list->items[k].peer == peer && number-- == 0) {
            return &list->items[k];
        }
    }
    return NULL;
}

/* All messages from one rank to another: each is received, and is where and what it was sent for. */
static void deliver(struct job *job, int between, int back, int from, int to)
{
    const struct exchange_stage *sender = stage_of(job, from, between),
                                *receiver = stage_of(job, to, between);
    const struct transfer_list *sends = back ? &sender->receives : &sender->sends;
    const struct transfer_list *receives = back ? &receiver->sends : &receiver->receives;
    for (int number = 0;; number++) {
        const struct transfer *sent = transfer_with(sends, to, number);
        const struct transfer *received = transfer_with(receives, from, number);
        assert_int_equal(sent == NULL, received == NULL);
        if (sent == NULL || received == NULL) {
            return;
        }
        assert_true(sent->count > 0 && sent->first + sent->count <= job->count);
        assert_int_equal(sent->first, received->first);
        assert_int_equal(sent->count, received->count);
        assert_true(back || received->place + received->count <= job->plans[to].room);
        float *into = back ? job->values[to] + received->first : job->incoming[to] + received->place;
        memcpy(into, job->values[from] + sent->first, sent->count * sizeof(float));
    }
}

static void deliver_all(struct job *job, int between, int back)
{
    for (int from = 0; from < job->layout.size; from++) {
        for (int to = 0; to < job->layout.size; to++) {
            deliver(job, between, back, from, to);
        }
    }
}

static void add(struct job *job, int between)
{
    for (int rank = 0; rank < job->layout.size; rank++) {
        const struct sum_list *sums = &stage_of(job, rank, between)->sums;
        for (int k = 0; k < sums->count; k++) {
            const struct planned_sum *s = &sums->items[k];
            float *values = job->values[rank] + s->first, *terms = job->incoming[rank] + s->place;
            memcpy(terms + (size_t)s->own * s->count, values, s->count * sizeof *terms);
            for (size_t i = 0; i < s->count; i++) {
                values[i] = terms[i];
                for (int term = 1; term < s->terms; term++) {
                    values[i] += terms[(size_t)term * s->count + i];
                }
            }
        }
    }
}

/* Over the ranks of each node in their order, and over the nodes in the order of their lowest ranks. */
static float sum_of(size_t i, const struct job_case *of)
{
    float sum = 0;
    int seen[ranks_most] = {0}, nodes = 0;
    for (int first = 0; first < of->size; first++) {
        float of_node = 0;
        int terms = 0;
        for (int rank = first; rank < of->size; rank++) {
            if (!seen[rank] && of->names[rank] == of->names[first]) {
                of_node = terms++ == 0 ? element(i, rank) : of_node + element(i, rank);
                seen[rank] = 1;
            }
        }
        if (terms > 0) {
            sum = nodes++ == 0 ? of_node : sum + of_node;
        }
    }
    return sum;
}

static void sums_are_those_of_nodes_first_and_reach_all(void **state)
{
    (void)state;
    for (int k = 0; k < job_count * count_count; k++) {
        struct job job;
        begin(&job, &job_cases[k / count_count], counts[k % count_count]);
        deliver_all(&job, 0, 0);
        add(&job, 0);
        deliver_all(&job, 1, 0);
        add(&job, 1);
        for (int rank = 0; rank < job.layout.size; rank++) {
            size_t first = 0;
            const size_t own = node_layout_slice(&first, &job.layout, rank, job.count);
            for (size_t i = first; i < first + own; i++) {
                assert_true(job.values[rank][i] == sum_of(i, &job_cases[k / count_count]));
            }
        }
        deliver_all(&job, 1, 1);
        deliver_all(&job, 0, 1);
        for (size_t i = 0; i < job.count; i++) {
            const float wanted = sum_of(i, &job_cases[k / count_count]);
            for (int rank = 0; rank < job.layout.size; rank++) {
                assert_true(job.values[rank][i] == wanted);
            }
        }
        end(&job);
    }
}

/* Every node sends each other node's slices once, and each of its ranks an equal part of them. */
static void a_node_sends_once_what_it_has_together(void **state)
{
    (void)state;
    for (int k = 0; k < job_count * count_count; k++) {
        struct job job;
        begin(&job, &job_cases[k / count_count], counts[k % count_count]);
        const struct node_layout *l = &job.layout;
        for (int node = 0; node < l->nodes; node++) {
            const int members = node_layout_members(l, node);
            size_t foreign = 0, sent = 0, most = 0;
            for (int rank = 0; rank < l->size; rank++) {
                size_t first = 0, of_rank = 0;
                foreign += l->node[rank] != node ? node_layout_slice(&first, l, rank, job.count) : 0;
                const struct transfer_list *sends = &job.plans[rank].between.sends;
                for (int t = 0; t < sends->count && l->node[rank] == node; t++) {
                    assert_int_not_equal(l->node[sends->items[t].peer], node);
                    of_rank += sends->items[t].count;
                }
                sent += of_rank;
                most = of_rank > most ? of_rank : most;
            }
            assert_int_equal(sent, foreign);
            assert_true(most <= foreign / (size_t)members + (size_t)l->size * 32);
        }
        end(&job);
    }
}

/* Within a node a rank's part is one stretch, so that the sum costs one message to each other member; between
 * nodes it sends one to each other node. */
static void equal_nodes_exchange_few_messages(void **state)
{
    (void)state;
    for (int k = 0; k < job_count; k++) {
        struct job job;
        begin(&job, &job_cases[k], 12 * 5 * 3 * 2 * 16);
        const struct node_layout *l = &job.layout;
        int equal = 1;
        for (int node = 1; node < l->nodes; node++) {
            equal = equal && node_layout_members(l, node) == node_layout_members(l, 0);
        }
        for (int rank = 0; rank < l->size && equal; rank++) {
            const int members = node_layout_members(l, 0);
            assert_int_equal(job.plans[rank].within.sends.count, members - 1);
            assert_int_equal(job.plans[rank].between.sends.count, l->nodes - 1);
            assert_int_equal(job.plans[rank].between.receives.count, l->nodes - 1);
        }
        end(&job);
    }
}

static void slices_cover_an_array_once(void **state)
{
    (void)state;
    for (int k = 0; k < job_count * count_count; k++) {
        const struct job_case *of = &job_cases[k / count_count];
        const size_t count = counts[k % count_count];
        struct node_layout layout;
        size_t end_of_last = 0, first = 0;
        assert_true(node_layout_create(&layout, of->names, of->size));
        for (int slice = 0; slice < of->size; slice++) {
            const int rank = layout.owner[slice];
            const size_t own = node_layout_slice(&first, &layout, rank, count);
            assert_int_equal(layout.slice[rank], slice);
            assert_true(!node_layout_is_flat(&layout) || rank == slice);
            assert_int_equal(first, end_of_last);
            assert_true(first % 16 == 0 || own == 0);
            end_of_last = first + own;
        }
        assert_int_equal(end_of_last, count);
        node_layout_free(&layout);
    }
}

static void a_plan_is_made_anew_for_another_count(void **state)
{
    (void)state;
    struct job one, other;
    begin(&one, &job_cases[9], 1000);
    begin(&other, &job_cases[9], 30011);
    for (int rank = 0; rank < one.layout.size; rank++) {
        struct exchange_plan *plan = &one.plans[rank], *wanted = &other.plans[rank];
        assert_true(exchange_plan_make(plan, &one.layout, rank, 30011));
        assert_int_equal(plan->room, wanted->room);
        assert_int_equal(plan->within.sends.count, wanted->within.sends.count);
        assert_int_equal(plan->between.receives.count, wanted->between.receives.count);
        for (int k = 0; k < plan->between.sends.count; k++) {
            assert_int_equal(plan->between.sends.items[k].count, wanted->between.sends.items[k].count);
        }
    }
    end(&one);
    end(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_cover_an_array_once),
        cmocka_unit_test(sums_are_those_of_nodes_first_and_reach_all),
        cmocka_unit_test(a_node_sends_once_what_it_has_together),
        cmocka_unit_test(equal_nodes_exchange_few_messages),
        cmocka_unit_test(a_plan_is_made_anew_for_another_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
