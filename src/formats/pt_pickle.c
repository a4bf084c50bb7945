#include "formats/pt_pickle.h"

#include "base/error.h"
#include "formats/pt_rebuild.h"

#include <stdlib.h>
#include <string.h>

enum {
    most_marks = 1024, /* open at once: each level of nesting has one or two */
};

enum opcode {
    PROTO = 0x80,
    STOP = '.',
    MARK = '(',
    NONE = 'N',
    NEWTRUE = 0x88,
    NEWFALSE = 0x89,
    BININT = 'J',
    BININT1 = 'K',
    BININT2 = 'M',
    LONG1 = 0x8a,
    BINFLOAT = 'G',
    BINUNICODE = 'X',
    EMPTY_TUPLE = ')',
    TUPLE = 't',
    TUPLE1 = 0x85,
    TUPLE2 = 0x86,
    TUPLE3 = 0x87,
    EMPTY_LIST = ']',
    APPEND = 'a',
    APPENDS = 'e',
    EMPTY_DICT = '}',
    SETITEM = 's',
    SETITEMS = 'u',
    BINPUT = 'q',
    LONG_BINPUT = 'r',
    BINGET = 'h',
    LONG_BINGET = 'j',
    GLOBAL = 'c',
    REDUCE = 'R',
    BUILD = 'b',
    BINPERSID = 'Q',
};

/* Opcodes that are refused, for the message; others have their number only. */
static const struct {
    unsigned char code;
    const char *name;
} refused[] = {
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'L', "LONG"},
    {'P', "PERSID"},
    {'S', "STRING"},
    {'T', "BINSTRING"},
    {'U', "SHORT_BINSTRING"},
    {'V', "UNICODE"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {'d', "DICT"},
    {'g', "GET"},
    {'i', "INST"},
    {'l', "LIST"},
    {'o', "OBJ"},
    {'p', "PUT"},
    {0x81, "NEWOBJ"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x8b, "LONG4"},
    {0x8c, "SHORT_BINUNICODE"},
    {0x8d, "BINUNICODE8"},
    {0x8e, "BINBYTES8"},
    {0x8f, "EMPTY_SET"},
    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},
    {0x92, "NEWOBJ_EX"},
    {0x93, "STACK_GLOBAL"},
    {0x94, "MEMOIZE"},
    {0x95, "FRAME"},
    {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"},
    {0x98, "READONLY_BUFFER"},
};

struct machine {
    struct pickle *pickle;
    const char *path;
    const unsigned char *begin, *at, *end;
    struct pickle_value *stack;
    size_t depth, capacity;
    size_t marks[most_marks]; /* depths of the stack */
    int mark_count;
    struct pickle_value *memo;
    size_t memo_size;
    int stopped;
};

static enum voco_status damaged(const struct machine *m, const char *cause)
{
    return fail(VOCO_BAD_INPUT, "%s: the pickle is damaged before byte %zu: %s", m->path,
                (size_t)(m->at - m->begin), cause);
}

static enum voco_status no_memory(const struct machine *m)
{
    return fail(VOCO_NO_MEMORY, "%s: no memory for its pickle", m->path);
}

/* The next `count` bytes, or NULL where there are fewer. */
static const unsigned char *take(struct machine *m, size_t count)
{
    if ((size_t)(m->end - m->at) < count) {
        return NULL;
    }
    m->at += count;
    return m->at - count;
}

/* A little-endian number of up to 4 bytes. */
static int take_number(struct machine *m, uint32_t *number, size_t bytes)
{
    const unsigned char *from = take(m, bytes);
    *number = 0;
    for (size_t i = 0; from != NULL && i < bytes; i++) {
        *number |= (uint32_t)from[i] << (8 * i);
    }
    return from != NULL;
}

static enum voco_status push(struct machine *m, struct pickle_value value)
{
    if (m->depth == m->capacity) {
        if (m->capacity >= pickle_most_values) {
            return fail(VOCO_BAD_INPUT, "%s: the pickle has more than %d values", m->path,
                        (int)pickle_most_values);
        }
        const size_t capacity = 2 * m->capacity;
        struct pickle_value *grown = reallocarray(m->stack, capacity, sizeof *grown);
        if (grown == NULL) {
            return no_memory(m);
        }
        m->stack = grown;
        m->capacity = capacity;
    }
    m->stack[m->depth++] = value;
    return VOCO_OK;
}

/* The stack's lowest depth that an opcode may reach down to: values below the last mark are not its own. */
static size_t bottom(const struct machine *m)
{
    return m->mark_count == 0 ? 0 : m->marks[m->mark_count - 1];
}

