/* What lies between the products and attention, against the reference's own steps. */
#include "base/types.h"
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/ref.h"

#include <math.h>

/* -------------------------------------------------------------------- angles */

/* Of angles in double the functions are right to a place of a float. */
static void check_angles(int32_t rows, int32_t pairs, int with_far, float magnitude)
{
    size_t n = (size_t)pairs;
    double *frequency = malloc(n * 8), *far = malloc(n * 8);
    int32_t *pos = malloc((size_t)rows * 4);
    float *cs = malloc((size_t)rows * n * 8);
    for (size_t i = 0; i < n; i++) {
        frequency[i] = pow(500000, -(double)i / (double)n);
        far[i] = frequency[i] / (1 + (double)i);
    }
    for (int32_t r = 0; r < rows; r++)
        pos[r] = r % 4 == 3 ? 131071 - r : r * 37;
    double *frequency_card = card_new(frequency, n * 8), *far_card = card_new(far, n * 8);
    int32_t *pos_card = card_new(pos, (size_t)rows * 4), n_near = with_far ? 74 : INT32_MAX;
    float *cs_card = card_new(NULL, (size_t)rows * n * 8);
    assert_int_equal(kern_cuda_attn_rope(cs_card, pos_card, rows, frequency_card,
                                         with_far ? far_card : NULL, n_near, pairs, magnitude,
                                         NULL),
                     0);
    card_get(cs, cs_card, (size_t)rows * n * 8);
    for (size_t i = 0; i < (size_t)rows * n; i++) {
        int32_t p = pos[i / n];
        double angle = p * (p < n_near ? frequency : far)[i % n];
        const float *got = cs + i / n * 2 * n + i % n;
        float c = (float)cos(angle) * magnitude, s = (float)sin(angle) * magnitude;
        if (!(fabsf(got[0] - c) <= 0x1p-23f * fabsf(c)) ||
            !(fabsf(got[n] - s) <= 0x1p-23f * fabsf(s)))
            fail_msg("angle %zu: %.9g %.9g, expected %.9g %.9g", i, (double)got[0], (double)got[n],
                     (double)c, (double)s);
    }
    card_free(frequency_card), card_free(far_card), card_free(pos_card), card_free(cs_card);
    free(frequency), free(far), free(pos), free(cs);
}

static void test_angles_are_those_of_the_engine(void **state)
{
    static const int32_t pairs[] = {1, 5, 32, 64, 128};
    (void)state;
    card_needed("angles of rotations");
    for (size_t i = 0; i < BASE_COUNT(pairs) * 2; i++)
        check_angles(i % 2 ? 9 : 1, pairs[i / 2], i % 2, i % 3 ? 1 : 1.25f);
}

/* --------------------------------------------------------------------- store */

/* A norm over `n` heads' elements: 0 none, 1 a head with shared weights, 2 a head with weights of
 * its own, 3 all heads. */
enum { NORM_NONE, NORM_SHARED, NORM_EACH, NORM_WHOLE };

struct store_case {
    int32_t n_head, n_head_kv, head_dim, head_dim_v, n_rot; /* n_rot 0: not rotated */
    int32_t pairs, norm, norm_layer, late, unit, v_norm, gates, grows, rotated;
    int32_t no_v, no_k; /* values from keys (2: they are keys, stored once); nothing stored */
};

#define PAGE   16
#define PAGES  7
#define SEQS   3
#define ROWS   9
#define MARGIN 3 /* floats between rows of q, k and v */

static const int32_t seq_of[ROWS] = {0, 0, 0, 1, 2, 2, 2, -1, -1};
/* Pages' ends are crossed; the rows of none have any position. */
static const int32_t positions[ROWS] = {14, 15, 16, 0, 31, 32, 33, 7, 99};
static const int32_t tables[SEQS * 4] = {5, 2, -1, -1, 0, -1, -1, -1, 6, 1, 4, -1};

struct store_test {
    struct store_case c;
    infer_dtype type;
    size_t q_n, k_n, v_n, kv_bytes, k_slot, v_slot, layer_bytes, block_stride;
    float *q, *k, *v, *gates, *cs, *q_w, *k_w; /* host: what the reference makes of them */
    uint8_t *kv;
    struct kern_cuda_batch batch;
    struct kern_cuda_store_args args; /* on the card */
};

