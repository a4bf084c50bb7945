#include "mutation.h"

#include "base/philox.h"

#include <string.h>

enum { edge = 600, most_changes = 6, longest_piece = 256 };

struct draws {
    struct random_key key;
    uint32_t next;
};

/* What is being damaged. */
struct draft {
    uint8_t *bytes;
    size_t count, capacity;
};

static uint32_t draw(struct draws *draws, size_t bound)
{
    return random_below(&draws->key, draws->next++, (uint32_t)bound);
}

/* A place in an input that is not empty; often within `edge` bytes of its beginning or end. */
static size_t draw_place(struct draws *draws, size_t count)
{
    const size_t near = count < edge ? count : edge;
    switch (draw(draws, 4)) {
    case 0:
        return draw(draws, near);
    case 1:
        return count - 1 - draw(draws, near);
    default:
        return draw(draws, count);
    }
}

/* Bytes that are boundaries of numbers or mean something to a format of text. */
static uint8_t telling_byte(struct draws *draws)
{
    static const char telling[] = "\0\001\177\200\377\376{}[]\",:-.#/\\&*!|'eE0123456789tfn \n\r\t";
    return (uint8_t)telling[draw(draws, sizeof telling - 1)];
}

static uint64_t telling_integer(struct draws *draws, size_t count)
{
    switch (draw(draws, 4)) {
    case 0:
        return (uint64_t)1 << draw(draws, 64);
    case 1:
        return ((uint64_t)1 << draw(draws, 64)) - 1;
    case 2:
        return 0 - (uint64_t)draw(draws, 3);
    default:
        return count - 1 + draw(draws, 3); /* about the length of the input */
    }
}

/* Sets an integer of 2, 4 or 8 bytes, or moves it by up to 8. */
static void change_integer(struct draft *draft, struct draws *draws)
{
    const size_t width = (size_t)2 << draw(draws, 3);
    if (draft->count < width) {
        return;
    }
    const size_t at = draw_place(draws, draft->count - width + 1);
    const int big_endian = (int)draw(draws, 2);
    uint8_t *bytes = draft->bytes + at;
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++) {
        value = value << 8 | bytes[big_endian ? i : width - 1 - i];
    }
    value = draw(draws, 2) == 0 ? telling_integer(draws, draft->count) : value + draw(draws, 17) - 8;
    for (size_t i = 0; i < width; i++) {
        bytes[big_endian ? width - 1 - i : i] = (uint8_t)(value >> 8 * i);
    }
}

static size_t draw_length(struct draws *draws, size_t most)
{
    return most == 0 ? 0 : 1 + draw(draws, most < longest_piece ? most : longest_piece);
}

static void delete_piece(struct draft *draft, struct draws *draws)
{
    const size_t at = draw_place(draws, draft->count);
    const size_t length = draw_length(draws, draft->count - at);
    memmove(draft->bytes + at, draft->bytes + at + length, draft->count - at - length);
    draft->count -= length;
}

/* Puts a piece of `from`, which may be the draft itself, into the draft: over what is there or between. */
static void put_piece(struct draft *draft, struct draws *draws, const uint8_t *from, size_t from_count)
{
    if (from_count == 0) {
        return;
    }
    const size_t begin = draw_place(draws, from_count);
    size_t length = draw_length(draws, from_count - begin);
    uint8_t piece[longest_piece];
    memcpy(piece, from + begin, length);
    const size_t at = draw_place(draws, draft->count);
    if (draw(draws, 2) == 0) {
        length = length < draft->count - at ? length : draft->count - at;
    } else if (draft->count + length <= draft->capacity) {
        memmove(draft->bytes + at + length, draft->bytes + at, draft->count - at);
        draft->count += length;
    } else {
        return;
    }
    memcpy(draft->bytes + at, piece, length);
}

static void change(struct draft *draft, struct draws *draws, const struct fuzz_input *other)
{
    switch (draw(draws, 10)) {
    case 0:
    case 1:
        draft->bytes[draw_place(draws, draft->count)] ^= (uint8_t)(1u << draw(draws, 8));
        break;
    case 2:
    case 3:
        draft->bytes[draw_place(draws, draft->count)] = telling_byte(draws);
        break;
    case 4:
    case 5:
        change_integer(draft, draws);
        break;
    case 6:
        delete_piece(draft, draws);
        break;
    case 7:
        put_piece(draft, draws, draft->bytes, draft->count);
        break;
    case 8:
        put_piece(draft, draws, other->bytes, other->count);
        break;
    default:
        if (draw(draws, 2) == 0) {
            draft->count = draw_place(draws, draft->count);
        } else {
            draft->bytes[draw_place(draws, draft->count)] = (uint8_t)draw(draws, 256);
        }
        break;
    }
}

size_t mutated_input(uint8_t *out, size_t capacity, const struct fuzz_input *seeds, size_t seed_count,
                     size_t which, uint64_t seed, uint64_t number)
{
    struct draws draws = {.key = {.seed = seed, .step = number, .purpose = RANDOM_TEST}};
    struct draft draft = {.bytes = out, .count = seeds[which].count, .capacity = capacity};
    memcpy(out, seeds[which].bytes, draft.count);
    /* Mostly one or two: a strict format refuses more at its first check. */
    const uint32_t changes = 1 + draw(&draws, 1 + draw(&draws, most_changes));
    for (uint32_t i = 0; i < changes && draft.count > 0; i++) {
        change(&draft, &draws, &seeds[draw(&draws, seed_count)]);
    }
    return draft.count;
}
