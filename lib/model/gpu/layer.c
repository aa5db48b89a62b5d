/* Attention and feed-forward of one layer, and what others have in the place of attention. */
#include "model/gpu/run.h"

#include "model/attention.h"
#include "model/deltanet.h"
#include "model/latent.h"
#include "model/mamba.h"

#include <infer/types.h>

gpu_mix_fn *gpu_mix_of(const struct model_layer *layer)
{
    static const struct {
        model_mix_fn *host;
        gpu_mix_fn *card;
    } all[] = {
        {model_attention, gpu_attention},     {model_latent_attention, gpu_latent_attention},
        {model_mamba2, gpu_mamba2},           {model_deltanet, gpu_deltanet},
        {model_deltanet_tiled, gpu_deltanet},
    };
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        if (layer->mix == all[i].host)
            return all[i].card;
    return NULL;
}

struct kern_cuda_kv gpu_kv_of(const struct model_gpu_run *run, const struct model_layer *layer)
{
    const struct model_kv_view *view = &run->kv[layer->kv_group];
    uint8_t *k = view->base + (size_t)layer->kv_at * view->layer_stride;
    size_t group = (size_t)layer->kv_group * (size_t)run->max_seqs * (size_t)run->table_stride;
    return (struct kern_cuda_kv){
        .k = k,
        .v = k + view->v_offset,
        .block_stride = view->block_stride,
        .k_slot = view->k_slot,
        .v_slot = view->v_slot,
        .tables = run->card.tables + group,
        .table_stride = run->table_stride,
        .block_tokens = view->block_tokens,
        .type = view->type,
    };
}

/* Queries, keys and values of a row lie side by side, so that one product can make them all. */
struct qkv {
    float *q, *k, *v;
    size_t stride;
};

static struct qkv qkv_of(const struct model_gpu_run *run, const struct model_layer *l)
{
    size_t q = (size_t)model_layer_weight(l, MODEL_ATTN_Q)->n;
    size_t k = (size_t)l->n_heads_kv * (size_t)l->head_dim;
    size_t v = (size_t)l->n_heads_kv * (size_t)l->head_dim_v;
    return (struct qkv){run->qkv, run->qkv + q, run->qkv + q + k, q + k + v};
}

static struct kern_cuda_store_args store_args(const struct model_gpu_run *run, int32_t i,
                                              const struct kern_cuda_kv *kv)
{
    const struct model_layer *l = &run->model->weights.layers[i];
    const struct model_hparams *hp = &run->model->hp;
    const uint32_t traits = run->model->arch->traits;
    const struct model_weight *q_norm = model_layer_weight(l, MODEL_ATTN_Q_NORM);
    const struct model_weight *k_norm = model_layer_weight(l, MODEL_ATTN_K_NORM);
    const struct qkv qkv = qkv_of(run, l);
    return (struct kern_cuda_store_args){
        .kv = *kv,
        .q = qkv.q,
        .q_stride = qkv.stride,
        .gates = traits & MODEL_QUERY_GATE ? run->q_gate : NULL,
        .k = l->reads_kv ? NULL : qkv.k,
        .v = model_layer_weight(l, MODEL_ATTN_V)->data ? qkv.v : NULL,
        .k_stride = qkv.stride,
        .v_stride = qkv.stride,
        .cs = l->rope >= 0 ? run->rope[l->rope] : NULL,
        .cs_stride = (size_t)l->n_rot,
        .q_norm = gpu_weight_of(run->gpu, i, MODEL_ATTN_Q_NORM)->vector,
        .k_norm = gpu_weight_of(run->gpu, i, MODEL_ATTN_K_NORM)->vector,
        .q_norm_n = q_norm->data && q_norm->n == 1 ? q_norm->k : l->head_dim,
        .k_norm_n = k_norm->data && k_norm->n == 1 ? k_norm->k : l->head_dim,
        .q_norm_each = q_norm->data && q_norm->n > 1,
        .k_norm_each = k_norm->data && k_norm->n > 1,
        .norm_layer = run->model->arch->norm == MODEL_NORM_LAYER,
        .norm_late = (traits & MODEL_NORM_AFTER_ROPE) != 0,
        .unit = hp->qk_unit && l->rope >= 0,
        .v_norm = (traits & MODEL_VALUE_NORM) != 0,
        .eps = hp->norm_eps,
        .rope_pairs = run->model->arch->rope == MODEL_ROPE_PAIRS,
        .n_head = l->n_heads,
        .n_head_kv = l->n_heads_kv,
        .head_dim = l->head_dim,
        .head_dim_v = l->head_dim_v,
        .n_rot = l->n_rot,
        .rotated = run->kv[l->kv_group].rotated,
        .grow_scale = l->grows ? hp->temperature_scale : 0,
        .grow_offset = hp->temperature_offset,
        .grow_length = BASE_MAX(hp->temperature_length, 1),
        .batch = &run->batch,
    };
}

