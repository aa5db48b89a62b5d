/* Mixture of experts (Shazeer et al., arXiv:1701.06538; Fedus et al., arXiv:2101.03961). */
#include "model/moe.h"

#include "model/hidden.h"
#include "model/mlp.h"
#include "model/moe_route.h"

#include <math.h>
#include <string.h>

struct moe_job {
    struct model_workspace *ws;
    const struct model_layer *layer;
    const float *x; /* what experts read */
    int f32, q8;    /* how: as floats, quantised, or both */
    int rounded;    /* quantised for rounded products */
    int32_t k;
    const struct model_weight *post_norm; /* of the sum that joins the stream at once, or NULL */
};

/* Rows that are quantised, for products with Q8 rows or rounded ones. Memory is for the former,
 * which take no less. */
static size_t quantised_bytes(int32_t k, int rounded)
{
    return rounded ? kern_act_fast_bytes(k) : kern_act_q8_bytes(k);
}

static void quantise(const struct model_workspace *ws, void *dst, const float *x, int32_t k,
                     int rounded)
{
    const struct kern_quant *quant = &ws->model->device->kernels.quant;
    (rounded ? quant->act_fast : quant->act_q8)(dst, x, k);
}

/* Whether experts have rows enough for rounded products, by their mean. */
static int is_rounded(const struct model_workspace *ws, const struct model_weight *const *weights,
                      int32_t n, int32_t slots)
{
    for (int32_t i = 0; i < n; i++)
        if (stage_way_of(ws, weights[i], slots / ws->model->hp.n_experts) != STAGE_ROUNDED)
            return 0;
    return 1;
}

/* ---------------------------------------------------------------- routing */

/* Picks the experts of each row, and quantises it once for all of them. */
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
        if (job->q8)
            quantise(job->ws, job->ws->q8 + (size_t)i * quantised_bytes(job->k, job->rounded),
                     job->x + (size_t)i * (size_t)job->k, job->k, job->rounded);
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

/* The inputs of each slot, side by side. Scaled ones are quantised anew. */
static void run_gather(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct moe_job *job = arg;
    const struct model_moe_scratch *m = &job->ws->moe;
    size_t k = (size_t)job->k, q8_bytes = quantised_bytes(job->k, job->rounded);
    int scaled = (job->ws->model->arch->traits & MODEL_WEIGHT_INPUT) != 0;
    BASE_UNUSED(thread);
    for (int32_t s = begin; s < end; s++) {
        size_t row = (size_t)m->row_of[s];
        float *to = m->in + (size_t)s * k;
        for (size_t i = 0; (job->f32 || scaled) && i < k; i++)
            to[i] = job->x[row * k + i] * m->scale_of[s];
        if (job->q8 && scaled)
            quantise(job->ws, m->q8 + (size_t)s * q8_bytes, to, job->k, job->rounded);
        else if (job->q8)
            memcpy(m->q8 + (size_t)s * q8_bytes, job->ws->q8 + row * q8_bytes, q8_bytes);
    }
}

/* What the products of a step's experts read: slots, or one row that all of them read. */
struct inputs {
    const float *x;
    const uint8_t *q8;
    int shared; /* each expert has one slot, which is that row */
    int rounded;
};

static struct kern_gemm_args expert_args(struct model_workspace *ws, const struct model_weight *w,
                                         const struct model_weight *bias, const struct inputs *in,
                                         float *y, int32_t expert)
{
    const struct model_moe_scratch *m = &ws->moe;
    int q8 = ws->model->device->kernels.gemm.act[w->type] == KERN_ACT_Q8;
    int32_t first = m->first[expert];
    size_t x_bytes = q8 ? quantised_bytes(w->k, in->rounded) : (size_t)w->k * sizeof(float);
    size_t e = (size_t)expert, slot = in->shared ? 0 : (size_t)first;
    return (struct kern_gemm_args){
        .w = w->matrices[expert],
        .w_stride = w->row_bytes,
        .x = (q8 ? in->q8 : (const uint8_t *)in->x) + slot * x_bytes,
        .x_stride = x_bytes,
        .y = y + (size_t)first * (size_t)w->n,
        .y_stride = (size_t)w->n,
        .bias = bias->data ? (const float *)bias->data + e * (size_t)w->n : NULL,
        .m = m->first[expert + 1] - first,
        .n = w->n,
        .k = w->k,
        .scale = w->scales ? w->scales + e : NULL,
        .packed = w->packed,
    };
}

