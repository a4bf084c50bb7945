/* A folder of small cached volumes for the tests: every voxel tells its volume and its place. */
#ifndef TESTS_DATA_CACHED_SET_H
#define TESTS_DATA_CACHED_SET_H

#include <stddef.h>

enum { cached_set_most = 16 };

struct cached_set {
    char folder[64];
    char *paths[cached_set_most];
    int sizes[cached_set_most][3];
    size_t count;
};

/* Volume v has (13 + v) x (12 + v % 3) x (4 + v % 2) voxels; voxel i of it is (4096 v + i) / 65535. */
void make_cached_set(struct cached_set *set, size_t count);

/* The same from another size on: volume v has (least[0] + v) x (least[1] + v % 3) x (least[2] + v % 2)
 * voxels, whose values begin at 0 again after 1. */
void make_cached_set_from(struct cached_set *set, size_t count, const int least[3]);
void remove_cached_set(struct cached_set *set);

/* The inverse: which volume a voxel value belongs to, and which voxel (x, y, z) of it is meant. */
int voxel_place(int place[3], const struct cached_set *set, float value);

#endif
