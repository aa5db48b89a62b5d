/* A thread that has made some columns of gate and up multiplies and quantises them while they are
 * in its cache. Every element is computed as in stages of their own: the results are the same. */
#include "model/hidden.h"

#include "base/thread.h"
#include "model/remainder.h"

/* A block of quantised activations. */
#define COLUMN_GRAIN 32
/* Floats of a product that are made before they are read again; of few rows all columns at once. */
#define CACHED_FLOATS 32768

struct hidden_job {
    const struct infer_kernels *kernels;
    const struct model_workspace *ws;
    kern_gate_fn *act;
    const struct model_hidden *items;
    int32_t n;
};

static void finish_columns(const struct hidden_job *job, const struct model_hidden *h,
                           int32_t begin, int32_t end)
{
    int32_t n = h->up.n;
    for (int32_t i = 0; i < h->up.m; i++) {
        const float *up = h->up.y + (size_t)i * h->up.y_stride + begin;
        const float *gate = h->run_gate ? h->gate.y + (size_t)i * h->gate.y_stride + begin : NULL;
        float *y = h->y + (size_t)i * (size_t)n;
        job->act(y + begin, gate ? gate : up, gate ? up : NULL, end - begin);
        if (h->q8)
            job->kernels->quant.act_q8_part(h->q8 + (size_t)i * kern_act_q8_bytes(n), y, n, begin,
                                            end);
    }
}

static void run_columns(const struct hidden_job *job, const struct model_hidden *h, int32_t begin,
                        int32_t end)
{
    int32_t step = BASE_MAX(CACHED_FLOATS / h->up.m / COLUMN_GRAIN, 1) * COLUMN_GRAIN;
    for (int32_t at = begin; at < end; at += step) {
        int32_t to = BASE_MIN(at + step, end);
        h->run_up(&h->up, at, to);
        model_remainder_add(job->ws, h->run_up, &h->up, h->up_remainder_step, at, to);
        if (h->run_gate) {
            h->run_gate(&h->gate, at, to);
            model_remainder_add(job->ws, h->run_gate, &h->gate, h->gate_remainder_step, at, to);
        }
        finish_columns(job, h, at, to);
    }
}

static void run_hidden(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct hidden_job *job = arg;
    BASE_UNUSED(thread);
    int32_t first = 0; /* column of the whole stage where network i starts */
    for (int32_t i = 0; i < job->n && first < end; i++) {
        const struct model_hidden *h = &job->items[i];
        int32_t b = BASE_MAX(begin - first, 0), e = BASE_MIN(end - first, h->up.n);
        if (b < e)
            run_columns(job, h, b, e);
        first += BASE_ALIGN_UP(h->up.n, COLUMN_GRAIN);
    }
}

void model_hidden(struct model_workspace *ws, const struct model_hidden *items, int32_t n)
{
    struct hidden_job job = {&ws->model->device->kernels, ws, stage_act(ws), items, n};
    int32_t columns = 0;
    for (int32_t i = 0; i < n; i++)
        columns += BASE_ALIGN_UP(items[i].up.n, COLUMN_GRAIN);
    base_pool_run(ws->pool, run_hidden, &job, columns, COLUMN_GRAIN);
}

void model_hidden_dense(struct model_workspace *ws, const struct stage_product *up,
                        const struct stage_product *gate, const float *x, int32_t rows, int q8)
{
    enum stage_way way = stage_way_of(ws, up->w, rows);
    if (!stage_is_fusable(ws, up->w, gate ? gate->w : NULL, rows)) {
        const struct stage_product products[] = {*up, gate ? *gate : *up};
        stage_products(ws, products, gate ? 2 : 1, x, rows);
        stage_gate(ws, stage_act(ws), ws->gate, gate ? ws->gate : ws->up, gate ? ws->up : NULL,
                   up->w->n, rows, q8);
        return;
    }
    struct model_hidden h = {.run_up = stage_kernel(ws, way, up->w->type),
                             .up = stage_product_args(ws, way, up, x, rows),
                             .y = ws->gate,
                             .q8 = q8 ? ws->q8_next : NULL};
    if (gate) {
        h.run_gate = stage_kernel(ws, way, gate->w->type);
        h.gate = stage_product_args(ws, way, gate, x, rows);
    }
    if (h.up.x == ws->q8) {
        h.up_remainder_step = model_remainder_step(ws, up->w);
        h.gate_remainder_step = gate ? model_remainder_step(ws, gate->w) : 0;
    }
    stage_make_rows(ws, way, x, up->w->k, rows);
    model_hidden(ws, &h, 1);
    if (q8) {
        ws->q8_next = ws->q8;
        ws->q8 = h.q8;
        ws->remainders_of = NULL; /* a row's columns are quantised apart */
    }
}
