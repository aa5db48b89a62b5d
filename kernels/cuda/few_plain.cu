/* Products of few rows with weights of the rarer quantised types of plain blocks and of FP4. */
#include "kernels/cuda/block_plain.cuh"
#include "kernels/cuda/few.cuh"

FEW_LAUNCH(Q4_1, 32, 16, 4, false)
FEW_LAUNCH(Q5_0, 32, 16, 6, false)
FEW_LAUNCH(Q5_1, 32, 16, 8, false)
FEW_LAUNCH(IQ4_NL, 32, 16, 2, false)
FEW_LAUNCH(MXFP4, 32, 16, 1, false)
FEW_LAUNCH(NVFP4, 64, 32, 4, false)
