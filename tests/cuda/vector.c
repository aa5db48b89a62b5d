/* Kernels of the vector index: what they find is held against products in double and against all
 * scores that they give. */
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/half.h"

#include <math.h>
#include <stdlib.h>

#define FORM_OF(type)                                                                              \
    ((type) < 0                 ? KERN_CUDA_VECTOR_BITS                                            \
     : (type) == INFER_DTYPE_I8 ? KERN_CUDA_VECTOR_BYTES                                           \
                                : KERN_CUDA_VECTOR_HALF)
#define ROUNDING(dims) (((float)(dims)*1.25f + 64.0f) * 0x1p-23f)
#define PLACES_MORE    48 /* places without rows */

struct shape {
    int32_t type; /* infer_dtype; -1: bits */
    int32_t n_rows, dims, n_queries, keep;
    int32_t squares, masked, shuffled, ties;
};

struct sample {
    struct shape is;
    int32_t form, n_places;
    size_t stride;
    uint8_t *rows;
    float *given, *queries;
    uint32_t *bits; /* of queries */
    int32_t *place;
    uint32_t *mask;
    struct kern_cuda_vectors card;
    void *card_queries, *card_notes, *card_mask;
};

static void *new_of(size_t n, size_t size)
{
    void *p = calloc(n + !n, size);
    assert_non_null(p);
    return p;
}

static double element(const struct sample *s, int32_t row, int32_t i)
{
    const uint8_t *at = s->rows + (size_t)row * s->stride;
    float f;
    switch (s->is.type) {
    case INFER_DTYPE_F32:
        memcpy(&f, at + 4 * (size_t)i, 4);
        return (double)f;
    case INFER_DTYPE_F16:
        return (double)kern_float_of_f16(kern_load_u16(at + 2 * (size_t)i));
    case INFER_DTYPE_BF16:
        return (double)kern_float_of_bf16(kern_load_u16(at + 2 * (size_t)i));
    default:
        return (double)(int8_t)at[i];
    }
}

static void make_row(struct sample *s, uint64_t *seed, int32_t row)
{
    uint8_t *at = s->rows + (size_t)row * s->stride;
    const int32_t half_way = s->is.type == INFER_DTYPE_F16 ? 4 : 9;
    const float size = ldexpf(1.0f, row % 5 * half_way - 2 * half_way); /* lengths of all kinds */
    const int32_t same = s->is.ties && row % 3;
    if (same) {
        memcpy(at, s->rows, s->stride);
        return;
    }
    for (int32_t i = 0; i < s->is.dims; i++) {
        const float x = test_randf(seed) * (s->is.ties ? 1.0f : size);
        const uint16_t half =
            s->is.type == INFER_DTYPE_F16 ? kern_f16_of_float(x) : kern_bf16_of_float(x);
        if (s->is.type == INFER_DTYPE_F32)
            memcpy(at + 4 * (size_t)i, &x, 4);
        else if (s->is.type == INFER_DTYPE_I8)
            at[i] = (uint8_t)(int8_t)(test_randf(seed) * 127.0f);
        else if (s->is.type < 0)
            at[i / 8] |= (uint8_t)((test_randf(seed) > 0.0f) << i % 8);
        else
            memcpy(at + 2 * (size_t)i, &half, 2);
    }
}

static double factor_of(const struct sample *s, int32_t row)
{
    return s->is.type == INFER_DTYPE_I8 ? 0.25 + row % 4 : 1.0;
}

static double length_of(const struct sample *s, int32_t row)
{
    double sum = 0;
    for (int32_t i = 0; i < s->is.dims && s->is.type >= 0; i++)
        sum += element(s, row, i) * element(s, row, i);
    return sqrt(sum) * factor_of(s, row);
}

