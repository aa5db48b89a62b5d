/* Latent attention on the card, as model/latent.c has it: queries go into the space of the latents,
 * attention runs over these, and each head's values are made of the weighted latents.
 *
 * Queries in that space are several times as wide as the stream. Of long prompts they are made for
 * some heads at a time, so that they need no more room than those of a few hundred rows. */
#include "model/gpu/run.h"

/* Heads that are taken together of any number of rows, whole tiles of the kernel; of fewer rows
 * there is room for more of them. */
#define HEADS_TOGETHER 16

static size_t width_of(const struct model_hparams *hp)
{
    return (size_t)hp->kv_lora + (size_t)hp->n_rot;
}

/* ------------------------------------------------------------------------ memory */

int32_t gpu_latent_vectors(const struct model_hparams *hp, int32_t max_rows)
{
    return max_rows * BASE_MIN(hp->n_heads, HEADS_TOGETHER);
}

infer_status gpu_latent_begin(struct model_gpu_run *run)
{
    int32_t n = run->model->hp.n_heads;
    if (!run->model->hp.kv_lora)
        return INFER_OK;
    int32_t *heads = base_new_raw(&run->alloc, (size_t)n, sizeof *heads);
    if (!heads)
        return INFER_ERR_NO_MEMORY;
    for (int32_t h = 0; h < n; h++)
        heads[h] = h;
    size_t at = (size_t)((uint8_t *)run->latent.heads - (uint8_t *)run->memory.data);
    infer_status st = device_buffer_upload(&run->memory, at, heads, (size_t)n * sizeof *heads);
    base_free(&run->alloc, heads);
    return st;
}

/* ---------------------------------------------------------------- products by head */

/* Vectors of heads: of row i and head h at x + (i * n_heads + h) * stride bytes. */
struct pieces {
    const void *x;
    size_t stride;
    int32_t k, n_heads;
    int32_t form; /* KERN_CUDA_ROWS_* */
};

/* One row reads floats; more go through tensor cores. */
static int is_one(const struct model_gpu_run *run)
{
    return run->batch.n_rows == 1 && !run->invariant;
}

static int32_t form_of(const struct model_gpu_run *run, const struct gpu_weight *w)
{
    return is_one(run) ? KERN_CUDA_ROWS_F32 : run->kernels->many_rows(w->matrix.type);
}

/* The first k of every `stride` floats, in the form that the products want; `to` has room. */
static struct pieces pieces_of(struct model_gpu_run *run, const float *x, size_t stride, int32_t k,
                               int32_t n_heads, int32_t form, void *to)
{
    struct pieces p = {x, stride * sizeof *x, k, n_heads, form};
    if (form == KERN_CUDA_ROWS_F32 && (is_one(run) || p.stride % 16 == 0))
        return p;
    p.x = to;
    p.stride = gpu_row_bytes(form, k);
    gpu_launched(run,
                 run->kernels->rows.convert(to, p.stride, form, x, stride,
                                            run->batch.n_rows * n_heads, k, run->stream),
                 "a conversion");
    return p;
}

/* y of row i and head h at y + (i * y_heads + h) * y_stride: heads first .. first + n - 1 of w,
 * whose vectors begin at p. */
static void multiply(struct model_gpu_run *run, const struct gpu_weight *w, int32_t first,
                     int32_t n, const struct pieces *p, float *y, size_t y_stride, int32_t y_heads)
{
    struct kern_cuda_matrix m = w->matrix;
    const float *scales = w->scales ? w->scales + first : NULL;
    if (is_one(run)) {
        const struct kern_cuda_few_args few = {.parts = {{.w = m, .y = y, .y_stride = y_stride}},
                                               .n_parts = 1,
                                               .m = n,
                                               .x = p->x,
                                               .x_stride = p->stride / sizeof(float),
                                               .x_div = 1,
                                               .expert = run->latent.heads + first,
                                               .part_scale = {w->scales}};
        gpu_launched(run, run->kernels->product.few(&few, run->stream), "a product of each head");
        return;
    }
    m.body += (size_t)first * (size_t)m.n * m.body_stride;
    m.side = m.side ? m.side + (size_t)first * (size_t)m.n * m.side_stride : NULL;
    const struct kern_cuda_many_args many = {.w = m,
                                             .x = p->x,
                                             .x_stride = p->stride,
                                             .y = y,
                                             .y_stride = y_stride,
                                             .m = run->batch.n_rows,
                                             .n_experts = n,
                                             .x_each = p->n_heads,
                                             .y_each = y_heads,
                                             .part_scale = scales};
    gpu_launched(run, run->kernels->product.many(&many, run->stream), "a product of each head");
}

/* ---------------------------------------------------------------------- attention */

static struct kern_cuda_kv latents_of(const struct model_gpu_run *run, const struct model_layer *l)
{
    struct kern_cuda_kv kv = gpu_kv_of(run, l);
    kv.v = kv.k;
    kv.v_slot = kv.k_slot;
    return kv;
}

