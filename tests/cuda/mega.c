/* A step in one launch against the same operations kernel by kernel. Products go in the same order
 * of sums; attention is cut by the number of blocks, and a norm's sum by that of threads, so that
 * last bits differ, and with them, rarely, a code of a quantised row: one of 127, of 32 elements. A
 * barrier too few, a wrong row or part errs by the size of the result, or is NaN. */
#include "cuda/weights.h"

#include <math.h>

#define BOUND 2e-3

/* Multiprocessors of the emulated card; a real one has its own. */
void emulated_set_processors(int n) __attribute__((weak));

#define LAYERS   2
#define PAGE     16
#define MATRICES 7

enum { Q, K, V, OUT, GATE, UP, DOWN };

struct shape {
    infer_dtype types[MATRICES];
    infer_dtype kv;
    int32_t embd, heads, heads_kv, dim, ff, position;
    int32_t norms, biases, pairs, act, window, ways;
    int32_t blocks; /* that the emulated card holds */
    int32_t vocab;  /* of a head that chooses, of the type of the first matrix; 0: none */
    float scale, cap;
};

struct layer {
    struct weights w[MATRICES];
    float *norm[2], *head_norm[2], *bias[3];
    uint8_t *kv;
};

struct step {
    struct shape s;
    struct layer layers[LAYERS];
    struct weights head;
    float *head_norm, *head_bias, *logits;
    int32_t *ids, *answer, **to;
    float *x, *x0, *qkv, *attn, *hidden, *cs;
    uint8_t *kv0;
    size_t slot, kv_bytes, scratch_bytes, qkv_n;
    int32_t *table;
    void *scratch;
    struct kern_cuda_seq *seq;
    struct kern_cuda_batch batch;
};

static float *random_card(uint64_t *rng, size_t n, float size)
{
    float *p = malloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = size * test_randf(rng);
    float *card = card_new(p, n * sizeof *p);
    free(p);
    return card;
}

/* ------------------------------------------------------------------- the step */

static int32_t rows_of(const struct shape *s, int i)
{
    const int32_t rows[] = {s->heads * s->dim,
                            s->heads_kv * s->dim,
                            s->heads_kv * s->dim,
                            s->embd,
                            s->ff,
                            s->ff,
                            s->embd};
    return rows[i];
}

static int32_t width_of(const struct shape *s, int i)
{
    return i == OUT ? s->heads * s->dim : i == DOWN ? s->ff : s->embd;
}

static void make_cache(struct step *t, uint64_t *rng)
{
    const struct shape *s = &t->s;
    struct kern_quant quant;
    float x[256];
    kern_narrow_init_ref_kv(&quant);
    t->slot = kern_kv_bytes(s->kv, s->dim);
    size_t pages = (size_t)s->position / PAGE + 1, each = 2 * (size_t)s->heads_kv * PAGE;
    t->kv_bytes = pages * each * t->slot;
    t->kv0 = malloc(t->kv_bytes);
    int32_t *table = malloc(pages * sizeof *table);
    for (size_t i = 0; i < pages; i++)
        table[i] = (int32_t)((i * 5 + 3) % pages);
    if (pages % 5 == 0)
        for (size_t i = 0; i < pages; i++)
            table[i] = (int32_t)(pages - 1 - i);
    for (size_t i = 0; i < pages * each; i++) {
        for (int32_t e = 0; e < s->dim; e++)
            x[e] = test_randf(rng);
        uint8_t *to = t->kv0 + i * t->slot;
        if (s->kv == INFER_DTYPE_Q8_0) {
            quant.narrow[s->kv](to, x, s->dim);
            continue;
        }
        for (int32_t e = 0; e < s->dim; e++) {
            const uint16_t h =
                s->kv == INFER_DTYPE_F16 ? kern_f16_of_float(x[e]) : kern_bf16_of_float(x[e]);
            memcpy(to + 2 * e, &h, 2);
        }
    }
    /* The row's own slots are what the step stores. */
    for (size_t h = 0; h < 2 * (size_t)s->heads_kv; h++)
        memset(t->kv0 + ((size_t)table[s->position / PAGE] * each + h * PAGE +
                         (size_t)s->position % PAGE) *
                            t->slot,
               0xff, t->slot);
    t->table = card_new(table, pages * sizeof *table);
    free(table);
}

