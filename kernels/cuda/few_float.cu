/* Products of few rows with weights that are floats. */
#include "kernels/cuda/few.cuh"

FEW_LAUNCH(F32, 1, 4, 0, false)
FEW_LAUNCH(BF16, 1, 2, 0, true)
FEW_LAUNCH(F16, 1, 2, 0, true)
FEW_LAUNCH(F8_E4M3, 1, 1, 0, false)
FEW_LAUNCH(F8_E5M2, 1, 1, 0, false)
FEW_LAUNCH(F8_128, 128, 128, 4, true)
