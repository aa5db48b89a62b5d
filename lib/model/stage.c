/* Stages shared by attention, feed-forward and head. */
#include "model/stage.h"

#include "base/thread.h"
#include "kernels/cpu/gemm_openblas.h"

#define PRODUCTS_MAX 4
/* Output columns dealt to threads in such units, so that register tiles stay whole. */
#define COLUMN_GRAIN 16
/* Below this a product is bound by reading weights, and BLAS gains nothing. */
#define SGEMM_MIN_ROWS 32

struct products {
    const struct model_workspace *ws;
    kern_gemm_fn *run[PRODUCTS_MAX];
    struct kern_gemm_args args[PRODUCTS_MAX];
    int32_t n;
};

static void run_products(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct products *p = arg;
    BASE_UNUSED(thread);
    int32_t first = 0; /* column of the whole stage where product i starts */
    for (int32_t i = 0; i < p->n; i++) {
        int32_t b = BASE_MAX(begin - first, 0), e = BASE_MIN(end - first, p->args[i].n);
        if (b < e)
            p->run[i](&p->args[i], b, e);
        first += BASE_ALIGN_UP(p->args[i].n, COLUMN_GRAIN);
    }
}

static struct kern_gemm_args product_args(const struct model_workspace *ws,
                                          const struct stage_product *p, const float *x,
                                          int32_t rows)
{
    int q8 = ws->model->device->kernels.gemm.act[p->w->type] == KERN_ACT_Q8;
    return (struct kern_gemm_args){
        .w = p->w->data,
        .w_stride = p->w->row_bytes,
        .x = q8 ? (const void *)ws->q8 : (const void *)x,
        .x_stride = q8 ? kern_act_q8_bytes(p->w->k) : (size_t)p->w->k * sizeof(float),
        .y = p->y,
        .y_stride = (size_t)p->w->n,
        .bias = p->bias ? p->bias->data : NULL,
        .m = rows,
        .n = p->w->n,
        .k = p->w->k,
        .accumulate = p->accumulate,
    };
}

static void run_sgemm(struct model_workspace *ws, const struct products *p,
                      const struct stage_product *products, const float *x)
{
    for (int32_t i = 0; i < p->n; i++) {
        struct kern_gemm_args args = p->args[i];
        args.x = x;
        args.x_stride = (size_t)args.k * sizeof(float);
        kern_gemm_blas(&args, products[i].w->type, &ws->model->device->kernels.quant, ws->sgemm,
                       ws->sgemm_scratch, 0, args.n);
    }
}

void stage_products(struct model_workspace *ws, const struct stage_product *products,
                    int32_t n_products, const float *x, int32_t rows)
{
    const struct infer_device *device = ws->model->device;
    struct products p = {.ws = ws, .n = n_products};
    int32_t columns = 0;
    for (int32_t i = 0; i < n_products; i++) {
        p.args[i] = product_args(ws, &products[i], x, rows);
        p.run[i] = device->kernels.gemm.run[products[i].w->type];
        columns += BASE_ALIGN_UP(products[i].w->n, COLUMN_GRAIN);
    }
    if (ws->sgemm && rows >= SGEMM_MIN_ROWS)
        run_sgemm(ws, &p, products, x);
    else
        base_pool_run(device->pool, run_products, &p, columns, COLUMN_GRAIN);
}

int stage_wants_q8(const struct model_workspace *ws, const struct model_weight *const *weights,
                   int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (ws->model->device->kernels.gemm.act[weights[i]->type] == KERN_ACT_Q8)
            return 1;
    return 0;
}

struct rows_job {
    const struct infer_kernels *kernels;
    const float *x;
    float *y; /* NULL: quantise only */
    const float *w;
    uint8_t *q8; /* NULL: normalise only */
    int32_t k;
    float eps;
};

static void run_rows(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct rows_job *job = arg;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        const float *row = job->x + (size_t)i * (size_t)job->k;
        if (job->y) {
            float *y = job->y + (size_t)i * (size_t)job->k;
            job->kernels->norm.rms(y, row, job->w, job->k, job->eps);
            row = y;
        }
        if (job->q8)
            job->kernels->quant.act_q8(job->q8 + (size_t)i * kern_act_q8_bytes(job->k), row,
                                       job->k);
    }
}

void stage_norm(struct model_workspace *ws, float *y, const float *x, const struct model_weight *w,
                int32_t rows, int q8)
{
    struct rows_job job = {.kernels = &ws->model->device->kernels,
                           .x = x,
                           .y = y,
                           .w = w->data,
                           .q8 = q8 ? ws->q8 : NULL,
                           .k = w->k,
                           .eps = ws->model->hp.rms_eps};
    base_pool_run(ws->model->device->pool, run_rows, &job, rows, 1);
}

void stage_quantize(struct model_workspace *ws, const float *x, int32_t k, int32_t rows)
{
    struct rows_job job = {.kernels = &ws->model->device->kernels, .x = x, .q8 = ws->q8, .k = k};
    base_pool_run(ws->model->device->pool, run_rows, &job, rows, 1);
}