static void make_host(struct sample *s, const struct shape *shape, uint64_t *seed)
{
    const int32_t n = shape->n_rows, dims = shape->dims, type = shape->type;
    const size_t words = (size_t)kern_cuda_vector_words(dims);
    *s = (struct sample){.is = *shape, .form = FORM_OF(type)};
    s->stride = type < 0                  ? words * 4
                : type == INFER_DTYPE_F32 ? 4 * (size_t)dims
                : type == INFER_DTYPE_I8  ? BASE_ALIGN_UP((size_t)dims, (size_t)4)
                                          : 2 * (size_t)dims;
    s->n_places = BASE_ALIGN_UP(n + (shape->shuffled ? PLACES_MORE : 0), 64);
    s->rows = new_of((size_t)n, s->stride);
    s->given = new_of((size_t)n, 8);
    s->queries = new_of((size_t)shape->n_queries * (size_t)dims, 4);
    s->bits = new_of((size_t)shape->n_queries * words, 4);
    s->place = new_of((size_t)n, 4);
    s->mask = new_of((size_t)n / 32 + 1, 4);
    for (int32_t row = 0; row < n; row++) {
        make_row(s, seed, row);
        s->given[2 * row] = (float)factor_of(s, row);
        s->given[2 * row + 1] = (float)length_of(s, row);
        s->place[row] = shape->shuffled ? (int32_t)((int64_t)row * 37 % n) : row;
        if (!shape->masked || row % 3 == 1 || row == n - 1)
            s->mask[row / 32] |= 1u << row % 32;
    }
    for (int32_t i = 0; i < shape->n_queries * dims; i++)
        s->queries[i] = test_randf(seed);
    for (size_t i = 0; i < (size_t)shape->n_queries * words; i++)
        s->bits[i] = (uint32_t)(test_randf(seed) * 2e9f);
    for (int32_t q = 0; type < 0 && q < shape->n_queries; q++) /* bits behind the dims are 0 */
        for (size_t i = (size_t)dims; i < words * 32; i++)
            s->bits[(size_t)q * words + i / 32] &= ~(1u << i % 32);
}

static void make_card(struct sample *s)
{
    const size_t places = (size_t)s->n_places,
                 tile_rows = (size_t)kern_cuda_vector_tile_rows(s->form);
    const size_t bytes = places / tile_rows * kern_cuda_vector_tile_bytes(s->form, s->is.dims);
    const size_t query_bytes = kern_cuda_vector_query_bytes(s->form, s->is.dims);
    const size_t n = (size_t)s->is.n_queries, n_rows = (size_t)s->is.n_rows;
    s->card = (struct kern_cuda_vectors){.form = s->form,
                                         .dims = s->is.dims,
                                         .n_tiles = (int32_t)(places / tile_rows),
                                         .tiles = card_new(NULL, bytes),
                                         .notes = card_new(NULL, places * 16),
                                         .ids = card_new(NULL, places * 4)};
    assert_int_equal(cudaMemset(s->card.tiles, 0, bytes), cudaSuccess);
    assert_int_equal(cudaMemset(s->card.notes, 0, places * 16), cudaSuccess);
    void *from = card_new(s->rows, n_rows * s->stride), *given = card_new(s->given, n_rows * 8);
    void *place = card_new(s->place, n_rows * 4);
    const struct kern_cuda_vector_pack_args pack = {.to = s->card,
                                                    .from = from,
                                                    .stride = s->stride,
                                                    .type = (infer_dtype)BASE_MAX(s->is.type, 0),
                                                    .given = given,
                                                    .places = s->is.shuffled ? place : NULL,
                                                    .n = s->is.n_rows,
                                                    .squares = s->is.squares};
    assert_int_equal(kern_cuda_vector_pack(&pack, NULL), 0);
    s->card_notes = card_new(NULL, n * 16);
    if (s->form == KERN_CUDA_VECTOR_BITS) {
        s->card_queries = card_new(s->bits, n * query_bytes);
    } else {
        void *floats = card_new(s->queries, n * (size_t)s->is.dims * 4);
        s->card_queries = card_new(NULL, n * query_bytes);
        const struct kern_cuda_vector_queries_args queries = {.to = s->card_queries,
                                                              .notes = s->card_notes,
                                                              .from = floats,
                                                              .rounding = ROUNDING(s->is.dims),
                                                              .form = s->form,
                                                              .dims = s->is.dims,
                                                              .n = s->is.n_queries};
        assert_int_equal(kern_cuda_vector_queries(&queries, NULL), 0);
        assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
        card_free(floats);
    }
    s->card_mask = card_new(s->mask, (n_rows / 32 + 1) * 4);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    card_free(from);
    card_free(given);
    card_free(place);
}

