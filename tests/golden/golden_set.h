/* A golden set (three safetensors files: NAME.weights, NAME.batch, NAME.expected, made with PyTorch) and what
 * `voco replay` makes of it. */
#ifndef TESTS_GOLDEN_SET_H
#define TESTS_GOLDEN_SET_H

/* Two steps on the set FOLDER/NAME; every tensor of NAME.expected must be in the output with the same shape,
 * and within step 0: embeddings 1e-5, projections 3e-5, losses 1e-5; gradients of student weights 1e-4, of
 * every other parameter 2e-2, their median 5e-3 step 1: losses 2e-2, outputs and parameters after both steps
 * 5e-2 Differences are relative, in the L2 norm of the whole tensor. Left out, but for their size, are the
 * gradients that are zero but for rounding, and what Adam makes of them: student.layer1.0.bias and
 * layer2.0.bias, the key third of every attn.qkv.bias, encoder1's conv3. Prints the largest differences;
 * fails the cmocka test beyond the bounds. */
void check_own_gradients(const char *folder, const char *name);

/* Two steps whose first update takes the set's step0/grad: parameters after it must agree to 1e-6, all of
 * them, the second step's embeddings and losses to 1e-5, its projections to 3e-5. */
void check_given_gradients(const char *folder, const char *name);

/* Two steps in bf16: of step 0 embeddings and the four losses, as one vector, within these bounds,
 * projections, from which BatchNorm takes what the embeddings have in common, within 2e-1; and the same bits
 * in every tensor when all is computed again. Untrained norms take means off that are large beside what is
 * left, and enlarge what rounding does to them, the more the fewer channels there are. */
void check_bf16(const char *folder, const char *name, double embedding, double losses);

#endif
