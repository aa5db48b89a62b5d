/* Mixture of experts on the card. A few rows read the matrices of their own experts one by one;
 * many rows are sorted by expert, so that each expert's matrices are read once. */
#include "model/gpu/run.h"

static const struct gpu_weight *weight(const struct model_gpu_run *run, int32_t i,
                                       enum model_role role)
{
    return gpu_weight_of(run->gpu, i, role);
}

static void route(struct model_gpu_run *run, int32_t i, struct gpu_rows *in)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct gpu_product product = {weight(run, i, MODEL_ROUTER),
                                        weight(run, i, MODEL_ROUTER_BIAS), run->scores, 0};
    const struct kern_cuda_route_args args = {
        .scores = run->scores,
        .correction = weight(run, i, MODEL_ROUTER_CORRECTION)->vector,
        .chosen = run->chosen,
        .weights = run->weights,
        .n_rows = in->n_rows,
        .n_experts = hp->n_experts,
        .n_used = hp->n_experts_used,
        .n_groups = hp->n_expert_groups,
        .n_groups_used = hp->n_expert_groups_used,
        .sigmoid = hp->gating == MODEL_GATING_SIGMOID,
        .topk_softmax = hp->gating == MODEL_GATING_TOPK_SOFTMAX,
        .sum = hp->expert_weights_sum,
        .router_scale = hp->router_scale,
        .expert_scale = hp->expert_scale != 0 ? hp->expert_scale : 1,
    };
    gpu_products(run, in, &product, 1, 0);
    gpu_launched(run, run->kernels->moe.route(&args, run->stream), "a choice of experts");
}

/* --------------------------------------------------------------- few rows */

static void few(struct model_gpu_run *run, const struct kern_cuda_few_args *args)
{
    gpu_launched(run, run->kernels->product.few(args, run->stream), "experts of few rows");
}

static struct kern_cuda_part part_of(const struct gpu_weight *w, const struct gpu_weight *bias,
                                     float *y)
{
    return (struct kern_cuda_part){
        .w = w->matrix, .bias = bias->vector, .y = y, .y_stride = (size_t)w->matrix.n};
}

static void few_rows(struct model_gpu_run *run, int32_t i, struct gpu_rows *in)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct gpu_weight *gate = weight(run, i, MODEL_EXPERT_GATE);
    const struct gpu_weight *up = weight(run, i, MODEL_EXPERT_UP);
    const struct gpu_weight *down = weight(run, i, MODEL_EXPERT_DOWN);
    int32_t used = hp->n_experts_used, slots = in->n_rows * used;
    size_t stride;
    struct kern_cuda_few_args args = {.m = slots,
                                      .x_div = used,
                                      .expert = run->chosen,
                                      .eps = hp->norm_eps,
                                      .act = gpu_act(run->model)};
    args.x = gpu_rows_as(run, in, KERN_CUDA_ROWS_F32, &stride);
    args.x_stride = stride / sizeof(float);
    if (gate->matrix.body) {
        args.part_scale[args.n_parts] = gate->scales;
        args.parts[args.n_parts++] =
            part_of(gate, weight(run, i, MODEL_EXPERT_GATE_BIAS), run->expert_gate);
    }
    args.part_scale[args.n_parts] = up->scales;
    args.parts[args.n_parts++] = part_of(up, weight(run, i, MODEL_EXPERT_UP_BIAS),
                                         gate->matrix.body ? run->expert_up : run->expert_gate);
    few(run, &args);
    const struct kern_cuda_few_args out = {
        .parts = {part_of(down, weight(run, i, MODEL_EXPERT_DOWN_BIAS), run->expert_out)},
        .n_parts = 1,
        .m = slots,
        .x = run->expert_gate,
        .x_stride = (size_t)hp->n_ff_exp,
        .x_div = 1,
        .expert = run->chosen,
        .part_scale = {down->scales},
    };
    few(run, &out);
}

/* -------------------------------------------------------------- many rows */

