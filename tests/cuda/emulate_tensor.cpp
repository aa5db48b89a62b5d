/* Tensor cores behind emulate.h: products of fragments that the lanes of a warp hold. */
#include "cuda/emulate_warp.h"

static float number_of(uint32_t pair, int high, bool is_bf16)
{
    uint16_t bits = (uint16_t)(high ? pair >> 16 : pair);
    if (is_bf16)
        return __uint_as_float((uint32_t)bits << 16);
    __half h;
    memcpy((void *)&h, &bits, 2);
    return __half2float(h);
}

/* What all lanes of the warp hold; b is NULL where there is none. */
static const uint64_t (*gather_fragments(const uint32_t a[4], const uint32_t b[2]))[VALUES]
{
    const uint64_t own[VALUES] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    return gather(~0u, own, VALUES, 0);
}

/* Both numbers of a word as floats: each lane unpacks its own, for all that read them. */
static uint64_t unpacked(uint32_t pair, bool is_bf16)
{
    const float both[2] = {number_of(pair, 0, is_bf16), number_of(pair, 1, is_bf16)};
    uint64_t bits;
    memcpy(&bits, both, sizeof bits);
    return bits;
}

/* Row `row` of unpacked fragments: lanes 4 row to 4 row + 3, words `low` and `high`. */
static void row_of(float out[16], const uint64_t (*all)[VALUES], int row, int low, int high)
{
    for (int t = 0; t < 4; t++) {
        memcpy(out + 2 * t, &all[row * 4 + t][low], sizeof(uint64_t));
        memcpy(out + 2 * t + 8, &all[row * 4 + t][high], sizeof(uint64_t));
    }
}

static void mma_16(float d[4], const uint32_t a[4], const uint32_t b[2], bool is_bf16)
{
    uint64_t own[VALUES];
    for (int i = 0; i < VALUES; i++)
        own[i] = unpacked(i < 4 ? a[i] : b[i - 4], is_bf16);
    const uint64_t(*all)[VALUES] = gather(~0u, own, VALUES, 0);
    float left[2][16], right[2][16];
    int g = emulated_lane() >> 2, t = emulated_lane() & 3;
    for (int i = 0; i < 2; i++) {
        row_of(left[i], all, g, i, i + 2);
        row_of(right[i], all, t * 2 + i, 4, 5);
    }
    for (int i = 0; i < 4; i++) {
        float sum = 0;
        for (int k = 0; k < 16; k++)
            sum += left[i >> 1][k] * right[i & 1][k];
        d[i] += sum;
    }
}

void kern_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_16(d, a, b, true);
}

void kern_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_16(d, a, b, false);
}

/* Rows g and g + 8 with k = t in the first two words, with k = t + 4 in the others. */
void kern_mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    const uint64_t(*all)[VALUES] = gather_fragments(a, b);
    int g = emulated_lane() >> 2, t = emulated_lane() & 3;
    for (int i = 0; i < 4; i++) {
        float sum = 0;
        for (int k = 0; k < 8; k++) {
            uint32_t left = (uint32_t)all[g * 4 + k % 4][(i >> 1) + 2 * (k / 4)];
            uint32_t right = (uint32_t)all[(t * 2 + (i & 1)) * 4 + k % 4][4 + k / 4];
            sum += __uint_as_float(left & 0xffffe000u) * __uint_as_float(right & 0xffffe000u);
        }
        d[i] += sum;
    }
}

void kern_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
    const uint64_t(*all)[VALUES] = gather_fragments(a, b);
    int g = emulated_lane() >> 2, t = emulated_lane() & 3;
    for (int i = 0; i < 4; i++) {
        int row = g, upper = i >> 1, column = t * 2 + (i & 1);
        for (int k = 0; k < 32; k++) {
            int quarter = k % 16 / 4, upper_k = k / 16;
            uint32_t left = (uint32_t)all[row * 4 + quarter][upper + 2 * upper_k];
            uint32_t right = (uint32_t)all[column * 4 + quarter][4 + upper_k];
            d[i] += (int)(int8_t)(left >> 8 * (k % 4)) * (int)(int8_t)(right >> 8 * (k % 4));
        }
    }
}

static void load_matrix(uint32_t d[4], const void *shared, bool trans)
{
    uint16_t rows[4][8][8];
    const uint64_t own = (uint64_t)shared;
    const uint64_t(*all)[VALUES] = gather(~0u, &own, 1, 0);
    if (own % 16 != 0)
        broken("ldmatrix reads an address that is not on 16 bytes");
    for (int lane = 0; lane < LANES; lane++)
        memcpy(rows[lane / 8][lane % 8], (const void *)all[lane][0], 16);
    int g = emulated_lane() >> 2, t = emulated_lane() & 3;
    for (int m = 0; m < 4; m++) {
        uint16_t low = trans ? rows[m][t * 2][g] : rows[m][g][t * 2];
        uint16_t high = trans ? rows[m][t * 2 + 1][g] : rows[m][g][t * 2 + 1];
        d[m] = (uint32_t)high << 16 | low;
    }
}

void kern_load_matrix(uint32_t d[4], const void *shared)
{
    load_matrix(d, shared, false);
}

void kern_load_matrix_trans(uint32_t d[4], const void *shared)
{
    load_matrix(d, shared, true);
}
