/* The second stream of leaves.cuh on the machine of cuda_on_host.h. */
#ifndef TESTS_LEAVES_ON_HOST_H
#define TESTS_LEAVES_ON_HOST_H

#include <functional>
#include <stddef.h>

struct compute;

namespace cuda_on_host
{

int of_leaf(struct compute *c); /* what is asked for now */

/* Keeps what a leaf asks for until the leaf is waited for; 0: it is to be done now. */
int put_off(struct compute *c, const std::function<void()> &work);
/* Does what was put off so far, whoever waits for it. */
void do_what_was_put_off(struct compute *c);

/* Scratch memory of the leaf that is asked for now, until that is done. */
void *leaf_array(struct compute *c, size_t bytes);

} // namespace cuda_on_host

#endif