static void norm_vectors(const struct store_case *c, float *x, const float *w, int32_t kind,
                         int32_t n_heads, int32_t dim)
{
    struct kern_norm norm;
    kern_norm_init_ref(&norm);
    int32_t n = kind == NORM_WHOLE ? n_heads * dim : dim;
    for (int32_t at = 0; at < n_heads * dim; at += n) {
        const float *weights = kind == NORM_NONE ? NULL : kind == NORM_EACH ? w + at : w;
        if (c->norm_layer)
            norm.layer(x + at, x + at, weights, NULL, n, 1e-5f);
        else
            norm.rms(x + at, x + at, weights, n, 1e-5f);
    }
}

static void shape_vectors(const struct store_test *t, float *x, const float *w, int32_t n_heads,
                          int32_t row, int query)
{
    const struct store_case *c = &t->c;
    struct kern_rope rope;
    kern_rope_init_ref(&rope);
    if (c->norm && !c->late)
        norm_vectors(c, x, w, c->norm, n_heads, c->head_dim);
    if (c->n_rot)
        (c->pairs ? rope.pairs : rope.halves)(x, n_heads, c->head_dim, c->n_rot,
                                              t->cs + (size_t)row * (size_t)(c->n_rot + MARGIN));
    if ((c->norm && c->late) || c->unit)
        norm_vectors(c, x, w, c->norm, n_heads, c->head_dim);
    if (query && c->grows) {
        float f = (float)(1 + (double)0.1f * log1p(floor((positions[row] + 1) / 8.0)));
        for (int32_t i = 0; i < n_heads * c->head_dim; i++)
            x[i] *= f;
    }
    for (int32_t h = 0; c->rotated && h < n_heads; h++)
        kern_rotate_ref(x + h * c->head_dim, c->head_dim);
}

static void store_row(struct store_test *t, int32_t row)
{
    const struct store_case *c = &t->c;
    struct kern_quant quant = {0};
    kern_quant_init_ref(&quant);
    size_t d = (size_t)c->head_dim, heads = (size_t)c->n_head;
    float *q = t->q + (size_t)row * t->q_n, *k = t->k + (size_t)row * t->k_n;
    float *v = t->v + (size_t)row * t->v_n, *gates = t->gates + (size_t)row * heads * d;
    for (size_t h = 0; c->gates && h < heads; h++) {
        memcpy(gates + h * d, q + (2 * h + 1) * d, d * 4);
        memmove(q + h * d, q + 2 * h * d, d * 4);
    }
    shape_vectors(t, q, t->q_w, c->n_head, row, 1);
    if (c->no_k)
        return;
    if (c->no_v)
        memcpy(v, k, (size_t)c->n_head_kv * d * 4);
    shape_vectors(t, k, t->k_w, c->n_head_kv, row, 0);
    if (c->v_norm)
        norm_vectors(c, v, NULL, NORM_NONE, c->n_head_kv, c->head_dim_v);
    size_t page = (size_t)tables[seq_of[row] * 4 + positions[row] / PAGE];
    for (size_t h = 0; h < (size_t)c->n_head_kv; h++) {
        size_t slot = h * PAGE + (size_t)(positions[row] % PAGE);
        uint8_t *block = t->kv + page * t->block_stride;
        quant.narrow[t->type](block + slot * t->k_slot, k + h * d, c->head_dim);
        if (c->no_v < 2)
            quant.narrow[t->type](block + t->layer_bytes + slot * t->v_slot,
                                  v + h * (size_t)c->head_dim_v, c->head_dim_v);
    }
}

/* What a cache cannot hold; scales so small that a half has few digits left; and numbers between
 * two codes, of which a reciprocal of the scale would choose another. */