/* Takes the upper `count` values off the stack; NULL where there are fewer above the mark. They stay readable
 * until the next push. */
static const struct pickle_value *pop(struct machine *m, size_t count)
{
    if (m->depth - bottom(m) < count) {
        return NULL;
    }
    m->depth -= count;
    return m->stack + m->depth;
}

/* Takes all values above the last mark, and the mark. */
static const struct pickle_value *pop_to_mark(struct machine *m, size_t *count)
{
    if (m->mark_count == 0) {
        return NULL;
    }
    const size_t mark = m->marks[--m->mark_count];
    *count = m->depth - mark;
    m->depth = mark;
    return m->stack + mark;
}

static enum voco_status append(struct machine *m, const struct pickle_value *to,
                               const struct pickle_value *items, size_t count)
{
    struct pickle_container *container = &m->pickle->containers[to->number_of];
    if (count > (size_t)pickle_most_values - container->count) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle has more than %d values", m->path,
                    (int)pickle_most_values);
    }
    const uint32_t needed = container->count + (uint32_t)count;
    if (needed > container->capacity) {
        const uint32_t doubled = 2 * container->capacity;
        const uint32_t capacity = needed > doubled ? needed : doubled;
        struct pickle_value *grown = reallocarray(container->items, capacity, sizeof *grown);
        if (grown == NULL) {
            return no_memory(m);
        }
        container->items = grown;
        container->capacity = capacity;
    }
    if (count > 0) {
        memcpy(container->items + container->count, items, count * sizeof *items);
    }
    container->count = needed;
    return VOCO_OK;
}

static enum voco_status push_container(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value value;
    const enum voco_status status = pickle_new_container(&value, m->pickle, kind, m->path);
    return status == VOCO_OK ? push(m, value) : status;
}

/* `items` are on the stack, just popped: the tuple takes their place after they were copied. */
static enum voco_status push_tuple(struct machine *m, const struct pickle_value *items, size_t count)
{
    struct pickle_value value;
    if (items == NULL) {
        return damaged(m, "a tuple of values that are not there");
    }
    enum voco_status status = pickle_new_container(&value, m->pickle, PICKLE_TUPLE, m->path);
    if (status == VOCO_OK) {
        status = append(m, &value, items, count);
    }
    return status == VOCO_OK ? push(m, value) : status;
}

static enum voco_status add_items(struct machine *m, const struct pickle_value *items, size_t count,
                                  enum pickle_kind kind)
{
    if (items == NULL || m->depth == bottom(m) || m->stack[m->depth - 1].kind != kind ||
        (kind == PICKLE_DICT && count % 2 != 0)) {
        return damaged(m, "values for a list or dict that is not there");
    }
    return append(m, &m->stack[m->depth - 1], items, count);
}

static enum voco_status add_marked_items(struct machine *m, enum pickle_kind kind)
{
    size_t count = 0;
    const struct pickle_value *items = pop_to_mark(m, &count);
    return add_items(m, items, count, kind);
}

static enum voco_status push_integer(struct machine *m, size_t bytes)
{
    uint32_t number = 0;
    if (!take_number(m, &number, bytes)) {
        return damaged(m, "cut short");
    }
    const int64_t integer = bytes == 4 ? (int64_t)(int32_t)number : (int64_t)number;
    return push(m, (struct pickle_value){PICKLE_INTEGER, 0, {.integer = integer}});
}

/* Two's complement of any length. What is too wide for 64 bits becomes a number, rounded. */
static enum voco_status push_long(struct machine *m)
{
    uint32_t length = 0;
    const unsigned char *bytes = NULL;
    if (!take_number(m, &length, 1) || (bytes = take(m, length)) == NULL) {
        return damaged(m, "cut short");
    }
    const int negative = length > 0 && bytes[length - 1] >= 0x80;
    if (length <= sizeof(uint64_t)) {
        uint64_t bits = negative ? UINT64_MAX : 0;
        for (uint32_t i = length; i-- > 0;) {
            bits = bits << 8 | bytes[i];
        }
        return push(m, (struct pickle_value){PICKLE_INTEGER, 0, {.integer = (int64_t)bits}});
    }
    double number = negative ? -1.0 : 0.0;
    for (uint32_t i = length; i-- > 0;) {
        number = number * 256.0 + bytes[i];
    }
    return push(m, (struct pickle_value){PICKLE_NUMBER, 0, {.number = number}});
}

