/* Rotary position embedding, AVX2. */
#include "kernels/cpu/reg_avx2.h"

#include "kernels/cpu/rope_tmpl.h"

void kern_rope_init_avx2(struct kern_rope *rope)
{
    rope->pairs = pairs;
    rope->halves = halves;
}