/* Queries, through their own compression where the model has one; latents beside them. */
static void make_queries(struct model_gpu_run *run, int32_t i)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct gpu_weight *q_a = gpu_weight_of(run->gpu, i, MODEL_ATTN_Q_A);
    const struct gpu_weight *direct = gpu_weight_of(run->gpu, i, MODEL_ATTN_Q);
    int compressed = q_a->matrix.body != NULL;
    const struct gpu_product products[] = {
        {gpu_weight_of(run->gpu, i, MODEL_ATTN_KV_A), NULL, run->latent.kv, 0},
        {compressed ? q_a : direct, NULL, compressed ? run->latent.q_a : run->qkv, 0},
    };
    const struct gpu_product q_b = {gpu_weight_of(run->gpu, i, MODEL_ATTN_Q_B), NULL, run->qkv, 0};
    struct gpu_rows in = gpu_mix_input(run, i);
    gpu_products(run, &in, products, 2, 0);
    if (!compressed)
        return;
    struct gpu_rows a = gpu_rows_plain(run->latent.q_a, hp->q_lora, run->batch.n_rows);
    a.kind = GPU_ROWS_NORM;
    a.w = gpu_weight_of(run->gpu, i, MODEL_ATTN_Q_A_NORM)->vector;
    gpu_products(run, &a, &q_b, 1, 0);
}

/* The rotated part of the queries of n heads, and with the first of them the latents. */
static void store(struct model_gpu_run *run, int32_t i, int32_t first, int32_t n)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct model_layer *l = &run->model->weights.layers[i];
    size_t dim = (size_t)l->head_dim;
    const struct kern_cuda_latent_store_args args = {
        .kv = latents_of(run, l),
        .latent = first ? NULL : run->latent.kv,
        .latent_stride = width_of(hp),
        .norm = gpu_weight_of(run->gpu, i, MODEL_ATTN_KV_A_NORM)->vector,
        .eps = hp->norm_eps,
        .q = run->qkv + (size_t)first * dim,
        .q_stride = (size_t)l->n_heads * dim,
        .to = run->latent.absorbed,
        .to_stride = (size_t)n * width_of(hp),
        .cs = run->rope[MODEL_ROPE_MAIN],
        .cs_stride = (size_t)l->n_rot,
        .rope_pairs = run->model->arch->rope == MODEL_ROPE_PAIRS,
        .n_head = n,
        .head_dim = l->head_dim,
        .n_latent = hp->kv_lora,
        .n_rot = l->n_rot,
        .batch = &run->batch,
    };
    gpu_launched(run, run->kernels->latent.store(&args, run->stream), "storing latents");
}

/* Weighted latents of n heads, as pieces of `form`. */
static struct pieces attend(struct model_gpu_run *run, int32_t i, int32_t first, int32_t n,
                            int32_t form)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct model_layer *l = &run->model->weights.layers[i];
    const float *sinks = gpu_weight_of(run->gpu, i, MODEL_ATTN_SINKS)->vector;
    size_t lora = (size_t)hp->kv_lora;
    int bf16 = form == KERN_CUDA_ROWS_BF16 && lora % 8 == 0; /* as the product reads it */
    const struct kern_cuda_attn_args args = {
        .kv = latents_of(run, l),
        .q = run->latent.absorbed,
        .q_stride = (size_t)n * width_of(hp),
        .out = bf16 ? run->latent.form : run->latent.mixed,
        .out_stride = (size_t)n * lora * (bf16 ? 2 : sizeof(float)),
        .out_rows = bf16 ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_F32,
        .n_head = n,
        .n_head_kv = 1,
        .head_dim = (int32_t)width_of(hp),
        .head_dim_v = hp->kv_lora,
        .window = l->window,
        .chunk = l->chunk,
        .scale = l->attn_scale,
        .softcap = hp->attn_softcap,
        .sinks = sinks ? sinks + first : NULL,
        .batch = &run->batch,
        .scratch = run->attn_scratch,
        .scratch_bytes = run->attn_scratch_bytes,
        .part = run->invariant ? GPU_INVARIANT_PART : 0,
    };
    gpu_launched(run, run->kernels->latent.attend(&args, run->stream), "attention");
    if (bf16)
        return (struct pieces){run->latent.form, lora * 2, hp->kv_lora, n, form};
    return pieces_of(run, run->latent.mixed, lora, hp->kv_lora, n, form, run->latent.form);
}

void gpu_latent_attention(struct model_gpu_run *run, int32_t i)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct model_layer *l = &run->model->weights.layers[i];
    const struct gpu_weight *k_b = gpu_weight_of(run->gpu, i, MODEL_ATTN_K_B);
    const struct gpu_weight *v_b = gpu_weight_of(run->gpu, i, MODEL_ATTN_V_B);
    size_t dim_v = (size_t)l->head_dim_v;
    int32_t heads = l->n_heads, n_rows = run->batch.n_rows, form = form_of(run, k_b);
    int32_t most = run->latent.n_vectors / n_rows;
    most = most >= heads ? heads : most / HEADS_TOGETHER * HEADS_TOGETHER;
    make_queries(run, i);
    struct pieces q =
        pieces_of(run, run->qkv, (size_t)l->head_dim, k_b->matrix.k, heads, form, run->forms[form]);
    for (int32_t first = 0, n; first < heads; first += n) {
        n = BASE_MIN(most, heads - first);
        store(run, i, first, n);
        multiply(run, k_b, first, n, &q, run->latent.absorbed, width_of(hp), n);
        const struct pieces mixed = attend(run, i, first, n, form_of(run, v_b));
        multiply(run, v_b, first, n, &mixed, run->attn + (size_t)first * dim_v, dim_v, heads);
        q.x = (const uint8_t *)q.x + (size_t)n * q.stride;
    }
    struct gpu_rows out = gpu_rows_plain(run->attn, heads * l->head_dim_v, n_rows);
    gpu_join(run, &out, gpu_weight_of(run->gpu, i, MODEL_ATTN_OUT),
             gpu_weight_of(run->gpu, i, MODEL_ATTN_OUT_BIAS),
             gpu_weight_of(run->gpu, i, MODEL_ATTN_POST_NORM));
}