static enum voco_status push_number(struct machine *m)
{
    const unsigned char *bytes = take(m, 8);
    if (bytes == NULL) {
        return damaged(m, "cut short");
    }
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) {
        bits = bits << 8 | bytes[i];
    }
    double number = 0.0;
    memcpy(&number, &bits, sizeof number);
    return push(m, (struct pickle_value){PICKLE_NUMBER, 0, {.number = number}});
}

static enum voco_status push_text(struct machine *m)
{
    uint32_t length = 0;
    const unsigned char *bytes = NULL;
    if (!take_number(m, &length, 4) || (bytes = take(m, length)) == NULL) {
        return damaged(m, "cut short");
    }
    return push(m, (struct pickle_value){PICKLE_TEXT, length, {.text = (const char *)bytes}});
}

static enum voco_status put_into_memo(struct machine *m, size_t bytes)
{
    uint32_t place = 0;
    if (!take_number(m, &place, bytes)) {
        return damaged(m, "cut short");
    }
    /* A pickler counts its puts, each of which takes two bytes. */
    if (m->depth == bottom(m) || place >= (size_t)(m->end - m->begin)) {
        return damaged(m, "nothing to remember, or a place that no pickler uses");
    }
    if (place >= m->memo_size) {
        const size_t doubled = 2 * m->memo_size;
        const size_t size = place < 256 ? 256 : place >= doubled ? (size_t)place + 1 : doubled;
        struct pickle_value *grown = reallocarray(m->memo, size, sizeof *grown);
        if (grown == NULL) {
            return no_memory(m);
        }
        memset(grown + m->memo_size, 0, (size - m->memo_size) * sizeof *grown);
        m->memo = grown;
        m->memo_size = size;
    }
    m->memo[place] = m->stack[m->depth - 1];
    return VOCO_OK;
}

static enum voco_status get_from_memo(struct machine *m, size_t bytes)
{
    uint32_t place = 0;
    if (!take_number(m, &place, bytes)) {
        return damaged(m, "cut short");
    }
    if (place >= m->memo_size || m->memo[place].kind == PICKLE_NOTHING) {
        return damaged(m, "it recalls what was not remembered");
    }
    return push(m, m->memo[place]);
}

/* A text up to the end of its line. */
static const char *take_line(struct machine *m, size_t *length)
{
    const unsigned char *end = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (end == NULL) {
        return NULL;
    }
    const unsigned char *line = m->at;
    *length = (size_t)(end - line);
    m->at = end + 1;
    return (const char *)line;
}

static enum voco_status push_global(struct machine *m)
{
    size_t module_bytes = 0;
    size_t name_bytes = 0;
    const char *module = take_line(m, &module_bytes);
    const char *name = module == NULL ? NULL : take_line(m, &name_bytes);
    if (name == NULL) {
        return damaged(m, "cut short");
    }
    struct pickle_value value;
    const enum voco_status status = rebuild_global(&value, module, module_bytes, name, name_bytes, m->path);
    return status == VOCO_OK ? push(m, value) : status;
}

static enum voco_status call(struct machine *m)
{
    const struct pickle_value *called = pop(m, 2);
    if (called == NULL) {
        return damaged(m, "a call of what is not there");
    }
    struct pickle_value value;
    const enum voco_status status = rebuild_call(&value, m->pickle, &called[0], &called[1], m->path);
    return status == VOCO_OK ? push(m, value) : status;
}

/* A state_dict carries the versions of its modules as an attribute; they say nothing about its tensors. */
static enum voco_status drop_attributes(struct machine *m)
{
    const struct pickle_value *state = pop(m, 1);
    if (state == NULL || state->kind != PICKLE_DICT || m->depth == bottom(m) ||
        m->stack[m->depth - 1].kind != PICKLE_DICT) {
        return damaged(m, "attributes of what is not a dict");
    }
    return VOCO_OK;
}

static enum voco_status push_storage(struct machine *m)
{
    const struct pickle_value *id = pop(m, 1);
    if (id == NULL) {
        return damaged(m, "a storage without an id");
    }
    struct pickle_value value;
    const enum voco_status status = rebuild_storage(&value, m->pickle, id, m->path);
    return status == VOCO_OK ? push(m, value) : status;
}

static enum voco_status check_protocol(struct machine *m)
{
    uint32_t protocol = 0;
    if (!take_number(m, &protocol, 1)) {
        return damaged(m, "cut short");
    }
    return protocol == 2 ? VOCO_OK
                         : fail(VOCO_UNSUPPORTED,
                                "%s: a pickle of protocol %u; torch.save writes 2 unless told otherwise",
                                m->path, protocol);
}

