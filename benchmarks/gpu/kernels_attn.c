/* Attention over a paged cache, and the small kernels between the products. */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 128, BLOCK = 16, DIM = HEADS * HEAD_DIM };
enum { FFN = 14336, VOCAB = 128256 };

/* Of a layer of 8B, and of a global one of Gemma 4 31B. */
struct heads {
    int32_t n, kv, dim;
};
static const struct heads usual = {HEADS, KV_HEADS, HEAD_DIM}, wide = {32, 4, 512};

/* --- a batch and its cache --- */

struct attn {
    const struct kernels_card *card;
    struct kern_cuda_attn_args args;
    struct kern_cuda_store_args store;
    struct kern_cuda_batch batch;
    uint8_t *pool;
    size_t part_bytes, copy_bytes; /* K or V of a block; one layer's cache */
    int32_t copies;
    int32_t *tables, *seq_of, *pos;
    struct kern_cuda_seq *seqs;
};

static void *upload(const void *host, size_t bytes)
{
    void *p = kernels_new(bytes);
    BENCH_MUST(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
    return p;
}

/* Each of n_seqs sequences has its last `rows` positions of `length` in the batch. Blocks of a
 * sequence lie scattered over the pool, as they do after a while of serving. */
static void make_batch(struct attn *a, int32_t n_seqs, int32_t rows, int32_t length)
{
    size_t blocks = (size_t)(length + BLOCK - 1) / BLOCK, n = (size_t)n_seqs * (size_t)rows;
    size_t all = blocks * (size_t)n_seqs;
    uint64_t state = 23;
    int32_t *tables = malloc(all * sizeof *tables), *seq_of = malloc(n * sizeof *seq_of);
    int32_t *pos = malloc(n * sizeof *pos);
    struct kern_cuda_seq *seqs = malloc((size_t)n_seqs * sizeof *seqs);
    if (!tables || !seq_of || !pos || !seqs)
        exit(1);
    for (size_t i = 0; i < all; i++)
        tables[i] = (int32_t)i;
    for (size_t i = all; i-- > 1;) { /* Fisher and Yates */
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t j = (size_t)(state >> 33) % (i + 1);
        int32_t kept = tables[i];
        tables[i] = tables[j];
        tables[j] = kept;
    }
    for (int32_t s = 0; s < n_seqs; s++) {
        seqs[s] = (struct kern_cuda_seq){length - rows, s * rows, rows};
        for (int32_t r = 0; r < rows; r++) {
            seq_of[s * rows + r] = s;
            pos[s * rows + r] = length - rows + r;
        }
    }
    a->tables = upload(tables, all * sizeof *tables);
    a->seq_of = upload(seq_of, n * sizeof *seq_of);
    a->pos = upload(pos, n * sizeof *pos);
    a->seqs = upload(seqs, (size_t)n_seqs * sizeof *seqs);
    a->batch = (struct kern_cuda_batch){.seq_of = a->seq_of,
                                        .pos = a->pos,
                                        .seqs = a->seqs,
                                        .n_rows = (int32_t)n,
                                        .n_seqs = n_seqs,
                                        .seq_rows = rows,
                                        .seq_length = length};
    free(tables);
    free(seq_of);
    free(pos);
    free(seqs);
}

/* Random values of the cache's type: for Q8_0 a half as scale ahead of 32 bytes. */
static void fill_cache(struct attn *a, infer_dtype type, size_t bytes)
{
    if (type != INFER_DTYPE_Q8_0) { /* any bytes of those halves will do for F8 */
        bench_normal(a->pool, bytes, BENCH_F16, 0.5f, 21);
        return;
    }
    enum { GROUPS = 32768, GROUP = 34 };
    uint8_t *host = malloc((size_t)GROUPS * GROUP);
    uint32_t state = 12345;
    if (!host)
        exit(1);
    for (size_t i = 0; i < (size_t)GROUPS * GROUP; i++) {
        state = state * 1664525u + 1013904223u;
        host[i] = (uint8_t)(state >> 24);
        if (i % GROUP < 2) /* about 0.006 */
            host[i] = (uint8_t)(i % GROUP ? 0x1e : state >> 24);
    }
    size_t period = (size_t)GROUPS * GROUP;
    BENCH_MUST(cudaMemcpy(a->pool, host, BASE_MIN(period, bytes), cudaMemcpyHostToDevice));
    bench_repeat(a->pool, period, bytes);
    free(host);
}

static void attn_start(struct attn *a, const struct heads *h, infer_dtype type, int32_t n_seqs,
                       int32_t rows, int32_t length)
{
    size_t slot = kern_kv_bytes(type, h->dim), dim = (size_t)(h->n * h->dim);
    size_t blocks = (size_t)n_seqs * (size_t)((length + BLOCK - 1) / BLOCK);
    size_t n_rows = (size_t)n_seqs * (size_t)rows;
    a->part_bytes = (size_t)(h->kv * BLOCK) * slot;
    a->copy_bytes = blocks * 2 * a->part_bytes;
    a->copies = kernels_copies((double)a->copy_bytes);
    a->pool = kernels_new(a->copy_bytes * (size_t)a->copies);
    fill_cache(a, type, a->copy_bytes * (size_t)a->copies);
    make_batch(a, n_seqs, rows, length);
    size_t scratch = kern_cuda_attn_scratch(h->n, h->dim, n_seqs, (int32_t)n_rows);
    a->args = (struct kern_cuda_attn_args){.kv = {.block_stride = 2 * a->part_bytes,
                                                  .k_slot = slot,
                                                  .v_slot = slot,
                                                  .tables = a->tables,
                                                  .table_stride = (length + BLOCK - 1) / BLOCK,
                                                  .block_tokens = BLOCK,
                                                  .type = type},
                                           .q = kernels_new_normal(n_rows * dim, 1.0f, 22),
                                           .q_stride = dim,
                                           .out = kernels_new(n_rows * dim * sizeof(float)),
                                           .out_stride = dim * sizeof(float),
                                           .out_rows = KERN_CUDA_ROWS_F32,
                                           .n_head = h->n,
                                           .n_head_kv = h->kv,
                                           .head_dim = h->dim,
                                           .head_dim_v = h->dim,
                                           .scale = 1.0f / sqrtf((float)h->dim),
                                           .batch = &a->batch,
                                           .scratch = kernels_new(scratch ? scratch : 1),
                                           .scratch_bytes = scratch};
}

static void attn_end(struct attn *a)
{
    void *all[] = {a->pool, a->tables,         a->seq_of,   a->pos,
                   a->seqs, (void *)a->args.q, a->args.out, a->args.scratch};
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        kernels_free(all[i]);
}

static int32_t launch_attn(void *context, int32_t i, void *stream)
{
    struct attn *a = context;
    a->args.kv.k = a->pool + (size_t)(i % a->copies) * a->copy_bytes;
    a->args.kv.v = a->args.kv.k + a->part_bytes;
    return a->card->kernels.attn.paged(&a->args, stream);
}

static void decode_lines(const struct kernels_card *card, const struct heads *heads,
                         infer_dtype type, const char *type_name)
{
    static const int32_t seqs[] = {1, 8, 64}, lengths[] = {128, 2048, 8192};
    for (size_t s = 0; s < BASE_COUNT(seqs); s++) {
        printf("decode %-5s %2d seqs ", type_name, (int)seqs[s]);
        for (size_t l = 0; l < BASE_COUNT(lengths); l++) {
            struct attn attn = {.card = card};
            char name[64];
            attn_start(&attn, heads, type, seqs[s], 1, lengths[l]);
            snprintf(name, sizeof name, "attn %sdecode %s seqs=%d ctx=%d",
                     heads == &wide ? "wide " : "", type_name, (int)seqs[s], (int)lengths[l]);
            kernels_cell(card, name, launch_attn, &attn, attn.copies, (double)attn.copy_bytes, 0);
            attn_end(&attn);
        }
        printf("\n");
    }
}

static void prefill_line(const struct kernels_card *card, const struct heads *heads,
                         infer_dtype type, const char *type_name)
{
    static const int32_t lengths[] = {512, 2048, 8192};
    printf("prefill %-5s        ", type_name);
    for (size_t l = 0; l < BASE_COUNT(lengths); l++) {
        struct attn attn = {.card = card};
        double n = lengths[l];
        char name[64];
        attn_start(&attn, heads, type, 1, lengths[l], lengths[l]);
        snprintf(name, sizeof name, "attn %sprefill %s n=%d", heads == &wide ? "wide " : "",
                 type_name, (int)lengths[l]);
        /* Two products over the half of the square that the mask leaves. */
        kernels_cell(card, name, launch_attn, &attn, attn.copies, 0,
                     4.0 * heads->n * heads->dim * n * (n + 1) / 2);
        attn_end(&attn);
    }
    printf("\n");
}

/* --- texts of an encoder: heads of MiniLM or of BERT, exact or as F16 --- */

#define TEXT_ROWS 4096

struct texts {
    const struct kernels_card *card;
    struct kern_cuda_text_args args;
};

static int32_t launch_text(void *context, int32_t i, void *stream)
{
    const struct texts *t = context;
    (void)i;
    return t->card->kernels.text.attend(&t->args, stream);
}

static void text_cell(const struct kernels_card *card, int32_t dim, int32_t exact, int32_t length)
{
    enum { ENCODER_HEADS = 12, TILES = TEXT_ROWS / KERN_CUDA_TEXT_QUERIES };
    const size_t width = (size_t)ENCODER_HEADS * (size_t)dim;
    struct kern_cuda_text_tile tiles[TILES];
    char name[64];
    for (int32_t i = 0; i < TILES; i++) {
        const int32_t row = i * KERN_CUDA_TEXT_QUERIES;
        tiles[i] = (struct kern_cuda_text_tile){row / length * length, length, row % length};
    }
    float *qkv = kernels_new_normal(TEXT_ROWS * 3 * width, 1.0f, 23);
    struct texts t = {.card = card,
                      .args = {.q = qkv,
                               .k = qkv + width,
                               .v = qkv + 2 * width,
                               .stride = 3 * width,
                               .out = kernels_new(TEXT_ROWS * width * sizeof(float)),
                               .out_stride = width * sizeof(float),
                               .out_rows = KERN_CUDA_ROWS_F32,
                               .n_head = ENCODER_HEADS,
                               .n_head_kv = ENCODER_HEADS,
                               .head_dim = dim,
                               .scale = 1.0f / sqrtf((float)dim),
                               .exact = exact,
                               .tiles = upload(tiles, sizeof tiles),
                               .n_tiles = TILES}};
    snprintf(name, sizeof name, "attn text %s d=%d n=%d", exact ? "F32" : "F16", (int)dim,
             (int)length);
    kernels_cell(card, name, launch_text, &t, 1, 0,
                 4.0 * TEXT_ROWS * (double)length * (double)width);
    kernels_free(qkv);
    kernels_free(t.args.out);
    kernels_free((void *)t.args.tiles);
}

static void text_line(const struct kernels_card *card, int32_t dim, int32_t exact)
{
    static const int32_t lengths[] = {64, 256, 512};
    printf("texts %s heads of %-3d ", exact ? "F32" : "F16", (int)dim);
    for (size_t i = 0; i < BASE_COUNT(lengths); i++)
        text_cell(card, dim, exact, lengths[i]);
    printf("\n");
}

void kernels_attn(const struct kernels_card *card)
{
    if (!card->kernels.attn.paged) {
        printf("attention: none for this card, skipped\n");
        return;
    }
    printf("attention, a layer of 8B; us, %% of a copy, for 128, 2048, 8192 positions\n");
    decode_lines(card, &usual, INFER_DTYPE_F16, "F16");
    decode_lines(card, &usual, INFER_DTYPE_Q8_0, "Q8_0");
    decode_lines(card, &usual, INFER_DTYPE_F8_E4M3, "F8");
    printf("attention; us, TFLOP/s, for 512, 2048, 8192 rows\n");
    prefill_line(card, &usual, INFER_DTYPE_F16, "F16");
    prefill_line(card, &usual, INFER_DTYPE_Q8_0, "Q8_0");
    prefill_line(card, &usual, INFER_DTYPE_F8_E4M3, "F8");
    printf("attention, 4 heads of 512 for 32 queries; as above\n");
    decode_lines(card, &wide, INFER_DTYPE_F16, "F16");
    prefill_line(card, &wide, INFER_DTYPE_F16, "F16");
    printf("attention of encoders, 4096 rows, 12 heads; us, TFLOP/s, for texts of 64, 256, 512\n");
    for (int32_t exact = 0; exact < 2; exact++) {
        text_line(card, 32, exact);
        text_line(card, 64, exact);
    }
}

/* --- small kernels --- */

static const int32_t row_counts[] = {1, 8, 64, 2048};

struct rows {
    const struct kernels_card *card;
    float *x, *z, *w, *cs;
    void *y;
    int32_t *ids;
    int32_t n_rows, n, form;
    struct attn attn;
};

static int32_t launch_norm(void *context, int32_t i, void *stream)
{
    const struct rows *r = context;
    (void)i;
    size_t n = (size_t)r->n;
    struct kern_cuda_norm_args args = {.y = r->y,
                                       .y_stride = r->form == KERN_CUDA_ROWS_Q8
                                                       ? kern_act_q8_bytes(r->n)
                                                   : r->form == KERN_CUDA_ROWS_BF16 ? 2 * n
                                                                                    : 4 * n,
                                       .x = r->x,
                                       .x_stride = n,
                                       .w = r->w,
                                       .n_rows = r->n_rows,
                                       .n = r->n,
                                       .rows_type = r->form,
                                       .eps = 1e-5f};
    return r->card->kernels.rows.norm(&args, stream);
}

static int32_t launch_gate(void *context, int32_t i, void *stream)
{
    const struct rows *r = context;
    (void)i;
    const struct kern_cuda_gate_args args = {.y = r->y,
                                             .y_stride = (size_t)r->n * 2,
                                             .rows_type = KERN_CUDA_ROWS_BF16,
                                             .gate = r->x,
                                             .up = r->z,
                                             .stride = (size_t)r->n,
                                             .up_stride = (size_t)r->n,
                                             .act = KERN_CUDA_ACT_SILU,
                                             .n_rows = r->n_rows,
                                             .n = r->n};
    return r->card->kernels.rows.gate(&args, stream);
}

/* As many experts a row, and as wide rows, as there is memory for. */
#define EXPERTS     7
#define EXPERTS_DIM 2048

/* The sum of experts and of what stands beside them; form != 0: each has a norm. */
static int32_t launch_combine(void *context, int32_t i, void *stream)
{
    const struct rows *r = context;
    (void)i;
    const struct kern_cuda_combine_args args = {.x = r->y,
                                                .experts = r->x,
                                                .weights = r->w,
                                                .beside = r->z,
                                                .norm = r->form ? r->w : NULL,
                                                .sum_norm = r->form ? r->w : NULL,
                                                .by_norm = r->form ? r->w : NULL,
                                                .eps = 1e-5f,
                                                .factor = 1,
                                                .n_rows = r->n_rows,
                                                .n_used = EXPERTS,
                                                .n = r->n};
    return r->card->kernels.moe.combine(&args, stream);
}

static int32_t launch_argmax(void *context, int32_t i, void *stream)
{
    const struct rows *r = context;
    (void)i;
    return r->card->kernels.rows.argmax(r->ids, r->x, r->n_rows, r->n, stream);
}

static int32_t launch_store(void *context, int32_t i, void *stream)
{
    struct rows *r = context;
    r->attn.store.kv.k = r->attn.pool + (size_t)(i % r->attn.copies) * r->attn.copy_bytes;
    r->attn.store.kv.v = r->attn.store.kv.k + r->attn.part_bytes;
    return r->card->kernels.attn.store(&r->attn.store, stream);
}

static void rows_line(struct rows *r, const char *what, bench_launch_fn *launch, double row_bytes,
                      int32_t n)
{
    char name[64];
    r->n = n;
    printf("%-20s", what);
    for (size_t i = 0; i < BASE_COUNT(row_counts); i++) {
        if (n == VOCAB && row_counts[i] > 64)
            continue;
        r->n_rows = row_counts[i];
        snprintf(name, sizeof name, "rows %s n=%d", what, (int)r->n_rows);
        kernels_cell(r->card, name, launch, r, 1, row_bytes * r->n_rows, 0);
    }
    printf("\n");
}

/* Cosines and sines of each row's position, as rotary embedding wants them. */
static float *new_angles(int32_t n_rows)
{
    size_t n = (size_t)n_rows * HEAD_DIM;
    float *host = malloc(n * sizeof *host);
    if (!host)
        exit(1);
    for (int32_t r = 0; r < n_rows; r++)
        for (int32_t i = 0; i < HEAD_DIM / 2; i++) {
            double angle = r * pow(5e5, -2.0 * i / HEAD_DIM);
            host[r * HEAD_DIM + i] = (float)cos(angle);
            host[r * HEAD_DIM + HEAD_DIM / 2 + i] = (float)sin(angle);
        }
    float *card = upload(host, n * sizeof *host);
    free(host);
    return card;
}

static void store_line(struct rows *r)
{
    char name[64];
    printf("%-20s", "store F16");
    for (size_t i = 0; i < BASE_COUNT(row_counts); i++) {
        int32_t n = row_counts[i], prefill = n > 64;
        attn_start(&r->attn, &usual, INFER_DTYPE_F16, prefill ? 1 : n, prefill ? n : 1, 2048);
        r->attn.store = (struct kern_cuda_store_args){.kv = r->attn.args.kv,
                                                      .q = r->x,
                                                      .q_stride = DIM,
                                                      .k = r->z,
                                                      .v = r->z,
                                                      .k_stride = KV_HEADS * HEAD_DIM,
                                                      .v_stride = KV_HEADS * HEAD_DIM,
                                                      .cs = r->cs,
                                                      .cs_stride = HEAD_DIM,
                                                      .rope_pairs = 1,
                                                      .n_head = HEADS,
                                                      .n_head_kv = KV_HEADS,
                                                      .head_dim = HEAD_DIM,
                                                      .head_dim_v = HEAD_DIM,
                                                      .n_rot = HEAD_DIM,
                                                      .batch = &r->attn.batch};
        snprintf(name, sizeof name, "rows store F16 n=%d", (int)n);
        kernels_cell(r->card, name, launch_store, r, r->attn.copies,
                     (double)n * (DIM * 8 + KV_HEADS * HEAD_DIM * 2 * (4 + 2)), 0);
        attn_end(&r->attn);
    }
    printf("\n");
}

void kernels_rows(const struct kernels_card *card)
{
    size_t most = (size_t)2048 * FFN; /* floats: more than 64 rows of the vocabulary */
    struct rows r = {.card = card,
                     .x = kernels_new_normal(most, 0.5f, 31),
                     .z = kernels_new_normal(most, 0.5f, 32),
                     .w = kernels_new_normal(FFN, 1.0f, 33),
                     .cs = new_angles(2048),
                     .y = kernels_new(most * sizeof(float)),
                     .ids = kernels_new(2048 * sizeof(int32_t))};
    printf("small kernels; us, %% of a copy, for 1, 8, 64, 2048 rows\n");
    if (card->kernels.rows.norm) {
        r.form = KERN_CUDA_ROWS_F32;
        rows_line(&r, "norm 4096 F32", launch_norm, DIM * 8.0, DIM);
        r.form = KERN_CUDA_ROWS_BF16;
        rows_line(&r, "norm 4096 BF16", launch_norm, DIM * 6.0, DIM);
        r.form = KERN_CUDA_ROWS_Q8;
        rows_line(&r, "norm 4096 Q8", launch_norm, DIM * 4.0 + (double)kern_act_q8_bytes(DIM), DIM);
    }
    if (card->kernels.rows.gate)
        rows_line(&r, "gate 14336 BF16", launch_gate, FFN * 10.0, FFN);
    for (r.form = 0; card->kernels.moe.combine && r.form < 2; r.form++)
        rows_line(&r, r.form ? "7 experts 2048 normed" : "7 experts 2048", launch_combine,
                  EXPERTS_DIM * 4.0 * (EXPERTS + 3), EXPERTS_DIM);
    if (card->kernels.rows.argmax)
        rows_line(&r, "argmax 128256", launch_argmax, VOCAB * 4.0, VOCAB);
    if (card->kernels.attn.store)
        store_line(&r);
    kernels_free(r.x);
    kernels_free(r.z);
    kernels_free(r.w);
    kernels_free(r.cs);
    kernels_free(r.y);
    kernels_free(r.ids);
}
