/* Recurrent layers: Mamba 2 and gated delta networks. Their projections lie side by side in rows of
 * run->recur, in whatever order a file has them: the kernels are told where each head's part is.
 * One kernel convolves and moves the states, one gates and normalises what was read. */
#include "model/recurrent.h"

#include "model/deltanet.h"
#include "model/gpu/run.h"

#include <math.h>

/* A row: all channels, the gates, and up to two numbers a head. */
size_t gpu_recurrent_row(const struct infer_model *model)
{
    const struct model_hparams *hp = &model->hp;
    size_t floats = (size_t)model_recurrent_channels(hp) + (size_t)hp->ssm_inner;
    return hp->ssm_heads ? BASE_ALIGN_UP(floats + 2 * (size_t)hp->ssm_heads, (size_t)32) : 0;
}

static struct kern_cuda_recur_part part_of(const struct model_gpu_run *run, const float *x,
                                           int32_t outer, int32_t inner)
{
    return (struct kern_cuda_recur_part){x, gpu_recurrent_row(run->model), outer, inner};
}

/* What does not depend on the kind of layer. */
static struct kern_cuda_recur_args args_of(const struct model_gpu_run *run, int32_t i)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct model_layer *l = &run->model->weights.layers[i];
    const struct model_kv_view *view = &run->kv[l->kv_group];
    size_t group = (size_t)l->kv_group * (size_t)run->max_seqs * (size_t)run->table_stride;
    return (struct kern_cuda_recur_args){
        .states = view->base + (size_t)l->kv_at * view->layer_stride,
        .block_stride = view->block_stride,
        .tables = run->card.tables + group,
        .table_stride = run->table_stride,
        .n_channels = model_recurrent_channels(hp),
        .width = hp->ssm_conv,
        .conv = gpu_weight_of(run->gpu, i, MODEL_SSM_CONV)->vector,
        .bias = gpu_weight_of(run->gpu, i, MODEL_SSM_CONV_BIAS)->vector,
        .dt_bias = gpu_weight_of(run->gpu, i, MODEL_SSM_DT_BIAS)->vector,
        .n_head = hp->ssm_heads,
        .n_group = hp->ssm_groups,
        .dim = hp->ssm_inner / hp->ssm_heads,
        .depth = hp->ssm_state,
        .y = run->recur_y,
        .batch = &run->batch,
    };
}

/* The last product reads what the kernel leaves, in the form that it wants where the kernel makes
 * that: adapters have nothing for it. */
static void finish(struct model_gpu_run *run, int32_t i, struct kern_cuda_recur_finish_args *args)
{
    const struct gpu_weight *out = gpu_weight_of(run->gpu, i, MODEL_SSM_OUT);
    const int32_t inner = run->model->hp.ssm_inner, n_rows = run->batch.n_rows;
    struct gpu_rows rows = gpu_rows_plain(run->recur_y, inner, n_rows);
    int32_t form = gpu_product_form(run, out, n_rows);
    if (form == KERN_CUDA_ROWS_F8 || (form == KERN_CUDA_ROWS_Q8 && args->n % 32))
        form = KERN_CUDA_ROWS_F32;
    args->rows_type = form;
    args->out = form == KERN_CUDA_ROWS_F32 ? run->recur_y : run->forms[form];
    args->out_stride =
        form == KERN_CUDA_ROWS_F32 ? (size_t)inner * sizeof(float) : gpu_row_bytes(form, inner);
    args->norm_eps = run->model->hp.norm_eps;
    gpu_launched(run, run->kernels->recur.finish(args, run->stream), "a recurrent layer's gate");
    rows.made = form == KERN_CUDA_ROWS_F32 ? 0 : 1u << form;
    gpu_join(run, &rows, out, NULL, gpu_weight_of(run->gpu, i, MODEL_ATTN_POST_NORM));
}

void gpu_mamba2(struct model_gpu_run *run, int32_t i)
{
    const struct model_hparams *hp = &run->model->hp;
    const size_t stride = gpu_recurrent_row(run->model);
    const int32_t inner = hp->ssm_inner, groups = hp->ssm_groups * hp->ssm_state;
    const int32_t dim = inner / hp->ssm_heads, ratio = hp->ssm_heads / hp->ssm_groups;
    const struct gpu_weight *norm = gpu_weight_of(run->gpu, i, MODEL_SSM_NORM);
    const struct gpu_product in = {gpu_weight_of(run->gpu, i, MODEL_SSM_IN), NULL, run->recur,
                                   stride};
    struct gpu_rows x = gpu_mix_input(run, i);
    gpu_products(run, &x, &in, 1, 0);
    struct kern_cuda_recur_args args = args_of(run, i);
    const float *channels = run->recur + inner;
    args.write_at = inner;
    args.read_at = inner + groups;
    args.value = part_of(run, channels, ratio * dim, dim);
    args.write = part_of(run, channels + inner, hp->ssm_state, 0);
    args.read = part_of(run, channels + inner + groups, hp->ssm_state, 0);
    args.step = part_of(run, channels + inner + 2 * groups, ratio, 1);
    args.a = gpu_weight_of(run->gpu, i, MODEL_SSM_A)->vector;
    args.d = gpu_weight_of(run->gpu, i, MODEL_SSM_D)->vector;
    gpu_launched(run, run->kernels->recur.scan(&args, run->stream), "a scan");
    const int32_t n = inner / hp->ssm_groups;
    finish(run, i,
           &(struct kern_cuda_recur_finish_args){.recur = &args,
                                                 .z = part_of(run, run->recur, n, 0),
                                                 .n_units = hp->ssm_groups,
                                                 .n = n,
                                                 .gate_first = 1,
                                                 .norm = norm->vector,
                                                 .norm_step = n});
}