static void release(struct sample *s)
{
    card_free(s->card.tiles);
    card_free(s->card.notes);
    card_free(s->card.ids);
    card_free(s->card_queries);
    card_free(s->card_notes);
    card_free(s->card_mask);
    free(s->rows);
    free(s->given);
    free(s->queries);
    free(s->bits);
    free(s->place);
    free(s->mask);
}

static float score_of(uint64_t key)
{
    const uint32_t bits = kern_cuda_vector_unorder((uint32_t)(key >> 32));
    float score;
    memcpy(&score, &bits, 4);
    return score;
}

static int32_t id_of(uint64_t key)
{
    return (int32_t) ~(uint32_t)key;
}

/* What the card holds of found keys. */
struct found {
    uint64_t *keys, *least;
    uint32_t *counts, *lost;
    int32_t room, n;
};

static void found_new(struct found *f, int32_t n_queries, int32_t room)
{
    const size_t n = (size_t)n_queries;
    f->room = room;
    f->n = n_queries;
    f->keys = card_new(NULL, n * (size_t)room * 8);
    f->least = card_new(NULL, n * 8);
    f->counts = card_new(NULL, n * 4);
    f->lost = card_new(NULL, n * 4);
    assert_int_equal(cudaMemset(f->least, 0, n * 8), cudaSuccess);
    assert_int_equal(cudaMemset(f->counts, 0, n * 4), cudaSuccess);
    assert_int_equal(cudaMemset(f->lost, 0, n * 4), cudaSuccess);
}

