#include "volume/axis_places.h"

#include <math.h>
#include <stdlib.h>

int axis_places_make(struct axis_places *places, int count, int size, double step, double offset,
                     int reversed)
{
    *places = (struct axis_places){.count = count};
    const size_t n = (size_t)count;
    places->storage = malloc(n * (2 * sizeof(int) + sizeof(float)));
    if (places->storage == NULL) {
        return 0;
    }
    places->left = places->storage;
    places->right = places->left + n;
    places->weight = (float *)(places->right + n);
    places->in_order = count == size;
    for (int i = 0; i < count; i++) {
        double position = fmin(fmax(offset + i * step, 0), size - 1);
        if (fabs(position - rint(position)) < 1e-9) {
            position = rint(position);
        }
        const int left = (int)position;
        const float weight = (float)(position - left);
        const int right = weight > 0 && left + 1 < size ? left + 1 : left;
        places->left[i] = reversed ? size - 1 - left : left;
        places->right[i] = reversed ? size - 1 - right : right;
        places->weight[i] = right == left ? 0 : weight;
        places->in_order = places->in_order && places->left[i] == i && places->right[i] == i;
    }
    return 1;
}

void axis_places_free(struct axis_places *places)
{
    free(places->storage);
    *places = (struct axis_places){0};
}