static enum voco_status set_mark(struct machine *m)
{
    if (m->mark_count == most_marks) {
        return fail(VOCO_BAD_INPUT, "%s: the pickle is nested too deeply", m->path);
    }
    m->marks[m->mark_count++] = m->depth;
    return VOCO_OK;
}

static enum voco_status stop(struct machine *m)
{
    if (m->depth != 1 || m->mark_count != 0) {
        return damaged(m, "it ends with more or fewer than one value");
    }
    m->pickle->root = m->stack[0];
    m->stopped = 1;
    return VOCO_OK;
}

static enum voco_status refuse_opcode(const struct machine *m, unsigned char code)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (refused[i].code == code) {
            return fail(VOCO_BAD_INPUT,
                        "%s: the pickle uses the opcode %s at byte %zu, which is not part of a checkpoint of "
                        "tensors",
                        m->path, refused[i].name, (size_t)(m->at - m->begin) - 1);
        }
    }
    return fail(VOCO_BAD_INPUT, "%s: the pickle is damaged: byte %zu, 0x%02x, is no opcode", m->path,
                (size_t)(m->at - m->begin) - 1, code);
}

static enum voco_status step(struct machine *m)
{
    const unsigned char code = *m->at++;
    size_t count = 0;
    const struct pickle_value *items = NULL;
    switch ((enum opcode)code) {
    case PROTO:
        return check_protocol(m);
    case STOP:
        return stop(m);
    case MARK:
        return set_mark(m);
    case NONE:
        return push(m, (struct pickle_value){.kind = PICKLE_NONE});
    case NEWTRUE:
    case NEWFALSE:
        return push(m, (struct pickle_value){PICKLE_BOOL, 0, {.integer = code == NEWTRUE}});
    case BININT:
        return push_integer(m, 4);
    case BININT1:
        return push_integer(m, 1);
    case BININT2:
        return push_integer(m, 2);
    case LONG1:
        return push_long(m);
    case BINFLOAT:
        return push_number(m);
    case BINUNICODE:
        return push_text(m);
    case EMPTY_TUPLE:
        return push_container(m, PICKLE_TUPLE);
    case TUPLE:
        items = pop_to_mark(m, &count);
        return push_tuple(m, items, count);
    case TUPLE1:
    case TUPLE2:
    case TUPLE3:
        count = (size_t)(code - TUPLE1) + 1;
        return push_tuple(m, pop(m, count), count);
    case EMPTY_LIST:
        return push_container(m, PICKLE_LIST);
    case APPEND:
        return add_items(m, pop(m, 1), 1, PICKLE_LIST);
    case APPENDS:
        return add_marked_items(m, PICKLE_LIST);
    case EMPTY_DICT:
        return push_container(m, PICKLE_DICT);
    case SETITEM:
        return add_items(m, pop(m, 2), 2, PICKLE_DICT);
    case SETITEMS:
        return add_marked_items(m, PICKLE_DICT);
    case BINPUT:
        return put_into_memo(m, 1);
    case LONG_BINPUT:
        return put_into_memo(m, 4);
    case BINGET:
        return get_from_memo(m, 1);
    case LONG_BINGET:
        return get_from_memo(m, 4);
    case GLOBAL:
        return push_global(m);
    case REDUCE:
        return call(m);
    case BUILD:
        return drop_attributes(m);
    case BINPERSID:
        return push_storage(m);
    }
    return refuse_opcode(m, code);
}

enum voco_status pickle_read(struct pickle *pickle, const unsigned char *bytes, size_t size, const char *path)
{
    *pickle = (struct pickle){.root = {.kind = PICKLE_NONE}, .size = size};
    struct machine machine = {
        .pickle = pickle, .path = path, .begin = bytes, .at = bytes, .end = bytes + size, .capacity = 256};
    machine.stack = calloc(machine.capacity, sizeof *machine.stack);
    if (machine.stack == NULL) {
        return no_memory(&machine);
    }
    enum voco_status status = VOCO_OK;
    while (status == VOCO_OK && !machine.stopped) {
        status = machine.at < machine.end ? step(&machine) : damaged(&machine, "it has no end");
    }
    free(machine.stack);
    free(machine.memo);
    return status;
}

void pickle_free(struct pickle *pickle)
{
    for (size_t i = 0; i < pickle->container_count; i++) {
        free(pickle->containers[i].items);
    }
    free(pickle->containers);
    free(pickle->storages);
    free(pickle->tensors);
    *pickle = (struct pickle){.root = {.kind = PICKLE_NONE}};
}