static int by_key(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Brings what was found, best first; places behind that are as they were. */
static uint64_t *found_get(struct found *f, uint32_t *counts, uint32_t *lost)
{
    uint64_t *keys = new_of((size_t)f->n * (size_t)f->room, 8);
    card_get(keys, f->keys, (size_t)f->n * (size_t)f->room * 8);
    card_get(counts, f->counts, (size_t)f->n * 4);
    card_get(lost, f->lost, (size_t)f->n * 4);
    for (int32_t q = 0; q < f->n; q++)
        qsort(keys + (size_t)q * (size_t)f->room, BASE_MIN(counts[q], (uint32_t)f->room), 8,
              by_key);
    card_free(f->keys);
    card_free(f->least);
    card_free(f->counts);
    card_free(f->lost);
    return keys;
}

static struct kern_cuda_vector_scan_args scan_of(const struct sample *s, const struct found *f)
{
    return (struct kern_cuda_vector_scan_args){.rows = s->card,
                                               .queries = s->card_queries,
                                               .query_notes = s->card_notes,
                                               .mask = s->is.masked ? s->card_mask : NULL,
                                               .keys = f->keys,
                                               .least = f->least,
                                               .counts = f->counts,
                                               .n_queries = s->is.n_queries,
                                               .room = f->room,
                                               .n_rows =
                                                   s->is.n_rows - 1, /* the last is not there */
                                               .run = 2,
                                               .stride = 1};
}

static void expected_score(const struct sample *s, int32_t q, int32_t row, double *score,
                           double *bound)
{
    const float *x = s->queries + (size_t)q * (size_t)s->is.dims;
    const size_t words = (size_t)kern_cuda_vector_words(s->is.dims);
    double sum = 0, squares = 0;
    *bound = 0;
    if (s->is.type < 0) {
        for (size_t w = 0; w < words * 4; w++) {
            const uint8_t bits = ((const uint8_t *)(s->bits + (size_t)q * words))[w];
            sum -= __builtin_popcount((unsigned)(bits ^ s->rows[(size_t)row * s->stride + w]));
        }
        *score = sum;
        return;
    }
    for (int32_t i = 0; i < s->is.dims; i++) {
        sum += (double)x[i] * element(s, row, i);
        squares += (double)x[i] * (double)x[i];
    }
    const double length = length_of(s, row), most = sqrt(squares) * length;
    *score = sum * factor_of(s, row) - (s->is.squares ? 0.5 * length * length : 0.0);
    *bound = most * ((double)ROUNDING(s->is.dims) * 2 + 0x1p-10) + 1e-5 * length * length;
}

/* All rows, in one pass: each that counts is there once, within the bound and never below. */
static uint64_t *find_all(const struct sample *s, uint32_t *counts)
{
    struct found f;
    uint32_t *lost = new_of((size_t)s->is.n_queries, 4);
    uint8_t *seen = new_of((size_t)s->is.n_rows, 1);
    found_new(&f, s->is.n_queries, s->is.n_rows + 3);
    const struct kern_cuda_vector_scan_args scan = scan_of(s, &f);
    assert_int_equal(kern_cuda_vector_scan(&scan, NULL), 0);
    uint64_t *keys = found_get(&f, counts, lost);
    for (int32_t q = 0; q < s->is.n_queries; q++) {
        const uint64_t *of = keys + (size_t)q * (size_t)f.room;
        memset(seen, 0, (size_t)s->is.n_rows);
        uint32_t n = 0;
        for (int32_t row = 0; row < s->is.n_rows - 1; row++)
            n += s->mask[row / 32] >> row % 32 & 1;
        assert_int_equal(counts[q], n);
        for (uint32_t i = 0; i < (uint32_t)f.room; i++) {
            double score, bound;
            if (i >= n) {
                assert_true(of[i] == UINT64_MAX);
                continue;
            }
            const int32_t row = id_of(of[i]);
            assert_true(row >= 0 && row < s->is.n_rows - 1 && !seen[row]++);
            assert_true(s->mask[row / 32] >> row % 32 & 1);
            expected_score(s, q, row, &score, &bound);
            const double got = (double)score_of(of[i]);
            if (!(got >= score - 1e-30 && got <= score + bound))
                fail_msg("query %d row %d: at most %.9g, expected %.9g to %.9g", q, row, got, score,
                         score + bound);
        }
    }
    free(lost);
    free(seen);
    return keys;
}

/* By passes that leave little, as a search does it: the same keys as the best of all. */
static void check_passes(const struct sample *s, const uint64_t *all, const uint32_t *n_all)
{
    struct found f;
    const int32_t runs = BASE_DIV_UP(s->card.n_tiles, 2);
    uint32_t *counts = new_of((size_t)s->is.n_queries, 4),
             *lost = new_of((size_t)s->is.n_queries, 4);
    found_new(&f, s->is.n_queries, s->is.n_rows + s->is.keep);
    struct kern_cuda_vector_scan_args scan = scan_of(s, &f);
    const struct kern_cuda_vector_select_args select = {.keys = f.keys,
                                                        .least = f.least,
                                                        .counts = f.counts,
                                                        .lost = f.lost,
                                                        .n_queries = f.n,
                                                        .room = f.room,
                                                        .keep = s->is.keep};
    scan.stride = runs > 32 ? 256 : 16;
    for (; scan.stride > 0; scan.stride /= 16, scan.later = 1) {
        assert_int_equal(kern_cuda_vector_scan(&scan, NULL), 0);
        assert_int_equal(kern_cuda_vector_select(&select, NULL), 0);
    }
    uint64_t *keys = found_get(&f, counts, lost);
    for (int32_t q = 0; q < f.n; q++) {
        assert_int_equal(counts[q], BASE_MIN((uint32_t)s->is.keep, n_all[q]));
        assert_int_equal(lost[q], 0);
        assert_memory_equal(keys + (size_t)q * (size_t)f.room,
                            all + (size_t)q * (size_t)(s->is.n_rows + 3), counts[q] * 8);
    }
    free(keys);
    free(counts);
    free(lost);
}

static void compare_shape(const struct shape *shape, uint64_t *seed)
{
    struct sample s;
    uint32_t *counts = new_of((size_t)shape->n_queries, 4);
    make_host(&s, shape, seed);
    make_card(&s);
    uint64_t *all = find_all(&s, counts);
    check_passes(&s, all, counts);
    free(all);
    free(counts);
    release(&s);
}

static void test_what_is_found(void **state)
{
    static const struct shape shapes[] = {
        {INFER_DTYPE_F16, 1, 1, 1, 1, 0, 0, 0, 0},
        {INFER_DTYPE_F16, 331, 100, 3, 7, 0, 1, 1, 0},
        {INFER_DTYPE_F16, 90, 770, 1, 30, 0, 0, 0, 0},
        {INFER_DTYPE_F16, 70, 65, 130, 3, 0, 0, 0, 1},
        {INFER_DTYPE_F16, 40, 72, 64, 300, 1, 0, 0, 0},
        {INFER_DTYPE_BF16, 200, 33, 9, 20, 1, 1, 1, 0},
        {INFER_DTYPE_BF16, 1100, 3, 2, 300, 0, 0, 0, 0},
        {INFER_DTYPE_F32, 130, 129, 17, 10, 1, 0, 1, 0},
        {INFER_DTYPE_F32, 50, 40, 33, 2, 0, 0, 0, 1},
        {INFER_DTYPE_I8, 140, 130, 5, 10, 0, 1, 0, 0},
        {INFER_DTYPE_I8, 65, 384, 12, 10, 1, 0, 1, 0},
        {INFER_DTYPE_I8, 33, 17, 70, 5, 0, 0, 0, 1},
        {-1, 300, 70, 11, 10, 0, 1, 1, 0},
        {-1, 1000, 64, 3, 100, 0, 0, 0, 1},
        {-1, 35, 770, 2, 10, 0, 0, 0, 0},
    };
    uint64_t seed = 7;
    (void)state;
    card_needed("the search of vectors");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        compare_shape(&shapes[i], &seed);
}

/* Some tiles for some queries; or for many, of which a warp has two tiles at a time. */
static void compare_items(int32_t n_queries)
{
    const struct shape shape = {INFER_DTYPE_F16, 150, 48, n_queries, 10, 0, 0, 0, 0};
    const int32_t many = n_queries > 5;
    const struct kern_cuda_vector_item items[] = {{1, 1, 0, many ? n_queries : 2},
                                                  {3, 3, many ? 0 : 2, many ? n_queries : 3}};
    int32_t asked[70] = {4, 1, 0, 4, 2};
    struct sample s;
    struct found f;
    uint32_t counts[70], lost[70], n_all[70];
    uint64_t seed = 3;
    for (int32_t i = 0; many && i < n_queries; i++)
        asked[i] = n_queries - 1 - i;
    make_host(&s, &shape, &seed);
    make_card(&s);
    uint64_t *all = find_all(&s, n_all);
    found_new(&f, n_queries, 100);
    struct kern_cuda_vector_scan_args scan = scan_of(&s, &f);
    void *card_items = card_new(items, sizeof items), *card_asked = card_new(asked, sizeof asked);
    scan.items = card_items;
    scan.asked = card_asked;
    scan.n_items = 2;
    assert_int_equal(kern_cuda_vector_scan(&scan, NULL), 0);
    uint64_t *keys = found_get(&f, counts, lost);
    for (int32_t q = 0; q < n_queries; q++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < n_all[q]; i++) {
            const uint64_t key = all[(size_t)q * 153 + i];
            const int32_t tile = id_of(key) / 16;
            const int32_t first = (many || q == 4 || q == 1) && tile == 1;
            const int32_t second = (many || q == 0 || q == 4 || q == 2) && tile >= 3 && tile < 6;
            if (first || second)
                assert_true(keys[(size_t)q * 100 + n++] == key);
        }
        assert_int_equal(counts[q], n);
    }
    card_free(card_items);
    card_free(card_asked);
    free(keys);
    free(all);
    release(&s);
}

