/* Products of bytes, NEON with dot products. */
#include "kernels/cpu/vector_bytes_neon.h"

#include "kernels/cpu/vector_bytes_tmpl.h"

void kern_vector_init_neon_dotprod(struct kern_vector *vector)
{
    vector->dot_i8 = dot_i8;
    vector->tile = tile;
}