/* Keys and values are stored, by the kernel of attention itself where it can. Returns what
 * attention gives, in the form that the product behind it reads. */
static struct gpu_rows attend(struct model_gpu_run *run, int32_t i, const struct kern_cuda_kv *kv)
{
    const struct kern_cuda_store_args stored = store_args(run, i, kv);
    int front = run->gpu->ways & GPU_WAY_FRONT || run->gpu->ways & GPU_WAY_MEGA;
    const struct model_layer *l = &run->model->weights.layers[i];
    const struct gpu_weight *wo = gpu_weight_of(run->gpu, i, MODEL_ATTN_OUT);
    int32_t k = l->n_heads * l->head_dim_v, n_rows = run->batch.n_rows;
    int bf16 = gpu_product_form(run, wo, n_rows) == KERN_CUDA_ROWS_BF16 &&
               !gpu_lora_touches(run, wo); /* adapters read floats */
    struct gpu_rows rows = gpu_rows_plain(run->attn, k, n_rows);
    const struct qkv qkv = qkv_of(run, l);
    struct kern_cuda_attn_args args = {
        .kv = *kv,
        .q = qkv.q,
        .q_stride = qkv.stride,
        .out = bf16 ? run->forms[KERN_CUDA_ROWS_BF16] : run->attn,
        .out_stride = bf16 ? gpu_row_bytes(KERN_CUDA_ROWS_BF16, k) : (size_t)k * sizeof(float),
        .out_rows = bf16 ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_F32,
        .gates = run->model->arch->traits & MODEL_QUERY_GATE ? run->q_gate : NULL,
        .n_head = l->n_heads,
        .n_head_kv = l->n_heads_kv,
        .head_dim = l->head_dim,
        .head_dim_v = l->head_dim_v,
        .window = l->window,
        .chunk = l->chunk,
        .scale = l->attn_scale,
        .softcap = run->model->hp.attn_softcap,
        .sinks = gpu_weight_of(run->gpu, i, MODEL_ATTN_SINKS)->vector,
        .batch = &run->batch,
        .store = front ? &stored : NULL,
        .scratch = run->attn_scratch,
        .scratch_bytes = run->attn_scratch_bytes,
        .part = run->invariant ? GPU_INVARIANT_PART : 0,
    };
    if (bf16)
        rows.made = 1u << KERN_CUDA_ROWS_BF16;
    if (!front)
        gpu_launched(run, run->kernels->attn.store(&stored, run->stream),
                     "storing keys and values");
    gpu_launched(run, run->kernels->attn.paged(&args, run->stream), "attention");
    return rows;
}

