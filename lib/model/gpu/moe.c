/* Mixture of experts on the card. A few rows read the matrices of their own experts one by one;
 * many rows are sorted by expert, so that each expert's matrices are read once. What stands beside
 * them joins the stream with them. */
#include "model/gpu/run.h"

static const struct gpu_weight *weight(const struct model_gpu_run *run, int32_t i,
                                       enum model_role role)
{
    return gpu_weight_of(run->gpu, i, role);
}

/* What router and experts read, each of which may have a norm of its own. */
struct inputs {
    struct gpu_rows router, experts;
    int same; /* the router reads what the experts do: `experts` alone is used */
};

/* A router with a norm of its own reads the stream, and so do then the experts. */
static struct inputs inputs_of(struct model_gpu_run *run, int32_t i)
{
    static const struct gpu_weight none = {0};
    const struct gpu_weight *router = weight(run, i, MODEL_ROUTER_NORM);
    const struct gpu_weight *experts = weight(run, i, MODEL_EXPERT_NORM);
    int32_t n_rows = run->batch.n_rows;
    struct inputs in = {.same = !router->vector && !experts->vector};
    if (!router->vector)
        in.router = in.experts = gpu_ffn_input(run, i);
    else
        in.router = gpu_rows_norm(run, run->x, router, &none, n_rows);
    if (!in.same)
        in.experts = gpu_rows_norm(run, run->x, experts, &none, n_rows);
    return in;
}

/* The gate of a shared expert goes with the choice. */
static void add_gate(struct model_gpu_run *run, int32_t i, struct gpu_rows *in,
                     struct kern_cuda_route_args *args)
{
    const struct gpu_weight *w = weight(run, i, MODEL_SHARED_ROUTER);
    int fused = gpu_rows_fuse(run, in);
    size_t stride = (size_t)in->k * sizeof(float);
    if (!w->vector)
        return;
    args->gate = run->shared_gate;
    args->gate_w = w->vector;
    args->x = fused ? in->x : gpu_rows_as(run, in, KERN_CUDA_ROWS_F32, &stride);
    args->norm = fused ? in->w : NULL;
    args->x_stride = stride / sizeof(float);
    args->n = in->k;
    args->eps = run->model->hp.norm_eps;
}