static void make_layer(struct step *t, struct layer *l, uint64_t *rng)
{
    const struct shape *s = &t->s;
    for (int i = 0; i < MATRICES; i++)
        l->w[i] = weights_new(rng, s->types[i], rows_of(s, i), 1, width_of(s, i), 0);
    for (int i = 0; i < 2; i++) { /* weights are about 1: rows shall be so that sums are */
        l->norm[i] = random_card(rng, (size_t)s->embd, 2.0f / sqrtf((float)s->embd));
        l->head_norm[i] = s->norms ? random_card(rng, (size_t)s->dim, 2.0f) : NULL;
    }
    for (int i = 0; i < 3; i++)
        l->bias[i] = s->biases ? random_card(rng, (size_t)rows_of(s, i), 1.0f) : NULL;
    l->kv = card_new(t->kv0, t->kv_bytes);
}

static void step_new(struct step *t, const struct shape *s, uint64_t seed)
{
    uint64_t rng = seed;
    *t = (struct step){.s = *s};
    struct kern_cuda_seq seq = {s->position, 0, 1};
    make_cache(t, &rng);
    t->qkv_n = (size_t)((s->heads + 2 * s->heads_kv) * s->dim);
    t->x0 = random_card(&rng, (size_t)s->embd, 3.0f);
    t->x = card_new(NULL, (size_t)s->embd * 4);
    t->qkv = card_new(NULL, t->qkv_n * 4);
    t->attn = card_new(NULL, (size_t)(s->heads * s->dim) * 4);
    t->hidden = card_new(NULL, (size_t)s->ff * 4);
    t->cs = random_card(&rng, (size_t)s->dim, 1.0f);
    t->scratch_bytes = kern_cuda_attn_scratch(s->heads, s->dim, 1, 1);
    t->scratch = card_new(NULL, t->scratch_bytes);
    assert_int_equal(cudaMemset(t->scratch, 0, t->scratch_bytes), cudaSuccess);
    t->seq = card_new(&seq, sizeof seq);
    t->batch = (struct kern_cuda_batch){
        .seqs = t->seq, .n_rows = 1, .n_seqs = 1, .seq_rows = 1, .seq_length = s->position + 1};
    const int32_t row[] = {0, s->position};
    t->batch.seq_of = card_new(&row[0], 4);
    t->batch.pos = card_new(&row[1], 4);
    for (int i = 0; i < LAYERS; i++)
        make_layer(t, &t->layers[i], &rng);
    if (s->vocab) {
        t->head = weights_new(&rng, s->types[0], s->vocab, 1, s->embd, 0);
        t->head_norm = random_card(&rng, (size_t)s->embd, 1.0f);
        t->head_bias = s->biases ? random_card(&rng, (size_t)s->vocab, 1.0f) : NULL;
        t->logits = card_new(NULL, (size_t)s->vocab * 4);
        t->ids = card_new(NULL, 4);
        t->answer = card_new(NULL, 4);
        t->to = card_new(&t->answer, sizeof t->answer);
    }
}

static void step_free(struct step *t)
{
    for (int i = 0; i < LAYERS; i++) {
        struct layer *l = &t->layers[i];
        for (int k = 0; k < MATRICES; k++)
            weights_free(&l->w[k]);
        for (int k = 0; k < 2; k++)
            card_free(l->norm[k]), card_free(l->head_norm[k]);
        for (int k = 0; k < 3; k++)
            card_free(l->bias[k]);
        card_free(l->kv);
    }
    if (t->s.vocab) {
        weights_free(&t->head);
        card_free(t->head_norm), card_free(t->head_bias), card_free(t->logits);
        card_free(t->ids), card_free(t->answer), card_free(t->to);
    }
    void *const all[] = {t->x,
                         t->x0,
                         t->qkv,
                         t->attn,
                         t->hidden,
                         t->cs,
                         t->table,
                         t->scratch,
                         t->seq,
                         (void *)(uintptr_t)t->batch.seq_of,
                         (void *)(uintptr_t)t->batch.pos};
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        card_free(all[i]);
    free(t->kv0);
}

