/* Products of bytes in tiles, AVX-512 with VNNI and AMX. */
#include "kernels/cpu/tile_amx.h"

#include "kernels/cpu/vector_amx_tmpl.h"

void kern_vector_init_avx512amx(struct kern_vector *vector)
{
    vector_amx_init(vector);
}
