/* Mixture of experts (Shazeer et al., arXiv:1701.06538; Fedus et al., arXiv:2101.03961). */
#include "model/moe.h"

#include "base/thread.h"
#include "model/mlp.h"
#include "model/moe_route.h"
#include "model/stage.h"

#include <math.h>
#include <string.h>

struct moe_job {
    struct model_workspace *ws;
    const struct model_layer *layer;
    const float *x;
    int32_t k, rows; /* k: floats of a slot's row that are gathered or quantised */
    float *slots;    /* rows of k by slot; quantised into moe.q8 */
    int q8;
};

/* ---------------------------------------------------------------- routing */

static void run_choose(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct moe_job *job = arg;
    const struct model_hparams *hp = &job->ws->model->hp;
    struct model_moe_scratch *m = &job->ws->moe;
    const float *correction = model_layer_weight(job->layer, MODEL_ROUTER_CORRECTION)->data;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        size_t at = (size_t)i * (size_t)hp->n_experts_used;
        model_moe_choose(hp, m->scores + (size_t)i * (size_t)hp->n_experts, correction,
                         m->chosen + at, m->weights + at);
    }
}

/* Counting sort of the work by expert; rows of one expert keep their order. */
static void sort_slots(struct model_workspace *ws, int32_t rows)
{
    const struct model_hparams *hp = &ws->model->hp;
    struct model_moe_scratch *m = &ws->moe;
    int32_t n = rows * hp->n_experts_used;
    int on_input = (ws->model->arch->traits & MODEL_WEIGHT_INPUT) != 0;
    memset(m->first, 0, (size_t)(hp->n_experts + 1) * sizeof *m->first);
    for (int32_t i = 0; i < n; i++)
        m->first[m->chosen[i] + 1]++;
    for (int32_t e = 0; e < hp->n_experts; e++)
        m->first[e + 1] += m->first[e];
    for (int32_t i = 0; i < n; i++) {
        int32_t slot = m->first[m->chosen[i]]++;
        m->slot_of[i] = slot;
        m->row_of[slot] = i / hp->n_experts_used;
        m->scale_of[slot] = on_input ? m->weights[i] : 1;
        m->weights[i] = on_input ? 1 : m->weights[i];
    }
    /* Each expert's start has moved to its end, which is the next one's start. */
    for (int32_t e = hp->n_experts; e > 0; e--)
        m->first[e] = m->first[e - 1];
    m->first[0] = 0;
}

/* ---------------------------------------------------------------- experts */

static void run_gather(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct moe_job *job = arg;
    const struct model_moe_scratch *m = &job->ws->moe;
    const struct infer_kernels *kernels = &job->ws->model->device->kernels;
    size_t k = (size_t)job->k;
    BASE_UNUSED(thread);
    for (int32_t s = begin; s < end; s++) {
        float *to = job->slots + (size_t)s * k;
        const float *from = job->x ? job->x + (size_t)m->row_of[s] * k : to;
        for (size_t i = 0; job->x && i < k; i++)
            to[i] = from[i] * m->scale_of[s];
        if (job->q8)
            kernels->quant.act_q8(m->q8 + (size_t)s * kern_act_q8_bytes(job->k), to, job->k);
    }
}

/* Products of every expert that has work with one of its matrices: slots of x to slots of y. */
static int32_t add_products(struct model_workspace *ws, const struct model_weight *w,
                            const struct model_weight *bias, const float *x, float *y, int32_t n)
{
    const struct kern_gemm *gemm = &ws->model->device->kernels.gemm;
    struct model_moe_scratch *m = &ws->moe;
    int q8 = gemm->act[w->type] == KERN_ACT_Q8;
    size_t x_bytes = q8 ? kern_act_q8_bytes(w->k) : (size_t)w->k * sizeof(float);
    for (int32_t e = 0; e < ws->model->hp.n_experts; e++) {
        int32_t first = m->first[e], rows = m->first[e + 1] - first;
        if (!rows)
            continue;
        m->runs[n] = gemm->run[w->type];
        m->args[n++] = (struct kern_gemm_args){
            .w = w->matrices[e],
            .w_stride = w->row_bytes,
            .x = (q8 ? m->q8 : (const uint8_t *)x) + (size_t)first * x_bytes,
            .x_stride = x_bytes,
            .y = y + (size_t)first * (size_t)w->n,
            .y_stride = (size_t)w->n,
            .bias = bias->data ? (const float *)bias->data + (size_t)e * (size_t)w->n : NULL,
            .m = rows,
            .n = w->n,
            .k = w->k,
            .scale = w->scales ? w->scales + e : NULL,
            .packed = w->packed,
        };
    }
    return n;
}

