/* The queue of a device that is played by the host (device_on_host.h), as its libraries see it: what a
 * cudaStream_t is to those of a GPU. Work that is added is done by another thread, in the order of its
 * adding; only there may the device's memory be touched. */
#ifndef QUEUE_ON_HOST_H
#define QUEUE_ON_HOST_H

struct queue_on_host {
    void (*add)(struct queue_on_host *queue, void (*work)(void *argument), void *argument);
};

#endif
