#include "train/gradient_exchange.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* Where the parameters from `first` on stop being of one part; `table` is in the order of the offsets. */
static int end_of_part(const struct parameter_table *table, int first)
{
    const int part = backbone_part_of(&table->entries[first]);
    int end = first;
    while (end < table->count && table->entries[end].group != GROUP_TEACHER &&
           backbone_part_of(&table->entries[end]) == part) {
        end++;
    }
    return end;
}

static size_t offset_of(const struct parameter_table *table, int entry)
{
    return entry < table->count && table->entries[entry].group != GROUP_TEACHER ? table->entries[entry].offset
                                                                                : table->trained;
}

/* Cuts the elements of one part; with buckets == NULL only counts. */
static int cut(struct gradient_bucket *buckets, size_t begin, size_t end, int part)
{
    int count = 0;
    for (size_t offset = begin; offset < end; offset += bucket_elements, count++) {
        const size_t left = end - offset;
        if (buckets != NULL) {
            buckets[count] = (struct gradient_bucket){
                .offset = offset, .count = left < bucket_elements ? left : bucket_elements, .part = part};
        }
    }
    return count;
}

static int cut_all(struct gradient_bucket *buckets, const struct parameter_table *table)
{
    int count = 0;
    for (int first = 0; first < table->count && table->entries[first].group != GROUP_TEACHER;) {
        const int end = end_of_part(table, first);
        count += cut(buckets != NULL ? buckets + count : NULL, offset_of(table, first), offset_of(table, end),
                     backbone_part_of(&table->entries[first]));
        first = end;
    }
    return count;
}

enum voco_status gradient_exchange_create(struct gradient_exchange *exchange, const struct ranks *ranks,
                                          const struct parameter_table *table, enum ranks_form form,
                                          int sharded, double scale)
{
    *exchange = (struct gradient_exchange){.ranks = ranks,
                                           .form = form,
                                           .sharded = sharded,
                                           .scale = (float)scale,
                                           .count = cut_all(NULL, table)};
    exchange->buckets = calloc((size_t)exchange->count, sizeof *exchange->buckets);
    if (exchange->buckets == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the list of gradients");
    }
    (void)cut_all(exchange->buckets, table);
    for (int b = 0; b < exchange->count; b++) {
        struct gradient_bucket *bucket = &exchange->buckets[b];
        size_t first = 0;
        bucket->own_count = ranks_slice(&first, ranks, ranks->rank, bucket->count);
        bucket->own_first = bucket->offset + first;
        bucket->own_moments = exchange->own_total;
        exchange->own_total += bucket->own_count;
    }
    return VOCO_OK;
}

void gradient_exchange_free(struct gradient_exchange *exchange)
{
    free(exchange->buckets);
    *exchange = (struct gradient_exchange){0};
}

size_t gradient_exchange_bytes(const struct ranks *ranks)
{
    return ranks->size == 1 ? 0 : (size_t)bucket_elements * (sizeof(float) + sizeof(uint16_t));
}

void gradient_exchange_start(struct gradient_exchange *exchange, real *gradients, int part)
{
    for (int b = 0; b < exchange->count; b++) {
        struct gradient_bucket *bucket = &exchange->buckets[b];
        if (bucket->part == part) {
            bucket->order =
                (struct ranks_order){.operation = exchange->sharded ? RANKS_SUM_SLICES : RANKS_SUM,
                                     .values = gradients + bucket->offset,
                                     .count = bucket->count,
                                     .scale = exchange->scale,
                                     .form = exchange->form,
                                     .on_device = exchange->on_device};
            ranks_start(exchange->ranks, &bucket->order);
        }
    }
}

void gradient_exchange_finish(struct gradient_exchange *exchange)
{
    for (int b = 0; b < exchange->count; b++) {
        ranks_finish(exchange->ranks, &exchange->buckets[b].order);
    }
}

void gradient_exchange_share(struct gradient_exchange *exchange, real *params)
{
    for (int b = 0; b < exchange->count; b++) {
        struct gradient_bucket *bucket = &exchange->buckets[b];
        bucket->order = (struct ranks_order){.operation = RANKS_SHARE_SLICES,
                                             .values = params + bucket->offset,
                                             .count = bucket->count,
                                             .on_device = exchange->on_device};
        ranks_start(exchange->ranks, &bucket->order);
    }
    gradient_exchange_finish(exchange);
}

void gradient_exchange_gather(const struct gradient_exchange *exchange, const struct gradient_bucket *bucket,
                              const real *own, real *values)
{
    const struct ranks *ranks = exchange->ranks;
    const int root = ranks->rank == 0;
    if (root) {
        memcpy(values + (bucket->own_first - bucket->offset), own + bucket->own_moments,
               bucket->own_count * sizeof *own);
    }
    struct ranks_order order = {.operation = RANKS_GATHER_SLICES,
                                .values = root ? values : (real *)own + bucket->own_moments,
                                .count = bucket->count};
    ranks_start(ranks, &order);
    ranks_finish(ranks, &order);
}