static void put_hard_numbers(struct store_test *t)
{
    t->k[3] = NAN, t->v[1] = INFINITY, t->k[t->k_n + 2] = -INFINITY, t->v[t->v_n] = 1e6f;
    for (size_t i = 0; i + 4 < t->v_n; i++) {
        size_t j = i % 32;
        t->v[2 * t->v_n + i] = 0.640625f * (j == 0 ? 0 : j == 31 ? 15 : (float)(j % 15) + 0.5f);
        t->v[3 * t->v_n + i] = ldexpf(t->v[3 * t->v_n + i], -18);
        t->v[4 * t->v_n + i] = 0.640625f * (j == 31 ? 127 : (float)(5 * j) - 64.5f);
    }
}

static void build(struct store_test *t, uint64_t *seed)
{
    const struct store_case *c = &t->c;
    size_t d = (size_t)c->head_dim, heads = (size_t)c->n_head, kv = (size_t)c->n_head_kv;
    t->q_n = heads * d * (c->gates ? 2 : 1) + (c->head_dim % 4 ? MARGIN : 4);
    t->k_n = kv * d + 4;
    t->v_n = kv * (size_t)c->head_dim_v + 4;
    t->k_slot = BASE_ALIGN_UP(kern_kv_bytes(t->type, c->head_dim), (size_t)4);
    t->v_slot = BASE_ALIGN_UP(kern_kv_bytes(t->type, c->head_dim_v), (size_t)4) + 4;
    t->layer_bytes = kv * PAGE * t->k_slot;
    t->block_stride = t->layer_bytes + kv * PAGE * t->v_slot + 12;
    t->kv_bytes = PAGES * t->block_stride;
    t->q = random_floats(seed, ROWS * t->q_n, 3);
    t->k = random_floats(seed, ROWS * t->k_n, 3);
    t->v = random_floats(seed, ROWS * t->v_n, 3);
    t->cs = random_floats(seed, ROWS * (size_t)(c->n_rot + MARGIN), 1);
    t->q_w = random_floats(seed, heads * d, 2);
    t->k_w = random_floats(seed, kv * d, 2);
    t->gates = malloc(ROWS * heads * d * 4);
    memset(t->gates, 0xff, ROWS * heads * d * 4);
    t->kv = malloc(t->kv_bytes);
    memset(t->kv, 0xff, t->kv_bytes);
    if (!c->norm && !c->unit && !c->v_norm)
        put_hard_numbers(t);
}

static void put_on_card(struct store_test *t)
{
    const struct store_case *c = &t->c;
    size_t heads = (size_t)c->n_head, kv = (size_t)c->n_head_kv, d = (size_t)c->head_dim;
    int32_t over_q = c->norm == NORM_WHOLE ? c->n_head * c->head_dim : c->head_dim;
    int32_t over_k = c->norm == NORM_WHOLE ? c->n_head_kv * c->head_dim : c->head_dim;
    uint8_t *cache = card_new(NULL, t->kv_bytes);
    t->batch = (struct kern_cuda_batch){.seq_of = card_new(seq_of, sizeof seq_of),
                                        .pos = card_new(positions, sizeof positions),
                                        .n_rows = ROWS,
                                        .n_seqs = SEQS};
    t->args = (struct kern_cuda_store_args){
        .kv = {.k = cache,
               .v = cache + (c->no_v < 2 ? t->layer_bytes : 0),
               .block_stride = t->block_stride,
               .k_slot = t->k_slot,
               .v_slot = t->v_slot,
               .tables = card_new(tables, sizeof tables),
               .table_stride = 4,
               .block_tokens = PAGE,
               .type = t->type},
        .q = card_new(t->q, ROWS * t->q_n * 4),
        .q_stride = t->q_n,
        .gates = c->gates ? card_new(NULL, ROWS * heads * d * 4) : NULL,
        .k = c->no_k ? NULL : card_new(t->k, ROWS * t->k_n * 4),
        .v = c->no_k || c->no_v ? NULL : card_new(t->v, ROWS * t->v_n * 4),
        .k_stride = t->k_n,
        .v_stride = t->v_n,
        .cs = c->n_rot ? card_new(t->cs, ROWS * (size_t)(c->n_rot + MARGIN) * 4) : NULL,
        .cs_stride = (size_t)(c->n_rot + MARGIN),
        .q_norm = c->norm ? card_new(t->q_w, heads * d * 4) : NULL,
        .k_norm = c->norm ? card_new(t->k_w, kv * d * 4) : NULL,
        .q_norm_n = c->norm ? over_q : 0,
        .k_norm_n = c->norm ? over_k : 0,
        .q_norm_each = c->norm == NORM_EACH,
        .k_norm_each = c->norm == NORM_EACH,
        .norm_layer = c->norm_layer,
        .norm_late = c->late,
        .unit = c->unit,
        .v_norm = c->v_norm,
        .eps = 1e-5f,
        .rope_pairs = c->pairs,
        .n_head = c->n_head,
        .n_head_kv = c->n_head_kv,
        .head_dim = c->head_dim,
        .head_dim_v = c->head_dim_v,
        .n_rot = c->n_rot,
        .rotated = c->rotated,
        .grow_scale = c->grows ? 0.1f : 0,
        .grow_offset = 1,
        .grow_length = 8,
        .batch = &t->batch,
    };
}

