/* Moving averages, and one comparison. */
#include "engine/swap_cost.h"

/* The newest of each counts so much. */
#define WEIGHT 0.25
/* After 35 times no, half is forgotten. */
#define FORGET 0.98

static void learn(double *average, double value)
{
    *average = *average > 0 ? *average + WEIGHT * (value - *average) : value;
}

int swap_cost_pays(struct swap_cost *c, const struct swap_loss *l)
{
    if (l->n_tokens < 1 || !l->bytes || !(l->token_ns > 0))
        return 0;
    /* What survives is neither computed nor read; it is written all the same, for nobody knows
     * which it will be. */
    double again = l->n_tokens - c->survival * l->n_left;
    double read_ns = c->read_ns > 0 ? c->read_ns : c->write_ns;
    double moving = (double)l->bytes * (c->write_ns + read_ns * again / l->n_tokens);
    if (moving < again * l->token_ns)
        return 1;
    c->write_ns *= FORGET;
    c->read_ns *= FORGET;
    return 0;
}

void swap_cost_wrote(struct swap_cost *c, uint64_t bytes, uint64_t ns)
{
    if (bytes)
        learn(&c->write_ns, (double)ns / (double)bytes);
}

void swap_cost_read(struct swap_cost *c, uint64_t bytes, uint64_t ns)
{
    if (bytes)
        learn(&c->read_ns, (double)ns / (double)bytes);
}

void swap_cost_found(struct swap_cost *c, int32_t n_found, int32_t n)
{
    if (n > 0)
        c->survival += WEIGHT * ((double)n_found / n - c->survival);
}