static void many(struct model_gpu_run *run, struct gpu_rows *rows, const struct gpu_weight *w,
                 const struct gpu_weight *bias, float *y, const int32_t *from)
{
    int32_t form = run->kernels->many_rows(w->matrix.type);
    struct kern_cuda_many_args args = {
        .w = w->matrix,
        .bias = bias->vector,
        .y = y,
        .y_stride = (size_t)w->matrix.n,
        .m = run->batch.n_rows * run->model->hp.n_experts_used,
        .first = run->first,
        .from = from,
        .n_experts = run->model->hp.n_experts,
        .part_scale = w->scales,
        .scratch = run->many_scratch,
    };
    args.x = gpu_rows_as(run, rows, form, &args.x_stride);
    gpu_launched(run, run->kernels->product.many(&args, run->stream), "experts of many rows");
}

static void many_rows(struct model_gpu_run *run, int32_t i, struct gpu_rows *in)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct gpu_weight *gate = weight(run, i, MODEL_EXPERT_GATE);
    const struct gpu_weight *up = weight(run, i, MODEL_EXPERT_UP);
    int32_t slots = in->n_rows * hp->n_experts_used;
    int gated = gate->matrix.body != NULL;
    gpu_launched(run,
                 run->kernels->moe.sort(run->first, run->from, run->slot_of, run->chosen,
                                        in->n_rows, hp->n_experts_used, hp->n_experts, run->stream),
                 "sorting by expert");
    many(run, in, up, weight(run, i, MODEL_EXPERT_UP_BIAS), run->expert_up, run->from);
    if (gated)
        many(run, in, gate, weight(run, i, MODEL_EXPERT_GATE_BIAS), run->expert_gate, run->from);
    struct gpu_rows hidden = {.kind = GPU_ROWS_GATE,
                              .x = gated ? run->expert_gate : run->expert_up,
                              .up = gated ? run->expert_up : NULL,
                              .stride = (size_t)hp->n_ff_exp,
                              .act = gpu_act(run->model),
                              .k = hp->n_ff_exp,
                              .n_rows = slots};
    many(run, &hidden, weight(run, i, MODEL_EXPERT_DOWN), weight(run, i, MODEL_EXPERT_DOWN_BIAS),
         run->expert_out, NULL);
}

static void shared(struct model_gpu_run *run, int32_t i, struct gpu_rows *in)
{
    const struct gpu_product gate = {weight(run, i, MODEL_SHARED_GATE), NULL, NULL, 0};
    const struct gpu_product up = {weight(run, i, MODEL_SHARED_UP), NULL, NULL, 0};
    const struct gpu_product down = {weight(run, i, MODEL_SHARED_DOWN), NULL, run->branch, 0};
    struct gpu_rows hidden = gpu_hidden(run, in, gate.w->matrix.body ? &gate : NULL, &up);
    gpu_products(run, &hidden, &down, 1, 1);
}

void gpu_moe(struct model_gpu_run *run, int32_t i)
{
    const struct model_hparams *hp = &run->model->hp;
    struct gpu_rows in = gpu_ffn_input(run, i);
    int few_of_them = in.n_rows <= KERN_CUDA_FEW_ROWS && !run->invariant;
    route(run, i, &in);
    if (few_of_them)
        few_rows(run, i, &in);
    else
        many_rows(run, i, &in);
    gpu_launched(run,
                 run->kernels->moe.combine(run->branch, run->expert_out, run->weights,
                                           few_of_them ? NULL : run->slot_of, in.n_rows,
                                           hp->n_experts_used, hp->n_embd, 0, run->stream),
                 "the sum of experts");
    if (weight(run, i, MODEL_SHARED_UP)->matrix.body) {
        in.made = 0; /* hidden rows took the place of the forms */
        shared(run, i, &in);
    }
    gpu_join_branch(run, weight(run, i, MODEL_FFN_POST_NORM), in.n_rows);
}