/* All steps are the reference's but for the order of a norm's sum in double: floats are equal, but
 * for one place where the sum's last bits turned a rounding. */
static void assert_floats(const float *got, const float *expected, size_t n, int exact,
                          const char *what)
{
    for (size_t i = 0; i < n; i++) {
        float bound = exact ? 0 : 0x1p-22f * fabsf(expected[i]);
        if (!(fabsf(got[i] - expected[i]) <= bound) && memcmp(&got[i], &expected[i], 4) != 0 &&
            !(isnan(got[i]) && isnan(expected[i])))
            fail_msg("%s %zu is %.9g, expected %.9g", what, i, (double)got[i], (double)expected[i]);
    }
}

/* Equal bytes, but that any NaN of a vector of floats is as good as another,
 * since what arithmetic makes of them differs from chip to chip. */
static void assert_cache(const struct store_test *t, const uint8_t *got)
{
    size_t size = t->type == INFER_DTYPE_F32 ? 4 : t->type == INFER_DTYPE_F8_E4M3 ? 1 : 2;
    int floats = t->type != INFER_DTYPE_Q8_0 && t->type != INFER_DTYPE_Q4_1 && size > 1;
    for (size_t i = 0; i < t->kv_bytes; i += size) {
        uint32_t a = 0, b = 0;
        if (memcmp(got + i, t->kv + i, size) == 0)
            continue;
        memcpy(&a, got + i, size);
        memcpy(&b, t->kv + i, size);
        uint32_t infinity = t->type == INFER_DTYPE_F32   ? 0x7f800000u
                            : t->type == INFER_DTYPE_F16 ? 0x7c00u
                                                         : 0x7f80u;
        uint32_t sign = size == 4 ? 0x80000000u : 0x8000u;
        if (!floats || (a & ~sign) <= infinity || (b & ~sign) <= infinity)
            fail_msg("type %d: byte %zu of the cache is of %#x, not %#x", (int)t->type, i, a, b);
    }
}

static void check_results(struct store_test *t)
{
    const struct store_case *c = &t->c;
    size_t gates = (size_t)c->n_head * (size_t)c->head_dim,
           width = (size_t)c->n_head * (size_t)c->head_dim;
    int exact = !c->norm && !c->unit && !c->v_norm;
    float *q = malloc(ROWS * t->q_n * 4), *g = malloc(ROWS * gates * 4);
    uint8_t *kv = malloc(t->kv_bytes);
    card_get(q, t->args.q, ROWS * t->q_n * 4);
    card_get(kv, t->args.kv.k, t->kv_bytes);
    for (int32_t r = 0; r < ROWS && seq_of[r] >= 0; r++)
        store_row(t, r);
    for (size_t r = 0; r < ROWS && seq_of[r] >= 0; r++) {
        size_t at = r * t->q_n;
        assert_floats(q + at, t->q + at, width, exact, "query");
        if (!c->gates)
            assert_memory_equal(q + at + width, t->q + at + width, (t->q_n - width) * 4);
    }
    if (c->gates) {
        card_get(g, t->args.gates, ROWS * gates * 4);
        for (size_t r = 0; r < ROWS && seq_of[r] >= 0; r++)
            assert_memory_equal(g + r * gates, t->gates + r * gates, gates * 4);
    }
    assert_cache(t, kv);
    free(q), free(g), free(kv);
}

