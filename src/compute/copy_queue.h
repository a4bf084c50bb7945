/* Copies between the host and a device that go on beside the operations: on a second queue (open_beside of
 * struct compute), and in what order with the operations.
 *
 * Where operations work in the host's memory, or on a queue that is not open, a copy takes its turn among the
 * operations, and there is nothing to order. */
#ifndef COMPUTE_COPY_QUEUE_H
#define COMPUTE_COPY_QUEUE_H

#include "compute/compute.h"

struct copy_queue {
    struct compute *operations;
    struct compute beside;
    int is_open;
};

/* Borrows c. *queue must stay where it is until copy_queue_close, which is harmless on a zeroed one. What
 * open_beside returns. */
enum voco_status copy_queue_open(struct copy_queue *queue, struct compute *c);
void copy_queue_close(struct copy_queue *queue);

/* As those of struct compute: in their order, and done after copy_queue_wait. */
void copy_to_device(struct copy_queue *queue, void *to, const void *host, size_t bytes);
void copy_to_host(struct copy_queue *queue, void *host, const void *from, size_t bytes);

/* What is asked for from now on begins when all that the other was asked for so far is done. The host does
 * not wait. */
void copies_follow_operations(struct copy_queue *queue);
void operations_follow_copies(struct copy_queue *queue);

/* Until all copies asked for so far are done: what failed, of them or of the operations before. */
enum voco_status copy_queue_wait(struct copy_queue *queue);

#endif
