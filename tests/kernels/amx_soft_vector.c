/* See amx_soft.h. */
#include "amx_soft.h"
#include "tile_soft.h"

#include "kernels/cpu/vector_amx_tmpl.h"

void amx_soft_init_vector(struct kern_vector *vector)
{
    vector_amx_init(vector);
}
