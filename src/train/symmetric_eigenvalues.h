/* Eigenvalues of small dense symmetric matrices. */
#ifndef TRAIN_SYMMETRIC_EIGENVALUES_H
#define TRAIN_SYMMETRIC_EIGENVALUES_H

#include <stddef.h>

/* eigenvalues (n), ascending, of the symmetric matrix (n, n), which is overwritten; its elements must be
 * finite. work holds 3 n doubles. Householder's reduction to a tridiagonal matrix, then bisection with Sturm
 * sequences (Golub and Van Loan, "Matrix computations", sections 8.3.1 and 8.4.1). The error is a few
 * roundings of the largest eigenvalue. */
void symmetric_eigenvalues(double *eigenvalues, double *matrix, double *work, size_t n);

#endif
