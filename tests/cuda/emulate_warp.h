/* What operations of a warp are made of, inside of the emulation (emulate.cpp). */
#ifndef TESTS_CUDA_EMULATE_WARP_H
#define TESTS_CUDA_EMULATE_WARP_H

#include "cuda/emulate.h"

#define LANES  32
#define VALUES 6 /* that a lane gives at once: the fragments of a product */

/* Ends the program: what a card would do is undefined. */
[[noreturn]] void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* All lanes of the mask give n values and see those of all; valid until the next operation but one.
 * `line` is where the kernel calls it. */
const uint64_t (*gather(unsigned mask, const uint64_t *own, int n, int line))[VALUES];

#endif
