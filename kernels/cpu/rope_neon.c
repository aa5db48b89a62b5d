/* Rotary position embedding, NEON. */
#include "kernels/cpu/reg_neon.h"

#include "kernels/cpu/rope_tmpl.h"

void kern_rope_init_neon(struct kern_rope *rope)
{
    rope->pairs = pairs;
    rope->halves = halves;
}
