#include "base/word_distance.h"

#include <limits.h>
#include <string.h>

int word_distance(const char *a, const char *b)
{
    enum { longest = 40 };
    const size_t a_length = strlen(a);
    const size_t b_length = strlen(b);
    if (a_length > longest || b_length > longest) {
        return INT_MAX;
    }
    int row[longest + 1];
    for (size_t j = 0; j <= b_length; j++) {
        row[j] = (int)j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            const int substituted = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            const int moved = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = substituted < moved ? substituted : moved;
        }
    }
    return row[b_length];
}