static void check_store(const struct store_case *c, infer_dtype type, uint64_t *seed)
{
    struct store_test t = {.c = *c, .type = type};
    build(&t, seed);
    put_on_card(&t);
    assert_int_equal(kern_cuda_attn_store(&t.args, NULL), 0);
    check_results(&t);
    const void *on_card[] = {t.batch.seq_of, t.batch.pos,   t.args.kv.k,  t.args.kv.tables,
                             t.args.q,       t.args.gates,  t.args.k,     t.args.v,
                             t.args.cs,      t.args.q_norm, t.args.k_norm};
    for (size_t i = 0; i < BASE_COUNT(on_card); i++)
        card_free((void *)(uintptr_t)on_card[i]);
    free(t.q), free(t.k), free(t.v), free(t.cs), free(t.q_w), free(t.k_w), free(t.gates);
    free(t.kv);
}

static const infer_dtype types[] = {INFER_DTYPE_F32,  INFER_DTYPE_F16,  INFER_DTYPE_BF16,
                                    INFER_DTYPE_Q8_0, INFER_DTYPE_Q4_1, INFER_DTYPE_F8_E4M3};

static void test_vectors_are_stored_as_the_engine_does(void **state)
{
    static const struct store_case cases[] = {
        /* heads, KV heads, sizes, n_rot, pairs, norm, layer, late, unit, v, gates, grows, rotated,
         * no_v, no_k */
        {8, 2, 64, 64, 64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
        {5, 5, 80, 96, 32, 0, NORM_SHARED, 0, 0, 0, 0, 0, 0, 1, 0, 0},
        {6, 3, 128, 128, 128, 0, NORM_EACH, 1, 0, 0, 0, 0, 1, 0, 0, 0},
        {7, 1, 48, 40, 48, 0, NORM_WHOLE, 0, 0, 0, 1, 0, 0, 0, 0, 0},
        {4, 2, 64, 64, 64, 1, NORM_WHOLE, 1, 1, 0, 0, 0, 1, 1, 0, 0},
        {16, 4, 128, 128, 64, 0, NORM_SHARED, 0, 0, 0, 0, 1, 0, 1, 0, 0},
        {18, 9, 64, 64, 64, 0, NORM_WHOLE, 0, 0, 0, 0, 1, 0, 0, 0, 0},
        {3, 1, 256, 256, 0, 0, NORM_SHARED, 0, 1, 0, 1, 0, 0, 0, 1, 0},
        {9, 3, 128, 128, 128, 1, NORM_NONE, 0, 0, 1, 0, 0, 1, 0, 0, 0},
        {4, 2, 96, 96, 64, 1, NORM_EACH, 0, 1, 0, 1, 1, 0, 1, 1, 0},
        {2, 1, 576, 512, 64, 1, NORM_NONE, 0, 0, 0, 0, 0, 0, 1, 0, 0},
        {2, 1, 576, 576, 64, 1, NORM_NONE, 0, 0, 0, 0, 0, 0, 1, 2, 0},
        {4, 4, 64, 64, 64, 0, NORM_SHARED, 0, 0, 0, 0, 0, 0, 1, 0, 1},
        {3, 3, 33, 31, 10, 1, NORM_EACH, 0, 0, 0, 1, 0, 1, 1, 0, 0},
        {2, 2, 1, 1, 0, 0, NORM_NONE, 0, 0, 0, 0, 1, 0, 1, 0, 0},
        {2, 2, 34, 2, 34, 0, NORM_SHARED, 1, 1, 0, 1, 1, 1, 1, 0, 0},
    };
    uint64_t seed = 1;
    (void)state;
    card_needed("the store of keys and values");
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        for (size_t j = 0; j < BASE_COUNT(types); j++)
            check_store(&cases[i], types[j], &seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_angles_are_those_of_the_engine),
        cmocka_unit_test(test_vectors_are_stored_as_the_engine_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
