#include "data/dataset_list.h"

#include "base/error.h"
#include "data/dataset_entries.h"

#include <string.h>

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

enum voco_status dataset_add_text(struct dataset *dataset, const char *text, size_t length, const char *list,
                                  const char *folder)
{
    const size_t before = dataset->count;
    enum voco_status status = VOCO_OK;
    size_t line = 1;
    for (size_t begin = 0; status == VOCO_OK && begin < length; line++) {
        const char *newline = memchr(text + begin, '\n', length - begin);
        const size_t next = newline != NULL ? (size_t)(newline - text) + 1 : length;
        size_t end = newline != NULL ? next - 1 : length;
        while (begin < end && is_blank(text[begin])) {
            begin++;
        }
        while (end > begin && is_blank(text[end - 1])) {
            end--;
        }
        if (memchr(text + begin, '\0', end - begin) != NULL) {
            status = fail(VOCO_BAD_INPUT, "%s: line %zu: not text: a list has one path a line", list, line);
        } else if (end > begin && text[begin] != '#') {
            status = dataset_add(dataset, folder, text + begin, end - begin, SPLIT_TRAINING);
        }
        begin = next;
    }
    if (status == VOCO_OK && dataset->count == before) {
        status = fail(VOCO_BAD_INPUT, "%s: names no volume", list);
    }
    return status;
}

enum voco_status dataset_parse_text(struct dataset *dataset, const char *text, size_t length,
                                    const char *list, const char *folder)
{
    *dataset = (struct dataset){0};
    enum voco_status status = dataset_start_set(dataset, "");
    if (status == VOCO_OK) {
        status = dataset_add_text(dataset, text, length, list, folder);
    }
    if (status != VOCO_OK) {
        dataset_free(dataset);
    }
    return status;
}
