#include "volume/foreground.h"

#include <string.h>

/* First and one past the last positive value of a row; 0 where there is none. */
static int row_bounds(int *first, int *end, const float *row, int length)
{
    int left = 0;
    while (left < length && !(row[left] > 0)) {
        left++;
    }
    if (left == length) {
        return 0;
    }
    int right = length;
    while (!(row[right - 1] > 0)) {
        right--;
    }
    *first = left;
    *end = right;
    return 1;
}

static void widen(int *first, int *end, int new_first, int new_end)
{
    *first = new_first < *first ? new_first : *first;
    *end = new_end > *end ? new_end : *end;
}

int foreground_bounds(int first[3], int end[3], const struct volume *volume)
{
    const int *size = volume->size;
    for (int axis = 0; axis < 3; axis++) {
        first[axis] = size[axis];
        end[axis] = 0;
    }
    const float *row = volume->data;
    for (int z = 0; z < size[2]; z++) {
        for (int y = 0; y < size[1]; y++, row += size[0]) {
            int left;
            int right;
            if (row_bounds(&left, &right, row, size[0])) {
                widen(&first[0], &end[0], left, right);
                widen(&first[1], &end[1], y, y + 1);
                widen(&first[2], &end[2], z, z + 1);
            }
        }
    }
    if (end[0] > 0) {
        return 1;
    }
    memset(first, 0, 3 * sizeof *first);
    return 0;
}
