/* Products of few rows with weights of the rarer quantised types of blocks of 256. */
#include "kernels/cuda/block_iq.cuh"
#include "kernels/cuda/block_k.cuh"
#include "kernels/cuda/few.cuh"

FEW_LAUNCH(Q2_K, 256, 80, 4, false)
FEW_LAUNCH(Q3_K, 256, 96, 14, false)
FEW_LAUNCH(TQ1_0, 256, 48, 6, false)
FEW_LAUNCH(TQ2_0, 256, 64, 2, false)
FEW_LAUNCH(IQ4_XS, 256, 128, 8, false)
FEW_LAUNCH(IQ3_XXS, 256, 96, 2, false)
FEW_LAUNCH(IQ3_S, 256, 64, 46, false)
FEW_LAUNCH(IQ2_XXS, 256, 64, 2, false)
FEW_LAUNCH(IQ2_XS, 256, 64, 10, false)
FEW_LAUNCH(IQ2_S, 256, 64, 18, false)
FEW_LAUNCH(IQ1_S, 256, 48, 2, false)
FEW_LAUNCH(IQ1_M, 256, 48, 8, false)