/* What lies between begins with NaN, the residual stream with x0. */
static void step_reset(struct step *t)
{
    const struct shape *s = &t->s;
    assert_int_equal(cudaMemcpy(t->x, t->x0, (size_t)s->embd * 4, cudaMemcpyDeviceToDevice),
                     cudaSuccess);
    assert_int_equal(cudaMemset(t->qkv, 0xff, t->qkv_n * 4), cudaSuccess);
    assert_int_equal(cudaMemset(t->attn, 0xff, (size_t)(s->heads * s->dim) * 4), cudaSuccess);
    assert_int_equal(cudaMemset(t->hidden, 0xff, (size_t)s->ff * 4), cudaSuccess);
    for (int i = 0; i < LAYERS; i++)
        assert_int_equal(cudaMemcpy(t->layers[i].kv, t->kv0, t->kv_bytes, cudaMemcpyHostToDevice),
                         cudaSuccess);
}

static struct kern_cuda_few_args product_of(const struct step *t, const float *x, int32_t k,
                                            const float *norm)
{
    return (struct kern_cuda_few_args){.m = 1,
                                       .x = x,
                                       .x_stride = (size_t)k,
                                       .norm = norm,
                                       .eps = 1e-5f,
                                       .ways = (uint32_t)t->s.ways};
}

static void add_part(struct kern_cuda_few_args *a, const struct weights *w, const float *bias,
                     float *y)
{
    a->parts[a->n_parts++] = (struct kern_cuda_part){w->matrix, bias, y, (size_t)w->n};
}

static int32_t attend(struct step *t, struct layer *l, const struct kern_cuda *k, void *stream)
{
    const struct shape *s = &t->s;
    const size_t q_n = (size_t)(s->heads * s->dim), kv_n = (size_t)(s->heads_kv * s->dim);
    const size_t half = (size_t)s->heads_kv * PAGE * t->slot;
    struct kern_cuda_store_args store = {.kv = {.k = l->kv,
                                                .v = l->kv + half,
                                                .block_stride = 2 * half,
                                                .k_slot = t->slot,
                                                .v_slot = t->slot,
                                                .tables = t->table,
                                                .table_stride = s->position / PAGE + 1,
                                                .block_tokens = PAGE,
                                                .type = s->kv},
                                         .q = t->qkv,
                                         .q_stride = t->qkv_n,
                                         .k = t->qkv + q_n,
                                         .v = t->qkv + q_n + kv_n,
                                         .k_stride = t->qkv_n,
                                         .v_stride = t->qkv_n,
                                         .cs = t->cs,
                                         .cs_stride = (size_t)s->dim,
                                         .q_norm = l->head_norm[0],
                                         .k_norm = l->head_norm[1],
                                         .q_norm_n = s->dim,
                                         .k_norm_n = s->dim,
                                         .eps = 1e-5f,
                                         .rope_pairs = s->pairs,
                                         .n_head = s->heads,
                                         .n_head_kv = s->heads_kv,
                                         .head_dim = s->dim,
                                         .head_dim_v = s->dim,
                                         .n_rot = s->dim,
                                         .batch = &t->batch};
    struct kern_cuda_attn_args args = {.kv = store.kv,
                                       .q = t->qkv,
                                       .q_stride = t->qkv_n,
                                       .out = t->attn,
                                       .out_stride = q_n * 4,
                                       .n_head = s->heads,
                                       .n_head_kv = s->heads_kv,
                                       .head_dim = s->dim,
                                       .head_dim_v = s->dim,
                                       .window = s->window,
                                       .scale = 1.0f / sqrtf((float)s->dim),
                                       .batch = &t->batch,
                                       .store = &store,
                                       .scratch = t->scratch,
                                       .scratch_bytes = t->scratch_bytes};
    return k->attn.paged(&args, stream);
}

