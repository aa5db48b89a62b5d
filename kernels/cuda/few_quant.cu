/* Products of few rows with weights of the commonest quantised types. */
#include "kernels/cuda/few.cuh"

FEW_LAUNCH(Q4_0, 32, 16, 2, true)
FEW_LAUNCH(Q8_0, 32, 32, 2, true)
FEW_LAUNCH(Q4_K, 256, 144, 0, true)
FEW_LAUNCH(Q5_K, 256, 176, 0, true)
FEW_LAUNCH(Q6_K, 256, 208, 2, true)
