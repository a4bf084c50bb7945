#include "compute/copy_queue.h"

enum voco_status copy_queue_open(struct copy_queue *queue, struct compute *c)
{
    *queue = (struct copy_queue){.operations = c};
    if (!c->separate_memory || c->open_beside == NULL) {
        return VOCO_OK;
    }
    const enum voco_status status = c->open_beside(c, &queue->beside);
    queue->is_open = status == VOCO_OK;
    return status;
}

void copy_queue_close(struct copy_queue *queue)
{
    if (queue->is_open) {
        queue->beside.wait(&queue->beside);
        queue->beside.close(&queue->beside);
    }
    *queue = (struct copy_queue){0};
}

static struct compute *who_copies(struct copy_queue *queue)
{
    return queue->is_open ? &queue->beside : queue->operations;
}

void copy_to_device(struct copy_queue *queue, void *to, const void *host, size_t bytes)
{
    who_copies(queue)->to_device(who_copies(queue), to, host, bytes);
}

void copy_to_host(struct copy_queue *queue, void *host, const void *from, size_t bytes)
{
    who_copies(queue)->to_host(who_copies(queue), host, from, bytes);
}

void copies_follow_operations(struct copy_queue *queue)
{
    if (queue->is_open) {
        queue->beside.follow(&queue->beside, queue->operations);
    }
}

void operations_follow_copies(struct copy_queue *queue)
{
    if (queue->is_open) {
        queue->operations->follow(queue->operations, &queue->beside);
    }
}

enum voco_status copy_queue_wait(struct copy_queue *queue)
{
    struct compute *c = who_copies(queue);
    c->wait(c);
    const enum voco_status status = compute_status(c);
    return status != VOCO_OK ? status : compute_status(queue->operations);
}