static int32_t choose(struct step *t, const struct kern_cuda *k, void *stream)
{
    const struct shape *s = &t->s;
    struct kern_cuda_few_args head = product_of(t, t->x, s->embd, t->head_norm);
    add_part(&head, &t->head, t->head_bias, t->logits);
    int32_t error = k->product.few(&head, stream);
    if (!error && s->scale != 1)
        error = k->rows.logits(t->logits, s->scale, s->cap, (size_t)s->vocab, stream);
    error = error ? error : k->rows.argmax(t->ids, t->logits, 1, s->vocab, stream);
    return error ? error : k->step.answer((int32_t *const *)t->to, t->ids, 1, stream);
}

/* As the walk of lib/model/gpu, through the launchers of any table. */
static int32_t walk(struct step *t, const struct kern_cuda *k, void *stream)
{
    const struct shape *s = &t->s;
    int32_t error = 0;
    for (int i = 0; i < LAYERS && !error; i++) {
        struct layer *l = &t->layers[i];
        float *y = t->qkv;
        struct kern_cuda_few_args qkv = product_of(t, t->x, s->embd, l->norm[0]);
        for (int p = Q; p <= V; p++) {
            add_part(&qkv, &l->w[p], l->bias[p], y);
            y += rows_of(s, p);
        }
        error = k->product.few(&qkv, stream);
        error = error ? error : attend(t, l, k, stream);
        struct kern_cuda_few_args out = product_of(t, t->attn, s->heads * s->dim, NULL);
        add_part(&out, &l->w[OUT], NULL, t->x);
        out.accumulate = 1;
        error = error ? error : k->product.few(&out, stream);
        struct kern_cuda_few_args hidden = product_of(t, t->x, s->embd, l->norm[1]);
        add_part(&hidden, &l->w[GATE], NULL, t->hidden);
        add_part(&hidden, &l->w[UP], NULL, t->hidden);
        hidden.act = s->act;
        error = error ? error : k->product.few(&hidden, stream);
        struct kern_cuda_few_args down = product_of(t, t->hidden, s->ff, NULL);
        add_part(&down, &l->w[DOWN], NULL, t->x);
        down.accumulate = 1;
        error = error ? error : k->product.few(&down, stream);
    }
    return error || !s->vocab ? error : choose(t, k, stream);
}

/* ------------------------------------------------------------------- comparison */

#define OPS (LAYERS * 8 + 1)

static struct kern_cuda table_of_all(void)
{
    struct kern_cuda table;
    kern_cuda_init(&table, 90);
    return table;
}

static double worst_of(const float *got, const float *want, size_t n)
{
    double most = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        most = d <= most ? most : isnan(d) ? INFINITY : d;
        largest = fmax(largest, fabs((double)want[i]));
    }
    return most / largest;
}

/* What lies in the cache after both: equal but for roundings that fell to the other side. */
static void compare_cache(const struct step *t, const uint8_t *got, const uint8_t *want)
{
    size_t differ = 0;
    for (size_t i = 0; i < t->kv_bytes; i++)
        differ += got[i] != want[i];
    const size_t stored = 2 * (size_t)t->s.heads_kv * t->slot;
    if (differ * 20 > stored)
        fail_msg("%zu bytes of %zu in the cache differ", differ, stored);
    for (size_t i = 0; i < t->kv_bytes; i += t->slot) /* nothing else has changed */
        if (memcmp(got + i, t->kv0 + i, t->slot) != 0)
            assert_true(memcmp(want + i, t->kv0 + i, t->slot) != 0);
}

/* Both answers are the first of the largest of what lies in `logits`, or -1 where one is NaN. */
static void check_choice(const struct step *t)
{
    const struct shape *s = &t->s;
    float *logits = malloc((size_t)s->vocab * 4);
    int32_t ids = -2, answer = -2, best = 0, nan = 0;
    card_get(logits, t->logits, (size_t)s->vocab * 4);
    for (int32_t i = 0; i < s->vocab; i++) {
        const float x = logits[i] * s->scale;
        logits[i] = s->cap > 0 ? s->cap * tanhf(x / s->cap) : x;
        nan |= isnan(logits[i]);
        best = logits[i] > logits[best] ? i : best;
    }
    card_get(&ids, t->ids, 4);
    card_get(&answer, t->answer, 4);
    assert_int_equal(ids, nan ? -1 : best);
    assert_int_equal(answer, ids);
    assert_int_equal(cudaMemset(t->ids, 0xfe, 4), cudaSuccess);
    assert_int_equal(cudaMemset(t->answer, 0xfe, 4), cudaSuccess);
    free(logits);
}

