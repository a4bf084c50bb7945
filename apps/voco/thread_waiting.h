/* How the threads of a computation wait for each other. */
#ifndef APPS_THREAD_WAITING_H
#define APPS_THREAD_WAITING_H

/* GCC's OpenMP lets a thread that waits at a barrier spin for milliseconds before it sleeps. Where other
 * programs use the cores as well it spins away the time of the thread that it waits for. This has it spin for
 * as long only as it does where it knows of more threads than processors, unless the environment says how to
 * wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT).
 *
 * The environment is read before main, so the program starts itself anew, once, with the same arguments. To
 * be called first thing. */
void wait_with_little_spinning(char **argv);

#endif
