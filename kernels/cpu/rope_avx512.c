/* Rotary position embedding, AVX-512. */
#include "kernels/cpu/reg_avx512.h"

#include "kernels/cpu/rope_tmpl.h"

void kern_rope_init_avx512(struct kern_rope *rope)
{
    rope->pairs = pairs;
    rope->halves = halves;
}