static void route(struct model_gpu_run *run, int32_t i, struct inputs *in)
{
    const struct model_hparams *hp = &run->model->hp;
    struct gpu_rows *rows = in->same ? &in->experts : &in->router;
    const struct gpu_product product = {weight(run, i, MODEL_ROUTER),
                                        weight(run, i, MODEL_ROUTER_BIAS), run->scores, 0};
    struct kern_cuda_route_args args = {
        .scores = run->scores,
        .correction = weight(run, i, MODEL_ROUTER_CORRECTION)->vector,
        .chosen = run->chosen,
        .weights = run->weights,
        .n_rows = rows->n_rows,
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
    gpu_products(run, rows, &product, 1, 0);
    add_gate(run, i, &in->experts, &args);
    gpu_launched(run, run->kernels->moe.route(&args, run->stream), "a choice of experts");
}

/* Whether weights multiply what experts read instead of what they give. */
static int weighs_inputs(const struct model_gpu_run *run)
{
    return (run->model->arch->traits & MODEL_WEIGHT_INPUT) != 0;
}

/* A row for each use then, in the order of the choice. */
static struct gpu_rows weighted(const struct model_gpu_run *run, const struct gpu_rows *in)
{
    struct gpu_rows rows = *in;
    rows.n_rows *= run->model->hp.n_experts_used;
    rows.x_div = run->model->hp.n_experts_used;
    rows.factor = run->weights;
    rows.made = 0;
    return rows;
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
    int32_t slots = run->batch.n_rows * hp->n_experts_used;
    int fused = gpu_rows_fuse(run, in);
    size_t stride = (size_t)in->k * sizeof(float);
    struct kern_cuda_few_args args = {.m = slots,
                                      .x_div = slots / in->n_rows,
                                      .expert = run->chosen,
                                      .eps = hp->norm_eps,
                                      .act = gpu_act(run->model)};
    args.x = fused ? in->x : gpu_rows_as(run, in, KERN_CUDA_ROWS_F32, &stride);
    args.norm = fused ? in->w : NULL;
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
    int32_t slots = run->batch.n_rows * hp->n_experts_used;
    int gated = gate->matrix.body != NULL;
    gpu_launched(run,
                 run->kernels->moe.sort(run->first, run->from, run->slot_of, run->chosen,
                                        in->n_rows, slots / in->n_rows, hp->n_experts, run->stream),
                 "sorting by expert");
    many(run, in, up, weight(run, i, MODEL_EXPERT_UP_BIAS), run->expert_up, run->from);
    if (gated)
        many(run, in, gate, weight(run, i, MODEL_EXPERT_GATE_BIAS), run->expert_gate, run->from);
    struct gpu_rows hidden = {.kind = GPU_ROWS_GATE,
                              .x = gated ? run->expert_gate : run->expert_up,
                              .up = gated ? run->expert_up : NULL,
                              .stride = (size_t)hp->n_ff_exp,
                              .up_stride = (size_t)hp->n_ff_exp,
                              .act = gpu_act(run->model),
                              .k = hp->n_ff_exp,
                              .n_rows = slots};
    many(run, &hidden, weight(run, i, MODEL_EXPERT_DOWN), weight(run, i, MODEL_EXPERT_DOWN_BIAS),
         run->expert_out, NULL);
}

/* ------------------------------------------------------------- beside experts */

/* What all rows go through beside the experts: a shared expert, which reads what they do, or the
 * dense feed-forward. Its hidden rows come before the experts, while what they all read has its
 * form; false: there is none. */
static int hidden_beside(struct model_gpu_run *run, int32_t i, struct gpu_rows *in,
                         struct gpu_rows *hidden)
{
    const int shared = weight(run, i, MODEL_SHARED_UP)->matrix.body != NULL;
    const float *factor = weight(run, i, MODEL_SHARED_ROUTER)->vector ? run->shared_gate : NULL;
    struct gpu_product gate = {weight(run, i, MODEL_SHARED_GATE), NULL, NULL, 0};
    struct gpu_product up = {weight(run, i, MODEL_SHARED_UP), NULL, NULL, 0};
    struct gpu_rows ffn;
    if (!shared && !run->model->weights.layers[i].dense)
        return 0;
    if (!shared) {
        gate = (struct gpu_product){weight(run, i, MODEL_FFN_GATE),
                                    weight(run, i, MODEL_FFN_GATE_BIAS), NULL, 0};
        up = (struct gpu_product){weight(run, i, MODEL_FFN_UP), weight(run, i, MODEL_FFN_UP_BIAS),
                                  NULL, 0};
        ffn = gpu_ffn_input(run, i);
        in->made = 0; /* its forms go where those of the others were */
        in = &ffn;
        factor = NULL;
    }
    *hidden = gpu_hidden(run, in, gate.w->matrix.body ? &gate : NULL, &up, factor);
    return 1;
}

static void down_beside(struct model_gpu_run *run, int32_t i, struct gpu_rows *hidden)
{
    const int shared = weight(run, i, MODEL_SHARED_UP)->matrix.body != NULL;
    const struct gpu_product down = {weight(run, i, shared ? MODEL_SHARED_DOWN : MODEL_FFN_DOWN),
                                     shared ? NULL : weight(run, i, MODEL_FFN_DOWN_BIAS),
                                     run->branch, 0};
    gpu_products(run, hidden, &down, 1, 0);
}

/* All of it joins the stream. */
static void join(struct model_gpu_run *run, int32_t i, int sorted, int beside)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct kern_cuda_combine_args args = {
        .x = run->x,
        .experts = run->expert_out,
        .weights = weighs_inputs(run) ? NULL : run->weights,
        .slot_of = sorted ? run->slot_of : NULL,
        .beside = beside ? run->branch : NULL,
        .norm = weight(run, i, MODEL_FFN_POST_NORM)->vector,
        .sum_norm = weight(run, i, MODEL_EXPERT_POST_NORM)->vector,
        .by_norm = weight(run, i, MODEL_DENSE_POST_NORM)->vector,
        .eps = hp->norm_eps,
        .scale = gpu_residual_scale(run),
        .factor = run->join_factor,
        .n_rows = run->batch.n_rows,
        .n_used = hp->n_experts_used,
        .n = hp->n_embd,
    };
    gpu_launched(run, run->kernels->moe.combine(&args, run->stream), "the sum of experts");
}

void gpu_moe(struct model_gpu_run *run, int32_t i)
{
    const int few_of_them = run->batch.n_rows <= KERN_CUDA_FEW_ROWS && !run->invariant;
    struct inputs in = inputs_of(run, i);
    struct gpu_rows hidden;
    route(run, i, &in);
    const int beside = hidden_beside(run, i, &in.experts, &hidden);
    struct gpu_rows rows = weighs_inputs(run) ? weighted(run, &in.experts) : in.experts;
    if (few_of_them)
        few_rows(run, i, &rows);
    else
        many_rows(run, i, &rows);
    if (beside)
        down_beside(run, i, &hidden);
    join(run, i, !few_of_them, beside);
}