static void test_items_compare_their_own(void **state)
{
    (void)state;
    card_needed("items of a search");
    compare_items(5);
    compare_items(70);
}

static void test_sums_of_tiles(void **state)
{
    static const struct shape shapes[] = {{INFER_DTYPE_F32, 90, 37, 1, 1, 0, 0, 0, 0},
                                          {INFER_DTYPE_I8, 70, 130, 1, 1, 0, 0, 0, 0}};
    static const int32_t first[] = {0, 2, 2, 3, 6};
    enum { N = BASE_COUNT(first) - 1 };
    uint64_t seed = 13;
    (void)state;
    card_needed("sums of vectors");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        const size_t dims = (size_t)shapes[i].dims;
        struct sample s;
        make_host(&s, &shapes[i], &seed);
        make_card(&s);
        float *sums = new_of(N * dims, 4);
        void *card_sums = card_new(NULL, N * dims * 4), *card_first = card_new(first, sizeof first);
        const struct kern_cuda_vector_sums_args args = {s.card, card_first, card_sums, N};
        assert_int_equal(kern_cuda_vector_sums(&args, NULL), 0);
        card_get(sums, card_sums, N * dims * 4);
        for (int32_t p = 0; p < N; p++)
            for (int32_t e = 0; e < shapes[i].dims; e++) {
                double sum = 0, sizes = 0;
                for (int32_t row = first[p] * 16; row < BASE_MIN(first[p + 1] * 16, s.is.n_rows);
                     row++) {
                    sum += element(&s, row, e) * factor_of(&s, row);
                    sizes += fabs(element(&s, row, e)) * factor_of(&s, row);
                    /* of halves, an element far below the largest of its row */
                    sizes += length_of(&s, row) * 1e-3;
                }
                const double got = (double)sums[(size_t)p * dims + (size_t)e];
                if (!(fabs(got - sum) <= sizes * 0x1p-10))
                    fail_msg("stretch %d element %d: %.9g, expected %.9g", p, e, got, sum);
            }
        card_free(card_sums);
        card_free(card_first);
        free(sums);
        release(&s);
    }
}

