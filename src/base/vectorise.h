/* Loops that are worth the widest vectors of the machine they run on, in files that are compiled for any
 * machine: the compiler makes a version of the function for each level of x86-64 and the loader picks one.
 * Nothing elsewhere. */
#ifndef BASE_VECTORISE_H
#define BASE_VECTORISE_H

#if defined(__x86_64__)
#define VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTORISED
#endif

#endif