static void run_act(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct moe_job *job = arg;
    const struct model_moe_scratch *m = &job->ws->moe;
    kern_gate_fn *act = stage_act(job->ws);
    int gated = model_layer_weight(job->layer, MODEL_EXPERT_GATE)->data != NULL;
    BASE_UNUSED(thread);
    for (int32_t s = begin; s < end; s++) {
        size_t at = (size_t)s * (size_t)job->k;
        act(m->gate + at, (gated ? m->gate : m->up) + at, gated ? m->up + at : NULL, job->k);
        if (job->q8)
            job->ws->model->device->kernels.quant.act_q8(
                m->q8 + (size_t)s * kern_act_q8_bytes(job->k), m->gate + at, job->k);
    }
}

/* A row's results are added best expert first, whatever else is in the batch. */
static void run_combine(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct moe_job *job = arg;
    const struct infer_model *model = job->ws->model;
    const struct model_moe_scratch *m = &job->ws->moe;
    int32_t used = model->hp.n_experts_used, n_embd = model->hp.n_embd;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        float *y = job->ws->branch + (size_t)i * (size_t)n_embd;
        memset(y, 0, (size_t)n_embd * sizeof *y);
        for (int32_t j = i * used; j < (i + 1) * used; j++)
            model->device->kernels.unary.axpy(
                y, m->weights[j], m->out + (size_t)m->slot_of[j] * (size_t)n_embd, n_embd);
    }
}

static void run_experts(struct model_workspace *ws, const struct model_layer *layer, const float *x,
                        int32_t rows)
{
    const struct model_weight *gate = model_layer_weight(layer, MODEL_EXPERT_GATE);
    const struct model_weight *up = model_layer_weight(layer, MODEL_EXPERT_UP);
    const struct model_weight *down = model_layer_weight(layer, MODEL_EXPERT_DOWN);
    struct model_moe_scratch *m = &ws->moe;
    struct base_pool *pool = ws->pool;
    int32_t slots = rows * ws->model->hp.n_experts_used, n = 0;
    struct moe_job gather = {
        .ws = ws,
        .x = x,
        .k = up->k,
        .slots = m->in,
        .q8 = stage_wants_q8(ws, (const struct model_weight *[]){up, gate}, gate->data ? 2 : 1)};
    base_pool_run(pool, run_gather, &gather, slots, 1);
    n = add_products(ws, up, model_layer_weight(layer, MODEL_EXPERT_UP_BIAS), m->in, m->up, n);
    if (gate->data)
        n = add_products(ws, gate, model_layer_weight(layer, MODEL_EXPERT_GATE_BIAS), m->in,
                         m->gate, n);
    stage_gemms(ws, m->runs, m->args, n);

    struct moe_job act = {
        .ws = ws, .layer = layer, .k = down->k, .q8 = stage_wants_q8(ws, &down, 1)};
    base_pool_run(pool, run_act, &act, slots, 1);
    n = add_products(ws, down, model_layer_weight(layer, MODEL_EXPERT_DOWN_BIAS), m->gate, m->out,
                     0);
    stage_gemms(ws, m->runs, m->args, n);
    base_pool_run(pool, run_combine, &(struct moe_job){.ws = ws}, rows, 1);
}

/* ---------------------------------------------------------- shared expert */

struct shared_job {
    struct model_workspace *ws;
    const float *x, *w; /* w: the gate's n_embd weights */
    int32_t k;
};

/* The shared expert's hidden rows times the sigmoid of one number a row. */
static void run_shared_gate(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct shared_job *job = arg;
    int32_t n_embd = job->ws->model->hp.n_embd;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        const float *x = job->x + (size_t)i * (size_t)n_embd;
        float *y = job->ws->gate + (size_t)i * (size_t)job->k;
        double dot = 0;
        for (int32_t j = 0; j < n_embd; j++)
            dot += (double)x[j] * (double)job->w[j];
        float gate = (float)(1 / (1 + exp(-dot)));
        for (int32_t j = 0; j < job->k; j++)
            y[j] *= gate;
    }
}

