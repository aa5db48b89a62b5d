/* Comparing vectors, NEON. */
#include "kernels/cpu/reg_neon.h"

KERN_INLINE void reg_sums4(float out[4], const reg x[4])
{
    vst1q_f32(out, sums4(x));
}

KERN_INLINE void reg_store_s8(int8_t *p, reg x)
{
    const int16x4_t low = vmovn_s32(vcvtnq_s32_f32(x.a));

    vst1_s8(p, vmovn_s16(vcombine_s16(low, vmovn_s32(vcvtnq_s32_f32(x.b)))));
}

#include "kernels/cpu/vector_tmpl.h"

#include "kernels/cpu/vector_bytes_neon.h"

#include "kernels/cpu/vector_bytes_tmpl.h"

static void hamming(int32_t *out, const void *query, const void *const *rows, int32_t n,
                    int32_t bytes)
{
    const uint8_t *x = query;

    for (int32_t r = 0; r < n; r++) {
        const uint8_t *y = rows[r];
        uint64x2_t sum = vdupq_n_u64(0);
        int32_t i = 0;

        for (; i + 16 <= bytes; i += 16) {
            const uint8x16_t ones = vcntq_u8(veorq_u8(vld1q_u8(x + i), vld1q_u8(y + i)));

            sum = vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(ones)));
        }
        out[r] = (int32_t)vaddvq_u64(sum);
        if (i < bytes) {
            out[r] += vaddv_u8(vcnt_u8(veor_u8(vld1_u8(x + i), vld1_u8(y + i))));
        }
    }
}

void kern_vector_init_neon(struct kern_vector *vector)
{
    vector_init_floats(vector);
    vector->dot_i8 = dot_i8;
    vector->tile = tile;
    vector->hamming = hamming;
}
