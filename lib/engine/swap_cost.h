/* Whether to move what a request has computed out and back, or to compute it again: by what both
 * have taken so far. */
#ifndef ENGINE_SWAP_COST_H
#define ENGINE_SWAP_COST_H

#include "base/types.h"

struct swap_cost {
    double write_ns, read_ns; /* of a byte; 0: not known */
    double survival; /* of positions left to the prefix cache, the share that was found again */
};

/* What would be lost. */
struct swap_loss {
    int32_t n_tokens; /* positions that nobody else holds */
    int32_t n_left;   /* those of them that the prefix cache keeps while it has room */
    uint64_t bytes;   /* to be moved */
    double token_ns;  /* to compute one; 0: not known */
};

/* 1: moving is expected to take less. What is not known is tried. Each no forgets a little of what
 * moving took, so that a disk that was slow once is tried again. */
int swap_cost_pays(struct swap_cost *cost, const struct swap_loss *loss);

/* What it took. */
void swap_cost_wrote(struct swap_cost *cost, uint64_t bytes, uint64_t ns);
void swap_cost_read(struct swap_cost *cost, uint64_t bytes, uint64_t ns);
/* Of n positions that were left to the prefix cache so many were still there. */
void swap_cost_found(struct swap_cost *cost, int32_t n_found, int32_t n);

#endif