static int has_slots(const struct model_moe_scratch *m, int32_t expert)
{
    return m->first[expert + 1] > m->first[expert];
}

/* Hidden rows of every expert that has work. */
static void run_hidden(struct model_workspace *ws, const struct model_layer *layer,
                       const struct inputs *in, int q8)
{
    const struct model_weight *gate = model_layer_weight(layer, MODEL_EXPERT_GATE);
    const struct model_weight *up = model_layer_weight(layer, MODEL_EXPERT_UP);
    const struct model_weight *gate_bias = model_layer_weight(layer, MODEL_EXPERT_GATE_BIAS);
    const struct model_weight *up_bias = model_layer_weight(layer, MODEL_EXPERT_UP_BIAS);
    const struct kern_gemm *gemm = &ws->model->device->kernels.gemm;
    kern_gemm_fn *const *run = in->rounded ? gemm->run_fast : gemm->run;
    struct model_moe_scratch *m = &ws->moe;
    int32_t n = 0;
    for (int32_t e = 0; e < ws->model->hp.n_experts; e++) {
        if (!has_slots(m, e))
            continue;
        struct model_hidden *h = &m->hidden[n++];
        size_t slot = (size_t)m->first[e];
        *h =
            (struct model_hidden){.run_up = run[up->type],
                                  .up = expert_args(ws, up, up_bias, in, m->up, e),
                                  .y = m->gate + slot * (size_t)up->n,
                                  .q8 = q8 ? m->q8_hidden + slot * kern_act_q8_bytes(up->n) : NULL};
        if (gate->data) {
            h->run_gate = run[gate->type];
            h->gate = expert_args(ws, gate, gate_bias, in, m->gate, e);
        }
    }
    model_hidden(ws, m->hidden, n);
}

static void run_round_hidden(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct model_workspace *ws = arg;
    const struct model_moe_scratch *m = &ws->moe;
    int32_t k = ws->model->hp.n_ff_exp;
    BASE_UNUSED(thread);
    for (int32_t s = begin; s < end; s++)
        quantise(ws, m->q8_hidden + (size_t)s * quantised_bytes(k, 1),
                 m->gate + (size_t)s * (size_t)k, k, 1);
}

static void run_down(struct model_workspace *ws, const struct model_layer *layer, int rounded)
{
    const struct kern_gemm *gemm = &ws->model->device->kernels.gemm;
    const struct model_weight *down = model_layer_weight(layer, MODEL_EXPERT_DOWN);
    const struct model_weight *bias = model_layer_weight(layer, MODEL_EXPERT_DOWN_BIAS);
    struct model_moe_scratch *m = &ws->moe;
    const struct inputs in = {m->gate, m->q8_hidden, 0, rounded};
    int32_t n = 0;
    for (int32_t e = 0; e < ws->model->hp.n_experts; e++) {
        if (!has_slots(m, e))
            continue;
        m->runs[n] = (rounded ? gemm->run_fast : gemm->run)[down->type];
        m->args[n++] = expert_args(ws, down, bias, &in, m->out, e);
    }
    stage_gemms(ws, m->runs, m->args, n);
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
        if (job->post_norm)
            stage_join_row(job->ws, job->post_norm, i);
    }
}

/* The choice, the experts' work, and their sum in ws->branch or, with `post_norm`, in the stream.
 */
