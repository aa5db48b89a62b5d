/* Instructions on tiles, computed by tile_soft.h when a processor without AMX refuses them: the
 * kernels that the library has, as they were compiled. */
#ifndef TESTS_KERNELS_TILE_TRAP_H
#define TESTS_KERNELS_TILE_TRAP_H

void tile_trap_begin(void); /* SIGILL is handled here ... */
void tile_trap_end(void);   /* ... and now as before */

#endif
