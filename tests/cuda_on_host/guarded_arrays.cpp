#include "guarded_arrays.h"

#include "cuda_on_host.h"

#include <string.h>
#include <sys/mman.h>

#include <vector>

namespace cuda_on_host
{

struct array {
    unsigned char *mapping, *start, *end; /* end: of what may be touched */
    size_t size, mapped;
};
static std::vector<array> arrays, released;

static void set_access(int access)
{
    for (const array &a : arrays) {
        if (a.end > a.mapping + page) {
            mprotect(a.mapping + page, (size_t)(a.end - a.mapping - page), access);
        }
    }
}

access_to_arrays::access_to_arrays()
{
    set_access(PROT_READ | PROT_WRITE);
}

access_to_arrays::~access_to_arrays()
{
    set_access(PROT_NONE);
}

void *map(size_t bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        stop("no memory: %zu bytes", bytes);
    }
    return memory;
}

/* A page that may not be touched, bytes of guard, the array, bytes of guard, a page that may not be touched.
 */
void *new_array(size_t size)
{
    array a;
    const size_t rounded = (size + 63) / 64 * 64 + (size == 0 ? 64 : 0);
    const size_t touched = (rounded + page - 1) / page * page;
    a.size = size;
    a.mapped = touched + 2 * page;
    a.mapping = (unsigned char *)map(a.mapped);
    a.end = a.mapping + page + touched;
    a.start = a.end - rounded;
    memset(a.mapping + page, guard, touched);
    memset(a.start, poison, size);
    mprotect(a.mapping, page, PROT_NONE);
    mprotect(a.end, page, PROT_NONE);
    mprotect(a.mapping + page, touched, PROT_NONE);
    arrays.push_back(a);
    return a.start;
}

static void check_guards_of(const array *a)
{
    const unsigned char *low = a->start - a->mapping - page > 64 ? a->start - 64 : a->mapping + page;
    for (const unsigned char *p = low; p < a->start; p++) {
        if (*p != guard) {
            stop("something was written %zu bytes before an array of %zu bytes", (size_t)(a->start - p),
                 a->size);
        }
    }
    for (const unsigned char *p = a->start + a->size; p < a->end; p++) {
        if (*p != guard) {
            stop("something was written %zu bytes behind the end of an array of %zu bytes",
                 (size_t)(p - a->start) - a->size, a->size);
        }
    }
}

void free_array(void *memory)
{
    for (size_t k = 0; memory != NULL && k < arrays.size(); k++) {
        if (arrays[k].start == memory) {
            /* Its addresses stay reserved, so that whoever still uses it is stopped. */
            madvise(arrays[k].mapping, arrays[k].mapped, MADV_DONTNEED);
            mprotect(arrays[k].mapping, arrays[k].mapped, PROT_NONE);
            released.push_back(arrays[k]);
            arrays.erase(arrays.begin() + (ptrdiff_t)k);
            return;
        }
    }
    if (memory != NULL) {
        stop("%p is released, which is no array of its", memory);
    }
}

void check_guards()
{
    for (const array &a : arrays) {
        check_guards_of(&a);
    }
}

void describe_address(FILE *out, const unsigned char *address, const char *where)
{
    for (const array &a : arrays) {
        if (address >= a.mapping && address < a.mapping + a.mapped) {
            fprintf(out, ": byte %td of an array of %zu bytes%s", address - a.start, a.size, where);
        }
    }
    for (const array &a : released) {
        if (address >= a.mapping && address < a.mapping + a.mapped) {
            fprintf(out, ": byte %td of an array of %zu bytes that was released", address - a.start, a.size);
        }
    }
}

} // namespace cuda_on_host