/* What has no room is told. */
static void test_too_many_are_told(void **state)
{
    enum { ROOM = 40, KEEP = 8, N = 3 };
    static const uint32_t found[N] = {41, 40, 5};
    uint64_t keys[N * ROOM], best[N * KEEP], least[N] = {0}, seed = 11;
    uint32_t counts[N], lost[N] = {0};
    (void)state;
    card_needed("keys without room");
    for (int i = 0; i < N * ROOM; i++)
        keys[i] = (uint64_t)(uint32_t)(test_randf(&seed) * 1e9f) << 20 | (uint32_t)i;
    void *card_keys = card_new(keys, sizeof keys), *card_least = card_new(least, sizeof least);
    void *card_counts = card_new(found, sizeof found), *card_lost = card_new(lost, sizeof lost);
    void *card_best = card_new(NULL, sizeof best);
    const struct kern_cuda_vector_select_args select = {
        card_keys, card_least, card_counts, card_lost, card_best, N, ROOM, KEEP};
    assert_int_equal(kern_cuda_vector_select(&select, NULL), 0);
    card_get(counts, card_counts, sizeof counts);
    card_get(lost, card_lost, sizeof lost);
    card_get(least, card_least, sizeof least);
    assert_int_equal(lost[0], 1);
    assert_int_equal(lost[1] + lost[2], 0);
    assert_int_equal(counts[0] + counts[1], 2 * KEEP);
    assert_int_equal(counts[2], 5);
    assert_true(least[2] == 0); /* all is kept: whatever comes may be better */
    card_get(best, card_best, sizeof best);
    for (int q = 0; q < N; q++)
        qsort(best + (size_t)q * KEEP, KEEP, 8, by_key);
    for (int i = 0; i < KEEP; i++)
        assert_true((best[2 * KEEP + i] == 0) == (i >= 5));
    for (int q = 0; q < 2; q++) {
        uint64_t got[KEEP];
        qsort(keys + (size_t)q * ROOM, ROOM, 8, by_key);
        card_get(got, (uint64_t *)card_keys + (size_t)q * ROOM, sizeof got);
        qsort(got, KEEP, 8, by_key);
        assert_memory_equal(got, keys + (size_t)q * ROOM, sizeof got);
        assert_memory_equal(best + (size_t)q * KEEP, got, sizeof got);
        assert_true(least[q] <= got[KEEP - 1] && least[q] > keys[(size_t)q * ROOM + KEEP]);
    }
    card_free(card_keys);
    card_free(card_least);
    card_free(card_counts);
    card_free(card_lost);
    card_free(card_best);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_found),
        cmocka_unit_test(test_items_compare_their_own),
        cmocka_unit_test(test_sums_of_tiles),
        cmocka_unit_test(test_too_many_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
