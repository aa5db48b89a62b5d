/* A kernel that writes where nothing is: the end of the context that it is launched in. Of
 * tests/cuda/lost.c alone. */
#include <stdint.h>

static __global__ void write_nowhere(int *nowhere)
{
    *nowhere = 1;
}

extern "C" int32_t lost_write(void *stream)
{
    write_nowhere<<<1, 1, 0, (cudaStream_t)stream>>>((int *)64);
    return (int32_t)cudaPeekAtLastError();
}