static void run_shared(struct model_workspace *ws, const struct model_layer *layer, const float *x,
                       int32_t rows)
{
    const struct model_weight *gate = model_layer_weight(layer, MODEL_SHARED_GATE);
    const struct model_weight *up = model_layer_weight(layer, MODEL_SHARED_UP);
    const struct model_weight *down = model_layer_weight(layer, MODEL_SHARED_DOWN);
    const struct model_weight *router = model_layer_weight(layer, MODEL_SHARED_ROUTER);
    const struct stage_product products[] = {{up, NULL, ws->up, 0}, {gate, NULL, ws->gate, 0}};
    int gated = gate->data != NULL;
    if (stage_wants_q8(ws, (const struct model_weight *[]){up, gate}, 1 + gated))
        stage_quantize(ws, x, up->k, rows);
    stage_products(ws, products, 1 + gated, x, rows);
    stage_gate(ws, stage_act(ws), ws->gate, gated ? ws->gate : ws->up, gated ? ws->up : NULL,
               down->k, rows, 0);
    struct shared_job job = {ws, x, router->data, down->k};
    if (router->data)
        base_pool_run(ws->pool, run_shared_gate, &job, rows, 1);
    if (stage_wants_q8(ws, &down, 1))
        stage_quantize(ws, ws->gate, down->k, rows);
    stage_products(ws, &(const struct stage_product){down, NULL, ws->branch, 1}, 1, ws->gate, rows);
}

/* The dense feed-forward joins the experts' result, each behind a norm of its own. */
static void run_dense(struct model_workspace *ws, const struct model_layer *layer, int32_t rows)
{
    const struct model_weight *down = model_layer_weight(layer, MODEL_FFN_DOWN);
    const struct model_weight *bias = model_layer_weight(layer, MODEL_FFN_DOWN_BIAS);
    const struct model_weight *norm = model_layer_weight(layer, MODEL_DENSE_POST_NORM);
    const struct model_weight *experts = model_layer_weight(layer, MODEL_EXPERT_POST_NORM);
    model_mlp_hidden(ws, layer, rows);
    stage_products(ws, &(const struct stage_product){down, bias, ws->xn, 0}, 1, ws->gate, rows);
    stage_norm(ws, ws->xn, ws->xn, norm, NULL, rows, 0);
    stage_norm(ws, ws->branch, ws->branch, experts, NULL, rows, 0);
    stage_add(ws, ws->branch, 1, ws->xn, rows);
}

/* Scores of all experts; the rows that the chosen ones will read. A router with a norm of its own
 * reads the stream, and so do then the experts. */
static const float *route(struct model_workspace *ws, const struct model_layer *layer, int32_t rows)
{
    const struct model_weight *router = model_layer_weight(layer, MODEL_ROUTER);
    const struct model_weight *norm = model_layer_weight(layer, MODEL_ROUTER_NORM);
    const struct model_weight *experts = model_layer_weight(layer, MODEL_EXPERT_NORM);
    const struct stage_product product = {router, model_layer_weight(layer, MODEL_ROUTER_BIAS),
                                          ws->moe.scores, 0};
    int q8 = stage_wants_q8(ws, &router, 1);
    const float *x = ws->branch;
    if (norm->data)
        stage_norm(ws, ws->branch, ws->x, norm, NULL, rows, q8);
    else
        x = model_ffn_input(ws, layer, rows, q8);
    stage_products(ws, &product, 1, x, rows);
    if (!experts->data)
        return norm->data ? ws->x : x;
    stage_norm(ws, ws->xn, ws->x, experts, NULL, rows, 0);
    return ws->xn;
}

void model_moe(struct model_workspace *ws, const struct model_layer *layer, int32_t rows)
{
    const float *x = route(ws, layer, rows);
    struct moe_job choose = {.ws = ws, .layer = layer};
    base_pool_run(ws->pool, run_choose, &choose, rows, 1);
    sort_slots(ws, rows);
    run_experts(ws, layer, x, rows);
    if (model_layer_weight(layer, MODEL_SHARED_UP)->data)
        run_shared(ws, layer, x, rows);
    if (layer->dense)
        run_dense(ws, layer, rows);
    stage_join_branch(ws, model_layer_weight(layer, MODEL_FFN_POST_NORM), rows);
}
