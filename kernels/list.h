/* Every entry of struct infer_kernels. A kernel that is not here does not
 * exist for the tests, and they fail on a table entry without a line.
 *
 *   ONE(family, member)            kernels->family.member
 *   TYPED(family, member, dtype)   kernels->family.member[INFER_DTYPE_dtype]
 *
 * tests/kernels/<family>.c holds, for each member, check_<family>_<member>()
 * and bench_<family>_<member>(): a line without them does not link. */
#ifndef KERNELS_LIST_H
#define KERNELS_LIST_H

#define KERN_LIST(ONE, TYPED)                                                                      \
    TYPED(quant, dequant, F32)                                                                     \
    TYPED(quant, dequant, F16)                                                                     \
    TYPED(quant, dequant, BF16)                                                                    \
    TYPED(quant, dequant, Q8_0)                                                                    \
    TYPED(quant, dequant, Q4_0)                                                                    \
    TYPED(quant, dequant, Q4_K)                                                                    \
    TYPED(quant, dequant, Q6_K)                                                                    \
    TYPED(quant, dequant, Q4_1)                                                                    \
    TYPED(quant, dequant, Q5_0)                                                                    \
    TYPED(quant, dequant, Q5_1)                                                                    \
    TYPED(quant, dequant, Q2_K)                                                                    \
    TYPED(quant, dequant, Q3_K)                                                                    \
    TYPED(quant, dequant, Q5_K)                                                                    \
    TYPED(quant, dequant, IQ4_NL)                                                                  \
    TYPED(quant, dequant, IQ4_XS)                                                                  \
    TYPED(quant, dequant, IQ3_XXS)                                                                 \
    TYPED(quant, dequant, IQ3_S)                                                                   \
    TYPED(quant, dequant, IQ2_XXS)                                                                 \
    TYPED(quant, dequant, IQ2_XS)                                                                  \
    TYPED(quant, dequant, IQ2_S)                                                                   \
    TYPED(quant, dequant, IQ1_S)                                                                   \
    TYPED(quant, dequant, IQ1_M)                                                                   \
    TYPED(quant, dequant, TQ1_0)                                                                   \
    TYPED(quant, dequant, TQ2_0)                                                                   \
    TYPED(quant, dequant, MXFP4)                                                                   \
    TYPED(quant, dequant, NVFP4)                                                                   \
    TYPED(quant, dequant, F8_E4M3)                                                                 \
    TYPED(quant, dequant, F8_E5M2)                                                                 \
    TYPED(quant, dequant, F8_128)                                                                  \
    TYPED(quant, narrow, F32)                                                                      \
    TYPED(quant, narrow, F16)                                                                      \
    TYPED(quant, narrow, BF16)                                                                     \
    TYPED(quant, narrow, Q8_0)                                                                     \
    TYPED(quant, narrow, Q4_1)                                                                     \
    TYPED(quant, narrow, F8_E4M3)                                                                  \
    TYPED(quant, quantize, Q8_0)                                                                   \
    TYPED(quant, quantize, Q4_0)                                                                   \
    TYPED(quant, quantize, Q4_1)                                                                   \
    TYPED(quant, quantize, Q5_0)                                                                   \
    TYPED(quant, quantize, Q5_1)                                                                   \
    TYPED(quant, quantize, Q2_K)                                                                   \
    TYPED(quant, quantize, Q3_K)                                                                   \
    TYPED(quant, quantize, Q4_K)                                                                   \
    TYPED(quant, quantize, Q5_K)                                                                   \
    TYPED(quant, quantize, Q6_K)                                                                   \
    TYPED(quant, quantize, IQ4_NL)                                                                 \
    TYPED(quant, quantize, IQ4_XS)                                                                 \
    TYPED(quant, quantize, TQ1_0)                                                                  \
    TYPED(quant, quantize, TQ2_0)                                                                  \
    TYPED(quant, quantize, MXFP4)                                                                  \
    TYPED(quant, quantize, NVFP4)                                                                  \
    TYPED(quant, quantize, F8_128)                                                                 \
    ONE(quant, act_q8)                                                                             \
    ONE(quant, act_q8_part)                                                                        \
    ONE(quant, act_fast)                                                                           \
    ONE(quant, pack)                                                                               \
    ONE(quant, unpack)                                                                             \
    TYPED(gemm, run, F32)                                                                          \
    TYPED(gemm, run, F16)                                                                          \
    TYPED(gemm, run, BF16)                                                                         \
    TYPED(gemm, run, Q8_0)                                                                         \
    TYPED(gemm, run, Q4_0)                                                                         \
    TYPED(gemm, run, Q4_K)                                                                         \
    TYPED(gemm, run, Q6_K)                                                                         \
    TYPED(gemm, run, Q4_1)                                                                         \
    TYPED(gemm, run, Q5_0)                                                                         \
    TYPED(gemm, run, Q5_1)                                                                         \
    TYPED(gemm, run, Q2_K)                                                                         \
    TYPED(gemm, run, Q3_K)                                                                         \
    TYPED(gemm, run, Q5_K)                                                                         \
    TYPED(gemm, run, IQ4_NL)                                                                       \
    TYPED(gemm, run, IQ4_XS)                                                                       \
    TYPED(gemm, run, IQ3_XXS)                                                                      \
    TYPED(gemm, run, IQ3_S)                                                                        \
    TYPED(gemm, run, IQ2_XXS)                                                                      \
    TYPED(gemm, run, IQ2_XS)                                                                       \
    TYPED(gemm, run, IQ2_S)                                                                        \
    TYPED(gemm, run, IQ1_S)                                                                        \
    TYPED(gemm, run, IQ1_M)                                                                        \
    TYPED(gemm, run, TQ1_0)                                                                        \
    TYPED(gemm, run, TQ2_0)                                                                        \
    TYPED(gemm, run, MXFP4)                                                                        \
    TYPED(gemm, run, NVFP4)                                                                        \
    TYPED(gemm, run, F8_E4M3)                                                                      \
    TYPED(gemm, run, F8_E5M2)                                                                      \
    TYPED(gemm, run, F8_128)                                                                       \
    TYPED(gemm, run_bf16, BF16)                                                                    \
    TYPED(gemm, run_fast, Q8_0)                                                                    \
    TYPED(gemm, run_fast, Q4_0)                                                                    \
    TYPED(gemm, run_fast, Q4_K)                                                                    \
    TYPED(gemm, run_fast, Q6_K)                                                                    \
    TYPED(gemm, run_fast, Q4_1)                                                                    \
    TYPED(gemm, run_fast, Q5_0)                                                                    \
    TYPED(gemm, run_fast, Q5_1)                                                                    \
    TYPED(gemm, run_fast, Q2_K)                                                                    \
    TYPED(gemm, run_fast, Q3_K)                                                                    \
    TYPED(gemm, run_fast, Q5_K)                                                                    \
    TYPED(gemm, run_fast, IQ4_NL)                                                                  \
    TYPED(gemm, run_fast, IQ4_XS)                                                                  \
    TYPED(gemm, run_fast, IQ3_XXS)                                                                 \
    TYPED(gemm, run_fast, IQ3_S)                                                                   \
    TYPED(gemm, run_fast, IQ2_XXS)                                                                 \
    TYPED(gemm, run_fast, IQ2_XS)                                                                  \
    TYPED(gemm, run_fast, IQ2_S)                                                                   \
    TYPED(gemm, run_fast, IQ1_S)                                                                   \
    TYPED(gemm, run_fast, IQ1_M)                                                                   \
    TYPED(gemm, run_fast, TQ1_0)                                                                   \
    TYPED(gemm, run_fast, TQ2_0)                                                                   \
    TYPED(gemm, run_fast, MXFP4)                                                                   \
    TYPED(gemm, run_fast, NVFP4)                                                                   \
    ONE(norm, rms)                                                                                 \
    ONE(norm, layer)                                                                               \
    ONE(rope, pairs)                                                                               \
    ONE(rope, halves)                                                                              \
    TYPED(attn, paged, F32)                                                                        \
    TYPED(attn, paged, F16)                                                                        \
    TYPED(attn, paged, BF16)                                                                       \
    TYPED(attn, paged, Q8_0)                                                                       \
    TYPED(attn, paged, Q4_1)                                                                       \
    TYPED(attn, paged, F8_E4M3)                                                                    \
    ONE(attn, rotate)                                                                              \
    ONE(ssm, conv)                                                                                 \
    ONE(ssm, scan)                                                                                 \
    ONE(ssm, delta)                                                                                \
    ONE(unary, silu_mul)                                                                           \
    ONE(unary, gelu_mul)                                                                           \
    ONE(unary, gelu_tanh_mul)                                                                      \
    ONE(unary, relu_mul)                                                                           \
    ONE(unary, relu2_mul)                                                                          \
    ONE(unary, sigmoid_mul)                                                                        \
    ONE(unary, swiglu_oai)                                                                         \
    ONE(unary, axpy)                                                                               \
    ONE(unary, softcap)                                                                            \
    ONE(unary, add)                                                                                \
    ONE(unary, softmax)                                                                            \
    TYPED(vector, dot, F32)                                                                        \
    TYPED(vector, dot, F16)                                                                        \
    TYPED(vector, dot, BF16)                                                                       \
    TYPED(vector, dot, I8)                                                                         \
    TYPED(vector, l2, F32)                                                                         \
    TYPED(vector, l2, F16)                                                                         \
    TYPED(vector, l2, BF16)                                                                        \
    TYPED(vector, l2, I8)                                                                          \
    ONE(vector, dot_i8)                                                                            \
    ONE(vector, hamming)                                                                           \
    TYPED(vector, code, F32)                                                                       \
    TYPED(vector, code, F16)                                                                       \
    TYPED(vector, code, BF16)                                                                      \
    ONE(vector, quantize)                                                                          \
    ONE(vector, normalize)                                                                         \
    ONE(vector, tile)                                                                              \
    ONE(vector, estimate2)                                                                         \
    ONE(vector, estimate4)                                                                         \
    ONE(vector, estimate8)                                                                         \
    ONE(vector, rotate)                                                                            \
    ONE(attn, text)

#endif
