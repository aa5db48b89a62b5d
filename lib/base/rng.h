/* Counter-based random numbers (Philox 4x32-10; Salmon, Moraes, Dror, Shaw,
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the number drawn
 * depends only on seed, sequence and position, never on the order of drawing,
 * so a request samples the same tokens alone, in a batch, or on a GPU. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include "base/types.h"

void base_rng_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* Uniform in [0, 1) with 53 bits. */
double base_rng_uniform(uint64_t seed, uint64_t sequence, uint64_t position);

#endif