/* A row without a token; and the layers alone, which choose nothing. */
static void check_heads(struct step *t, const struct kern_cuda *launchers,
                        const struct kern_cuda_mega *mega, const float *want)
{
    const size_t n = (size_t)t->s.embd;
    const float nan = NAN;
    float *got = malloc(n * 4);
    struct kern_cuda_mega layers = *mega;
    step_reset(t);
    assert_int_equal(cudaMemcpy(t->x, &nan, 4, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(launchers->mega.launch(mega, NULL), 0);
    check_choice(t);
    step_reset(t);
    assert_int_equal(launchers->mega.launch(mega, NULL), 0);
    check_choice(t);
    layers.n_ops--;
    layers.choice.n = 0;
    step_reset(t);
    assert_int_equal(cudaMemset(t->logits, 0xff, (size_t)t->s.vocab * 4), cudaSuccess);
    assert_int_equal(launchers->mega.launch(&layers, NULL), 0);
    card_get(got, t->x, n * 4);
    assert_memory_equal(got, want, n * 4);
    card_get(got, t->logits, 4);
    assert_true(isnan(got[0]));
    free(got);
}

static void check(const struct shape *s, uint64_t seed)
{
    const struct kern_cuda launchers = table_of_all();
    struct kern_cuda recorders = launchers;
    struct kern_cuda_mega_op ops[OPS];
    struct kern_cuda_mega_plan plan = {.ops = ops, .room = OPS};
    struct kern_cuda_mega mega;
    struct step t;
    const uint64_t none[2] = {0};
    if (emulated_set_processors)
        emulated_set_processors(s->blocks);
    step_new(&t, s, seed);
    const size_t n = (size_t)s->embd;
    float *want = malloc(n * 4), *got = malloc(n * 4), *again = malloc(n * 4);
    uint8_t *kv[LAYERS], *kv_got = malloc(t.kv_bytes);
    step_reset(&t);
    assert_int_equal(walk(&t, &launchers, NULL), 0);
    card_get(want, t.x, n * 4);
    for (int i = 0; i < LAYERS; i++) {
        kv[i] = malloc(t.kv_bytes);
        card_get(kv[i], t.layers[i].kv, t.kv_bytes);
    }
    launchers.mega.record(&recorders);
    assert_int_equal(walk(&t, &recorders, &plan), 0);
    assert_int_equal(launchers.mega.fit(&mega, &plan), 0);
    mega.ops = card_new(ops, sizeof ops);
    mega.arrived = card_new(none, sizeof none);
    assert_int_equal(mega.choice.n, s->vocab);
    /* The second begins where the first has ended. Where blocks have several units of attention,
     * some rounds run warps far ahead of others. */
    for (int round = 0; round < (s->heads_kv > s->blocks ? 5 : 2); round++) {
        step_reset(&t);
        assert_int_equal(launchers.mega.launch(&mega, NULL), 0);
        card_get(round ? again : got, t.x, n * 4);
        if (round)
            assert_memory_equal(got, again, n * 4);
    }
    const double worst = worst_of(got, want, n);
    if (getenv("MEGA_ERRORS"))
        print_message("%d blocks, %d operations: %g\n", mega.n_blocks, mega.n_ops, worst);
    if (!(worst <= BOUND))
        fail_msg("type %d, cache %d: %g off", (int)s->types[0], (int)s->kv, worst);
    if (s->vocab) {
        check_choice(&t);
        check_heads(&t, &launchers, &mega, got);
    }
    for (int i = 0; i < LAYERS; i++) {
        card_get(kv_got, t.layers[i].kv, t.kv_bytes);
        compare_cache(&t, kv_got, kv[i]);
        free(kv[i]);
    }
    card_free((void *)(uintptr_t)mega.ops);
    card_free(mega.arrived);
    free(want), free(got), free(again), free(kv_got);
    step_free(&t);
    if (emulated_set_processors)
        emulated_set_processors(132);
}

#define ALL(type)                                                                                  \
    {                                                                                              \
        INFER_DTYPE_##type, INFER_DTYPE_##type, INFER_DTYPE_##type, INFER_DTYPE_##type,            \
            INFER_DTYPE_##type, INFER_DTYPE_##type, INFER_DTYPE_##type                             \
    }
#define MIXED                                                                                      \
    {                                                                                              \
        INFER_DTYPE_Q4_K, INFER_DTYPE_Q4_K, INFER_DTYPE_Q6_K, INFER_DTYPE_Q4_0, INFER_DTYPE_Q4_K,  \
            INFER_DTYPE_Q6_K, INFER_DTYPE_Q6_K                                                     \
    }

static void test_a_step_is_what_its_kernels_are(void **state)
{
    static const struct shape shapes[] = {
        /* types, cache, embd, heads, KV heads, size, ff, position, norms, biases, pairs, act,
         * window, ways, blocks, head */
        {ALL(BF16), INFER_DTYPE_F16, 128, 4, 2, 64, 168, 4, 0, 0, 0, 1, 0, 0, 3, 301, 1, 0},
        {ALL(F16), INFER_DTYPE_BF16, 64, 2, 1, 128, 96, 150, 0, 1, 1, 2, 0, 7, 2, 130, 0.5f, 4},
        {ALL(Q8_0), INFER_DTYPE_Q8_0, 128, 8, 1, 64, 160, 47, 1, 0, 1, 3, 20, 0, 3, 0, 1, 0},
        {MIXED, INFER_DTYPE_Q8_0, 256, 2, 1, 128, 256, 33, 1, 1, 0, 1, 0, 2, 2, 0, 1, 0},
        {ALL(Q4_0), INFER_DTYPE_F16, 64, 24, 3, 64, 64, 100, 0, 0, 0, 1, 0, 5, 2, 0, 1, 0},
        {ALL(Q5_K), INFER_DTYPE_F16, 256, 4, 4, 64, 256, 6, 0, 0, 0, 1, 0, 0, 3, 64, 1, 0},
        {ALL(BF16), INFER_DTYPE_BF16, 64, 2, 1, 64, 64, 400, 0, 0, 1, 1, 0, 1, 4, 0, 1, 0},
    };
    (void)state;
    card_needed("a step in one launch");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        check(&shapes[i], i + 1);
}

/* The layers of a model of 1B: too much for an emulation. */
static void test_a_step_of_a_real_size(void **state)
{
    static const struct shape shapes[] = {
        {ALL(BF16), INFER_DTYPE_F16, 2048, 32, 8, 64, 8192, 3000, 0, 0, 0, 1, 0, 1, 0, 128256, 1,
         0},
        {ALL(Q4_0), INFER_DTYPE_Q8_0, 4096, 32, 8, 128, 1024, 700, 0, 0, 0, 1, 0, 7, 0, 0, 1, 0},
    };
    (void)state;
    card_needed("a step in one launch");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        check(&shapes[i], i + 20);
}

/* A walk over layers launches nothing while it is written down, whatever it has: every launcher
 * that it may call is another one. */
static void test_nothing_is_launched_while_it_is_written_down(void **state)
{
    const struct kern_cuda launchers = table_of_all();
    struct kern_cuda recorders = launchers;
    const struct {
        const void *before, *after;
        size_t bytes;
    } groups[] = {
        {&launchers.product, &recorders.product, sizeof launchers.product},
        {&launchers.rows, &recorders.rows, sizeof launchers.rows},
        {&launchers.attn, &recorders.attn, sizeof launchers.attn},
        {&launchers.moe, &recorders.moe, sizeof launchers.moe},
        {&launchers.lora.down, &recorders.lora.down, sizeof launchers.lora.down},
        {&launchers.lora.up, &recorders.lora.up, sizeof launchers.lora.up},
    };
    (void)state;
    card_needed("a step in one launch");
    launchers.mega.record(&recorders);
    for (size_t g = 0; g < BASE_COUNT(groups); g++)
        for (size_t at = 0; at < groups[g].bytes; at += sizeof(void *))
            if (memcmp((const char *)groups[g].before + at, (const char *)groups[g].after + at,
                       sizeof(void *)) == 0)
                fail_msg("launcher %zu of group %zu is no recorder", at / sizeof(void *), g);
}

/* What is no operation is refused, and a plan has no more room than it says. */
static void test_what_is_no_operation_is_refused(void **state)
{
    const struct shape s = {
        ALL(Q8_0), INFER_DTYPE_F16, 64, 2, 1, 64, 64, 3, 0, 0, 0, 1, 0, 0, 2, 0, 1, 0};
    struct kern_cuda recorders = table_of_all();
    struct kern_cuda_mega_op ops[OPS];
    struct kern_cuda_mega_plan plan = {.ops = ops, .room = 3};
    struct kern_cuda_mega mega;
    struct step t;
    (void)state;
    card_needed("a step in one launch");
    step_new(&t, &s, 50);
    recorders.mega.record(&recorders);
    assert_int_equal(walk(&t, &recorders, &plan), cudaErrorNotSupported);
    assert_int_equal(recorders.rows.logits(t.x, -1, 0, 8, &plan), cudaErrorNotSupported);
    assert_int_equal(recorders.step.answer(NULL, NULL, 1, &plan), cudaErrorNotSupported);
    plan = (struct kern_cuda_mega_plan){.ops = ops, .room = OPS};
    assert_int_equal(recorders.rows.logits(t.x, 2, 0, 8, &plan), 0);
    assert_int_equal(recorders.rows.argmax(NULL, t.attn, 1, 8, &plan), cudaErrorNotSupported);
    assert_int_equal(recorders.rows.argmax(NULL, t.x, 2, 8, &plan), cudaErrorNotSupported);
    assert_int_equal(recorders.rows.argmax(NULL, t.x, 1, 8, &plan), 0);
    assert_int_equal(recorders.rows.argmax(NULL, t.x, 1, 8, &plan), cudaErrorNotSupported);
    assert_int_equal(attend(&t, &t.layers[0], &recorders, &plan), cudaErrorNotSupported);
    assert_int_equal(recorders.attn.store(NULL, &plan), cudaErrorNotSupported);
    assert_int_equal(recorders.latent.store(NULL, &plan), cudaErrorNotSupported);
    assert_int_equal(recorders.latent.attend(NULL, &plan), cudaErrorNotSupported);
    plan = (struct kern_cuda_mega_plan){.ops = ops, .room = OPS};
    assert_int_equal(attend(&t, &t.layers[0], &recorders, &plan), 0);
    assert_int_equal(recorders.mega.fit(&mega, &plan), cudaErrorNotSupported); /* no product */
    t.s.kv = INFER_DTYPE_F32;
    assert_int_equal(attend(&t, &t.layers[0], &recorders, &plan), cudaErrorNotSupported);
    t.s.kv = INFER_DTYPE_F16;
    t.batch.n_rows = t.batch.n_seqs = 2;
    assert_int_equal(attend(&t, &t.layers[0], &recorders, &plan), cudaErrorNotSupported);
    struct kern_cuda_few_args two = product_of(&t, t.x, s.embd, NULL);
    add_part(&two, &t.layers[0].w[OUT], NULL, t.qkv);
    two.m = 2;
    assert_int_equal(recorders.product.few(&two, &plan), cudaErrorNotSupported);
    two.m = 1;
    two.parts[0].w.type = INFER_DTYPE_Q5_1;
    assert_int_equal(recorders.product.few(&two, &plan), cudaErrorNotSupported);
    step_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_step_is_what_its_kernels_are),
        cmocka_unit_test(test_what_is_no_operation_is_refused),
        cmocka_unit_test(test_nothing_is_launched_while_it_is_written_down),
        cmocka_unit_test(test_a_step_of_a_real_size), /* minutes where kernels are emulated */
    };
    const size_t n = sizeof tests / sizeof *tests - (emulated_set_processors ? 1 : 0);
    return _cmocka_run_group_tests("mega", tests, n, NULL, NULL);
}