struct gpu_rows gpu_mix_input(struct model_gpu_run *run, int32_t i)
{
    const struct model_gpu *g = run->gpu;
    const struct gpu_weight *norm = gpu_weight_of(g, i, MODEL_ATTN_NORM);
    const struct gpu_weight *bias = gpu_weight_of(g, i, MODEL_ATTN_NORM_BIAS);
    const struct gpu_weight *own = gpu_weight_of(g, i, MODEL_ATTN_NORM_2);
    const struct gpu_weight *ffn = gpu_weight_of(g, i, MODEL_FFN_NORM);
    if (run->parallel) {
        int apart = ffn->vector != NULL;
        const struct kern_cuda_norm_args args = {
            .y = run->parallel,
            .y_stride = (size_t)run->model->hp.n_embd * sizeof(float),
            .x = run->x,
            .x_stride = (size_t)run->model->hp.n_embd,
            .w = apart ? ffn->vector : norm->vector,
            .b = apart ? gpu_weight_of(g, i, MODEL_FFN_NORM_BIAS)->vector : bias->vector,
            .n_rows = run->batch.n_rows,
            .n = run->model->hp.n_embd,
            .rows_type = KERN_CUDA_ROWS_F32,
            .layer = run->model->arch->norm == MODEL_NORM_LAYER,
            .eps = run->model->hp.norm_eps,
        };
        gpu_launched(run, run->kernels->rows.norm(&args, run->stream), "a norm");
    }
    if (own->vector) {
        norm = own;
        bias = gpu_weight_of(g, i, MODEL_ATTN_NORM_2_BIAS);
    }
    return gpu_rows_norm(run, run->x, norm, bias, run->batch.n_rows);
}

void gpu_attention(struct model_gpu_run *run, int32_t i)
{
    const struct model_layer *l = &run->model->weights.layers[i];
    const struct model_gpu *g = run->gpu;
    const struct qkv qkv = qkv_of(run, l);
    const struct gpu_product products[] = {
        {gpu_weight_of(g, i, MODEL_ATTN_Q), gpu_weight_of(g, i, MODEL_ATTN_Q_BIAS), qkv.q,
         qkv.stride},
        {gpu_weight_of(g, i, MODEL_ATTN_K), gpu_weight_of(g, i, MODEL_ATTN_K_BIAS), qkv.k,
         qkv.stride},
        {gpu_weight_of(g, i, MODEL_ATTN_V), gpu_weight_of(g, i, MODEL_ATTN_V_BIAS), qkv.v,
         qkv.stride},
    };
    int32_t n = l->reads_kv ? 1 : products[2].w->matrix.body ? 3 : 2;
    const struct kern_cuda_kv kv = gpu_kv_of(run, l);
    struct gpu_rows in = gpu_mix_input(run, i);
    gpu_products(run, &in, products, n, 0);
    struct gpu_rows out = attend(run, i, &kv);
    gpu_join(run, &out, gpu_weight_of(g, i, MODEL_ATTN_OUT),
             gpu_weight_of(g, i, MODEL_ATTN_OUT_BIAS), gpu_weight_of(g, i, MODEL_ATTN_POST_NORM));
}

struct gpu_rows gpu_ffn_input(struct model_gpu_run *run, int32_t i)
{
    if (run->parallel)
        return gpu_rows_plain(run->parallel, run->model->hp.n_embd, run->batch.n_rows);
    return gpu_rows_norm(run, run->x, gpu_weight_of(run->gpu, i, MODEL_FFN_NORM),
                         gpu_weight_of(run->gpu, i, MODEL_FFN_NORM_BIAS), run->batch.n_rows);
}

void gpu_feed_forward(struct model_gpu_run *run, int32_t i)
{
    const struct model_gpu *g = run->gpu;
    const struct gpu_product gate = {gpu_weight_of(g, i, MODEL_FFN_GATE),
                                     gpu_weight_of(g, i, MODEL_FFN_GATE_BIAS), NULL, 0};
    const struct gpu_product up = {gpu_weight_of(g, i, MODEL_FFN_UP),
                                   gpu_weight_of(g, i, MODEL_FFN_UP_BIAS), NULL, 0};
    struct gpu_rows in = gpu_ffn_input(run, i);
    struct gpu_rows hidden = gpu_hidden(run, &in, gate.w->matrix.body ? &gate : NULL, &up, NULL);
    gpu_join(run, &hidden, gpu_weight_of(g, i, MODEL_FFN_DOWN),
             gpu_weight_of(g, i, MODEL_FFN_DOWN_BIAS), gpu_weight_of(g, i, MODEL_FFN_POST_NORM));
}