/* Queries, keys, values and gates: all of one after all of the other, or key head by key head; and
 * so are strengths and decays. Parts of args and of the gates are set. */
static void project(struct model_gpu_run *run, int32_t i, struct kern_cuda_recur_args *args,
                    struct kern_cuda_recur_part *z)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct model_gpu *g = run->gpu;
    const struct gpu_weight *both = gpu_weight_of(g, i, MODEL_DELTA_QKVZ);
    const struct gpu_weight *ba = gpu_weight_of(g, i, MODEL_DELTA_BETA_ALPHA);
    const size_t stride = gpu_recurrent_row(run->model);
    const int32_t heads = hp->ssm_heads, ratio = heads / hp->ssm_groups, depth = hp->ssm_state;
    const int32_t keys = hp->ssm_groups * depth, dim = args->dim, values = ratio * dim;
    const int32_t channels = model_recurrent_channels(hp), step = 2 * depth + 2 * values;
    float *x = run->recur, *gates = x + channels, *beta = gates + hp->ssm_inner;
    struct gpu_product products[4];
    int32_t n = 0;
    if (both->matrix.body) {
        products[n++] = (struct gpu_product){both, NULL, x, stride};
        args->read = part_of(run, x, step, 0);
        args->write = part_of(run, x + depth, step, 0);
        args->value = part_of(run, x + 2 * depth, step, dim);
        *z = part_of(run, x + 2 * depth + values, step, dim);
    } else {
        products[n++] = (struct gpu_product){gpu_weight_of(g, i, MODEL_DELTA_QKV), NULL, x, stride};
        products[n++] =
            (struct gpu_product){gpu_weight_of(g, i, MODEL_DELTA_Z), NULL, gates, stride};
        args->read = part_of(run, x, depth, 0);
        args->write = part_of(run, x + keys, depth, 0);
        args->value = part_of(run, x + 2 * keys, values, dim);
        *z = part_of(run, gates, values, dim);
    }
    if (ba->matrix.body) {
        products[n++] = (struct gpu_product){ba, NULL, beta, stride};
        args->strength = part_of(run, beta, 2 * ratio, 1);
        args->step = part_of(run, beta + ratio, 2 * ratio, 1);
    } else {
        products[n++] =
            (struct gpu_product){gpu_weight_of(g, i, MODEL_DELTA_BETA), NULL, beta, stride};
        products[n++] = (struct gpu_product){gpu_weight_of(g, i, MODEL_DELTA_ALPHA), NULL,
                                             beta + heads, stride};
        args->strength = part_of(run, beta, ratio, 1);
        args->step = part_of(run, beta + heads, ratio, 1);
    }
    struct gpu_rows in = gpu_mix_input(run, i);
    const int32_t together = n > KERN_CUDA_PARTS ? 2 : n;
    for (int32_t first = 0; first < n; first += together)
        gpu_products(run, &in, products + first, together, 0);
}

void gpu_deltanet(struct model_gpu_run *run, int32_t i)
{
    const struct model_hparams *hp = &run->model->hp;
    struct kern_cuda_recur_args args = args_of(run, i);
    const int32_t keys = hp->ssm_groups * hp->ssm_state;
    struct kern_cuda_recur_part z;
    project(run, i, &args, &z);
    args.write_at = keys;
    args.value_at = 2 * keys;
    args.a = gpu_weight_of(run->gpu, i, MODEL_DELTA_A)->vector;
    args.scale = 1 / sqrtf((float)hp->ssm_state);
    args.eps = MODEL_DELTA_EPS;
    args.tiled = run->model->weights.layers[i].mix == model_deltanet_tiled;
    gpu_launched(run, run->kernels->recur.delta(&args, run->stream), "a delta rule");
    finish(run, i,
           &(struct kern_cuda_recur_finish_args){
               .recur = &args,
               .z = z,
               .n_units = hp->ssm_heads,
               .n = args.dim,
               .norm = gpu_weight_of(run->gpu, i, MODEL_DELTA_NORM)->vector});
}
