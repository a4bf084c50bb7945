/* A device for each rank, in the tests that are compiled with TEST_DEVICE: it is played by the host
 * (device_on_host/device_on_host.h), and its arrays travel as VOCO_NCCL says. Without TEST_DEVICE ranks
 * compute as they do on processors. */
#ifndef TESTS_RANKS_ON_DEVICE_H
#define TESTS_RANKS_ON_DEVICE_H

#include "compute/compute.h"
#include "dist/ranks.h"

/* Whether it worked: c is open, with one thread, and where it is a device `ranks` have joined it, and sums go
 * the way that the test is for. */
int open_test_compute(struct compute *c, struct ranks *ranks);
void close_test_compute(struct compute *c, struct ranks *ranks);

/* Copies the values of an order to c, and makes it one of the device's; nothing where c is none. */
void to_test_device(struct compute *c, struct ranks_order *order);

/* And back, to `values`; the copy is freed. */
void from_test_device(struct compute *c, struct ranks_order *order, void *values);

#endif