static void run_experts(struct model_workspace *ws, const struct model_layer *layer, const float *x,
                        int32_t rows, const struct model_weight *post_norm)
{
    const struct model_hparams *hp = &ws->model->hp;
    const struct model_weight *gate = model_layer_weight(layer, MODEL_EXPERT_GATE);
    const struct model_weight *up = model_layer_weight(layer, MODEL_EXPERT_UP);
    const struct model_weight *down = model_layer_weight(layer, MODEL_EXPERT_DOWN);
    const struct model_weight *both[] = {up, gate};
    int32_t n_both = gate->data ? 2 : 1, slots = rows * hp->n_experts_used;
    int scaled = (ws->model->arch->traits & MODEL_WEIGHT_INPUT) != 0;
    int q8 = stage_wants_q8(ws, both, n_both, 1);
    int rounded = is_rounded(ws, both, n_both, slots);
    int down_rounded = is_rounded(ws, &down, 1, slots);
    struct moe_job job = {.ws = ws,
                          .layer = layer,
                          .x = x,
                          .f32 = !stage_all_want_q8(ws, both, n_both),
                          .q8 = q8 && !scaled,
                          .rounded = rounded,
                          .k = up->k,
                          .post_norm = post_norm};
    struct inputs in = {x, ws->q8, 1, 0};
    stage_rows(ws, run_choose, &job, rows, (size_t)(up->k + hp->n_experts));
    sort_slots(ws, rows);
    if (rows > 1 || scaled) {
        in = (struct inputs){ws->moe.in, ws->moe.q8, 0, rounded};
        job.q8 = q8;
        stage_rows(ws, run_gather, &job, slots, (size_t)up->k);
    }
    run_hidden(ws, layer, &in, !down_rounded && stage_wants_q8(ws, &down, 1, 1));
    if (down_rounded)
        stage_rows(ws, run_round_hidden, ws, slots, (size_t)hp->n_ff_exp);
    run_down(ws, layer, down_rounded);
    stage_rows(ws, run_combine, &job, rows, (size_t)hp->n_embd * (size_t)hp->n_experts_used);
}

/* ---------------------------------------------------------- shared expert */

struct shared_job {
    struct model_workspace *ws;
    const float *x, *w; /* w: the gate's n_embd weights */
    int32_t k;
    int q8;
};

/* The shared expert's hidden rows times the sigmoid of one number a row. */
static void run_shared_gate(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct shared_job *job = arg;
    struct model_workspace *ws = job->ws;
    int32_t n_embd = ws->model->hp.n_embd;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        const float *x = job->x + (size_t)i * (size_t)n_embd;
        float *y = ws->gate + (size_t)i * (size_t)job->k;
        double dot = 0;
        for (int32_t j = 0; j < n_embd; j++)
            dot += (double)x[j] * (double)job->w[j];
        float gate = (float)(1 / (1 + exp(-dot)));
        for (int32_t j = 0; j < job->k; j++)
            y[j] *= gate;
        if (job->q8)
            ws->model->device->kernels.quant.act_q8(ws->q8 + (size_t)i * kern_act_q8_bytes(job->k),
                                                    y, job->k);
    }
}

static void run_shared(struct model_workspace *ws, const struct model_layer *layer, const float *x,
                       int32_t rows)
{
    const struct model_weight *gate = model_layer_weight(layer, MODEL_SHARED_GATE);
    const struct model_weight *up = model_layer_weight(layer, MODEL_SHARED_UP);
    const struct model_weight *down = model_layer_weight(layer, MODEL_SHARED_DOWN);
    const struct model_weight *router = model_layer_weight(layer, MODEL_SHARED_ROUTER);
    const struct stage_product up_product = {up, NULL, ws->up, 0};
    const struct stage_product gate_product = {gate, NULL, ws->gate, 0};
    int gated = gate->data != NULL, q8 = stage_wants_q8(ws, &down, 1, rows);
    if (stage_wants_q8(ws, (const struct model_weight *[]){up, gate}, 1 + gated, rows))
        stage_quantize(ws, x, up->k, rows);
    model_hidden_dense(ws, &up_product, gated ? &gate_product : NULL, x, rows, q8 && !router->data);
    struct shared_job job = {ws, x, router->data, down->k, q8};
    if (router->data)
        stage_rows(ws, run_shared_gate, &job, rows, (size_t)up->k + (size_t)down->k);
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
    int q8 = stage_wants_q8(ws, &router, 1, rows);
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
    const struct model_weight *post_norm = model_layer_weight(layer, MODEL_FFN_POST_NORM);
    const float *x = route(ws, layer, rows);
    int shared = model_layer_weight(layer, MODEL_SHARED_UP)->data != NULL;
    int alone = !shared && !layer->dense;
    run_experts(ws, layer, x, rows, alone ? post_norm : NULL);
    if (shared)
        run_shared(ws, layer, x, rows);
    if (layer->dense)
        run_dense(ws, layer, rows);
    if (!alone)
        stage_join_branch(ws, post_norm, rows);
}
