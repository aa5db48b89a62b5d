/* Latent attention: one row a sequence over the cache, rows of a prompt, and the products of each
 * head, of DeepSeek V3 (128 heads) and V2 Lite (16). */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 64, NOPE = 128, LORA = KERN_CUDA_LATENT_VALUE, WIDTH = KERN_CUDA_LATENT_KEY };

struct latent {
    const struct kernels_card *card;
    struct kern_cuda_attn_args args;
    struct kern_cuda_batch batch;
    uint8_t *pool;
    size_t copy_bytes; /* one layer's cache */
    int32_t copies;
};

static void *upload(const void *host, size_t bytes)
{
    void *p = kernels_new(bytes);
    BENCH_MUST(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
    return p;
}

/* The last `rows` positions of each sequence; blocks lie scattered. */
static void begin(struct latent *l, infer_dtype type, int32_t heads, int32_t n_seqs, int32_t rows,
                  int32_t length)
{
    const size_t n_blocks = (size_t)(length / BLOCK), all = n_blocks * (size_t)n_seqs;
    const size_t slot = kern_kv_bytes(type, WIDTH), vectors = (size_t)(n_seqs * rows * heads);
    int32_t *tables = malloc(all * sizeof *tables);
    struct kern_cuda_seq *seqs = malloc((size_t)n_seqs * sizeof *seqs);
    if (!tables || !seqs)
        exit(1);
    for (size_t i = 0; i < all; i++) /* a prime that divides no number of blocks here */
        tables[i] = (int32_t)(i * 7919 % all);
    for (int32_t s = 0; s < n_seqs; s++)
        seqs[s] = (struct kern_cuda_seq){length - rows, s * rows, rows};
    l->copy_bytes = all * BLOCK * slot;
    l->copies = kernels_copies((double)l->copy_bytes);
    l->pool = kernels_new(l->copy_bytes * (size_t)l->copies);
    bench_normal(l->pool, l->copy_bytes * (size_t)l->copies,
                 type == INFER_DTYPE_BF16 ? BENCH_BF16 : BENCH_F16, 0.5f, 51);
    l->batch = (struct kern_cuda_batch){.seqs = upload(seqs, (size_t)n_seqs * sizeof *seqs),
                                        .n_rows = n_seqs * rows,
                                        .n_seqs = n_seqs,
                                        .seq_rows = rows,
                                        .seq_length = length};
    const size_t scratch = kern_cuda_latent_scratch(LORA, (int32_t)vectors, 0);
    l->args = (struct kern_cuda_attn_args){.kv = {.block_stride = BLOCK * slot,
                                                  .k_slot = slot,
                                                  .v_slot = slot,
                                                  .tables = upload(tables, all * sizeof *tables),
                                                  .table_stride = (int32_t)n_blocks,
                                                  .block_tokens = BLOCK,
                                                  .type = type},
                                           .q = kernels_new_normal(vectors * WIDTH, 1.0f, 52),
                                           .q_stride = (size_t)heads * WIDTH,
                                           .out = kernels_new(vectors * LORA * 2),
                                           .out_stride = (size_t)heads * LORA * 2,
                                           .out_rows = KERN_CUDA_ROWS_BF16,
                                           .n_head = heads,
                                           .n_head_kv = 1,
                                           .head_dim = WIDTH,
                                           .head_dim_v = LORA,
                                           .scale = 1.0f / sqrtf(NOPE + WIDTH - LORA),
                                           .batch = &l->batch,
                                           .scratch = kernels_new(scratch),
                                           .scratch_bytes = scratch};
    free(tables);
    free(seqs);
}

static void end(struct latent *l)
{
    void *all[] = {l->pool,     (void *)l->args.kv.tables, (void *)l->batch.seqs,
                   l->args.out, (void *)l->args.q,         l->args.scratch};
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        kernels_free(all[i]);
}

static int32_t launch_attend(void *context, int32_t i, void *stream)
{
    struct latent *l = context;
    l->args.kv.k = l->args.kv.v = l->pool + (size_t)(i % l->copies) * l->copy_bytes;
    return l->card->kernels.latent.attend(&l->args, stream);
}

static void decode_line(const struct kernels_card *card, infer_dtype type, const char *type_name,
                        int32_t heads)
{
    static const int32_t shapes[][2] = {{1, 2048}, {1, 8192}, {8, 8192}, {64, 2048}};
    printf("decode %-4s %3d heads ", type_name, (int)heads);
    for (size_t s = 0; s < BASE_COUNT(shapes); s++) {
        struct latent l = {.card = card};
        char name[80];
        begin(&l, type, heads, shapes[s][0], 1, shapes[s][1]);
        snprintf(name, sizeof name, "latent decode %s heads=%d seqs=%d ctx=%d", type_name,
                 (int)heads, (int)shapes[s][0], (int)shapes[s][1]);
        kernels_cell(card, name, launch_attend, &l, l.copies, (double)l.copy_bytes,
                     2.0 * heads * shapes[s][0] * shapes[s][1] * (WIDTH + LORA));
        end(&l);
    }
    printf("\n");
}

static void prompt_line(const struct kernels_card *card, int32_t heads)
{
    static const int32_t lengths[] = {512, 2048};
    printf("prompt BF16 %3d heads ", (int)heads);
    for (size_t i = 0; i < BASE_COUNT(lengths); i++) {
        struct latent l = {.card = card};
        char name[80];
        const double n = lengths[i];
        begin(&l, INFER_DTYPE_BF16, heads, 1, lengths[i], lengths[i]);
        snprintf(name, sizeof name, "latent prompt BF16 heads=%d rows=%d", (int)heads,
                 (int)lengths[i]);
        kernels_cell(card, name, launch_attend, &l, l.copies, 0, heads * n * n * (WIDTH + LORA));
        end(&l);
    }
    printf("\n");
}

/* --- products of each head --- */

struct heads {
    const struct kernels_card *card;
    struct kernels_weights w; /* the matrices of all heads, one behind the other */
    void *x;
    float *y;
    float *one;     /* a row for the kernel of few rows, which reads floats */
    int32_t *order; /* 0, 1, 2 ... */
    int32_t n_heads, rows, n;
};

static int32_t launch_one(void *context, int32_t i, void *stream)
{
    const struct heads *h = context;
    struct kern_cuda_few_args args = {.parts = {{.w = kernels_weights_copy(&h->w, i % h->w.copies),
                                                 .y = h->y,
                                                 .y_stride = (size_t)h->n}},
                                      .n_parts = 1,
                                      .m = h->n_heads,
                                      .x = h->one,
                                      .x_stride = (size_t)h->w.matrix.k,
                                      .x_div = 1,
                                      .expert = h->order};
    args.parts[0].w.n = h->n;
    return h->card->kernels.product.few(&args, stream);
}

static int32_t launch_heads(void *context, int32_t i, void *stream)
{
    const struct heads *h = context;
    struct kern_cuda_many_args args = {.w = kernels_weights_copy(&h->w, i % h->w.copies),
                                       .x = h->x,
                                       .x_stride = (size_t)h->w.matrix.k * 2,
                                       .y = h->y,
                                       .y_stride = (size_t)h->n,
                                       .m = h->rows,
                                       .n_experts = h->n_heads,
                                       .x_each = h->n_heads,
                                       .y_each = h->n_heads};
    args.w.n = h->n;
    return h->card->kernels.product.many(&args, stream);
}

static void heads_line(const struct kernels_card *card, const char *what, int32_t n_heads,
                       int32_t n, int32_t k)
{
    static const int32_t rows[] = {1, 8, 64};
    struct heads h = {.card = card, .n_heads = n_heads, .n = n};
    const double bytes = kernels_file_bytes(INFER_DTYPE_BF16, n * n_heads, k);
    const size_t most = (size_t)rows[2] * (size_t)n_heads;
    if (!kernels_weights_make(card, &h.w, INFER_DTYPE_BF16, n * n_heads, k, kernels_copies(bytes)))
        return;
    h.x = kernels_new(most * (size_t)k * 2);
    h.y = kernels_new(most * (size_t)n * sizeof(float));
    bench_normal(h.x, most * (size_t)k * 2, BENCH_BF16, 1.0f, 53);
    int32_t *order = malloc((size_t)n_heads * sizeof *order);
    if (!order)
        exit(1);
    for (int32_t i = 0; i < n_heads; i++)
        order[i] = i;
    h.order = upload(order, (size_t)n_heads * sizeof *order);
    h.one = kernels_new_normal((size_t)n_heads * (size_t)k, 1.0f, 54);
    free(order);
    printf("%s BF16 %3d heads   ", what, (int)n_heads);
    char few[80];
    snprintf(few, sizeof few, "latent %s few BF16 heads=%d rows=1", what, (int)n_heads);
    kernels_cell(card, few, launch_one, &h, h.w.copies, bytes, 0);
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        char name[80];
        h.rows = rows[i];
        snprintf(name, sizeof name, "latent %s BF16 heads=%d rows=%d", what, (int)n_heads,
                 (int)rows[i]);
        kernels_cell(card, name, launch_heads, &h, h.w.copies, bytes, 0);
    }
    printf("\n");
    kernels_free(h.x);
    kernels_free(h.y);
    kernels_free(h.one);
    kernels_free(h.order);
    kernels_weights_free(&h.w);
}

void kernels_latent(const struct kernels_card *card)
{
    if (!card->kernels.latent.attend) {
        printf("latent attention: none for this card, skipped\n");
        return;
    }
    printf("latent attention; us, %% of a copy, TFLOP/s, for 1 x 2048, 1 x 8192, 8 x 8192, 64 x "
           "2048 positions; of prompts for 512, 2048 rows\n");
    for (int32_t heads = 16; heads <= 128; heads *= 8) {
        decode_line(card, INFER_DTYPE_BF16, "BF16", heads);
        decode_line(card, INFER_DTYPE_F8_E4M3, "F8", heads);
        prompt_line(card, heads);
    }
    printf("products of each head; us, %% of a copy, for 1 row by `few`, and 1, 8, 64 by `many`\n");
    heads_line(card, "k_b", 128, LORA, NOPE);
    heads_line(card, "v_b", 128, NOPE, LORA);
}
