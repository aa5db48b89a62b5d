/* Stages shared by attention, feed-forward and head. */
#include "model/stage.h"

#include "kernels/cpu/gemm_openblas.h"
#include "model/remainder.h"

#define PRODUCTS_MAX 6
/* Output columns dealt to threads in such units, so that register tiles stay whole. */
#define COLUMN_GRAIN MODEL_LORA_GRAIN
/* Floats of short rows whose work takes as long as a barrier: two microseconds. */
#define ROWS_GRAIN 8192

struct products {
    const struct model_workspace *ws;
    kern_gemm_fn *run[PRODUCTS_MAX];
    struct kern_gemm_args args[PRODUCTS_MAX];
    size_t remainder_step[PRODUCTS_MAX]; /* 0: it gets no remainders */
    int32_t n;
    int32_t columns; /* of all; behind them those of the adapters' first products */
};

static void run_products(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct products *p = arg;
    BASE_UNUSED(thread);
    int32_t first = 0; /* column of the whole stage where product i starts */
    for (int32_t i = 0; i < p->n; i++) {
        int32_t b = BASE_MAX(begin - first, 0), e = BASE_MIN(end - first, p->args[i].n);
        if (b < e) {
            p->run[i](&p->args[i], b, e);
            model_remainder_add(p->ws, p->run[i], &p->args[i], p->remainder_step[i], b, e);
        }
        first += BASE_ALIGN_UP(p->args[i].n, COLUMN_GRAIN);
    }
    if (end > p->columns)
        model_lora_down(&p->ws->lora, BASE_MAX(begin - p->columns, 0), end - p->columns);
}

static void run_adapters(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    BASE_UNUSED(thread);
    model_lora_up(arg, begin, end);
}

static int pays(const uint8_t *least, infer_dtype type, int32_t rows)
{
    return least[type] && rows >= least[type];
}

/* Quantised and packed weights have kernels that SGEMM does not outdo. */
enum stage_way stage_way_of(const struct model_workspace *ws, const struct model_weight *w,
                            int32_t rows)
{
    const struct kern_gemm *gemm = &ws->model->device->kernels.gemm;
    int quantised = gemm->act[w->type] == KERN_ACT_Q8;
    if (w->packed && !quantised) /* as floats alone */
        return STAGE_PLAIN;
    if (gemm->bf16_stable[w->type])
        return STAGE_BF16;
    if (!ws->fast)
        return STAGE_PLAIN;
    if (quantised)
        return pays(gemm->fast_rows, w->type, rows) ? STAGE_ROUNDED : STAGE_PLAIN;
    if (pays(gemm->bf16_rows, w->type, rows))
        return STAGE_BF16;
    return ws->sgemm && rows >= gemm->sgemm_rows ? STAGE_SGEMM : STAGE_PLAIN;
}

int stage_is_fusable(const struct model_workspace *ws, const struct model_weight *a,
                     const struct model_weight *b, int32_t rows)
{
    enum stage_way way = stage_way_of(ws, a, rows);
    return !ws->lora.n_runs && way != STAGE_SGEMM && (!b || stage_way_of(ws, b, rows) == way);
}

static int has_weights(const struct infer_model *model, const uint8_t *of_type)
{
    for (int32_t role = 0; role < MODEL_LAYER_FIRST; role++)
        if (of_type[model->weights.global[role].type])
            return 1;
    for (int32_t i = 0; i < model->hp.n_layers; i++)
        for (int32_t role = MODEL_LAYER_FIRST; role < MODEL_ROLES; role++)
            if (of_type[model->weights.layers[i].w[role - MODEL_LAYER_FIRST].type])
                return 1;
    return 0;
}

int stage_may_narrow(const struct model_workspace *ws)
{
    const struct kern_gemm *gemm = &ws->model->device->kernels.gemm;
    return has_weights(ws->model, ws->fast ? gemm->bf16_rows : gemm->bf16_stable);
}

int stage_may_round(const struct model_workspace *ws)
{
    return ws->fast && has_weights(ws->model, ws->model->device->kernels.gemm.fast_rows);
}

/* An odd number of cache lines: rows of a tile then lie in different places of the cache. */
size_t stage_bf16_bytes(int32_t k)
{
    return BASE_ALIGN_UP(2 * (size_t)k, (size_t)2 * BASE_CACHE_LINE) + BASE_CACHE_LINE;
}

kern_gemm_fn *stage_kernel(const struct model_workspace *ws, enum stage_way way, infer_dtype type)
{
    const struct kern_gemm *gemm = &ws->model->device->kernels.gemm;
    return way == STAGE_BF16      ? gemm->run_bf16[type]
           : way == STAGE_ROUNDED ? gemm->run_fast[type]
                                  : gemm->run[type];
}

struct kern_gemm_args stage_product_args(const struct model_workspace *ws, enum stage_way way,
                                         const struct stage_product *p, const float *x,
                                         int32_t rows)
{
    struct kern_gemm_args args = {
        .w = p->w->data,
        .w_stride = p->w->row_bytes,
        .x = x,
        .x_stride = (size_t)p->w->k * sizeof(float),
        .y = p->y,
        .y_stride = (size_t)p->w->n,
        .bias = p->bias ? p->bias->data : NULL,
        .m = rows,
        .n = p->w->n,
        .k = p->w->k,
        .accumulate = p->accumulate,
        .scale = p->w->scales,
        .packed = p->w->packed,
    };
    if (way == STAGE_BF16) {
        args.x = ws->bf16;
        args.x_stride = stage_bf16_bytes(args.k);
    } else if (way == STAGE_ROUNDED) {
        args.x = ws->rounded;
        args.x_stride = kern_act_fast_bytes(args.k);
    } else if (way == STAGE_PLAIN &&
               ws->model->device->kernels.gemm.act[p->w->type] == KERN_ACT_Q8) {
        args.x = ws->q8;
        args.x_stride = kern_act_q8_bytes(args.k);
    }
    return args;
}

static void run_sgemm(struct model_workspace *ws, const struct stage_product *p,
                      const struct kern_gemm_args *args)
{
    kern_gemm_blas(args, p->w->type, &ws->model->device->kernels.quant, ws->sgemm,
                   ws->sgemm_scratch, 0, args->n);
}

/* Rows of floats as other kernels than those of the stable numerics want them. */
struct rows_form {
    kern_act_q8_fn *make;
    const float *x;
    uint8_t *to;
    size_t bytes; /* from a row to the next */
    int32_t k;
};

static void run_form(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct rows_form *form = arg;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++)
        form->make(form->to + (size_t)i * form->bytes, form->x + (size_t)i * (size_t)form->k,
                   form->k);
}

void stage_make_rows(struct model_workspace *ws, enum stage_way way, const float *x, int32_t k,
                     int32_t rows)
{
    const struct kern_quant *quant = &ws->model->device->kernels.quant;
    struct rows_form form = {quant->act_fast, x, ws->rounded, kern_act_fast_bytes(k), k};
    if (way == STAGE_BF16)
        form = (struct rows_form){quant->narrow[INFER_DTYPE_BF16], x, ws->bf16, stage_bf16_bytes(k),
                                  k};
    if (way == STAGE_BF16 || way == STAGE_ROUNDED)
        stage_rows(ws, run_form, &form, rows, (size_t)k);
}

void stage_products(struct model_workspace *ws, const struct stage_product *products,
                    int32_t n_products, const float *x, int32_t rows)
{
    const struct infer_device *device = ws->model->device;
    struct products p = {.ws = ws};
    unsigned made = 0; /* bits: the ways that have their rows */
    for (int32_t i = 0; i < n_products; i++) {
        enum stage_way way = stage_way_of(ws, products[i].w, rows);
        struct kern_gemm_args *args = &p.args[p.n];
        *args = stage_product_args(ws, way, &products[i], x, rows);
        if (way == STAGE_SGEMM) {
            run_sgemm(ws, &products[i], args);
            continue;
        }
        if (!(made & 1u << way))
            stage_make_rows(ws, way, x, args->k, rows);
        made |= 1u << way;
        if (args->x == ws->q8)
            p.remainder_step[p.n] = model_remainder_step(ws, products[i].w);
        p.run[p.n++] = stage_kernel(ws, way, products[i].w->type);
        p.columns += BASE_ALIGN_UP(args->n, COLUMN_GRAIN);
    }
    int32_t added =
        ws->lora.n_runs ? model_lora_plan(&ws->lora, &device->kernels, products, n_products, x) : 0;
    if (p.columns + added)
        base_pool_run(ws->pool, run_products, &p, p.columns + added, COLUMN_GRAIN);
    if (added)
        base_pool_run(ws->pool, run_adapters, &ws->lora, ws->lora.up_width, COLUMN_GRAIN);
}

int stage_wants_q8(const struct model_workspace *ws, const struct model_weight *const *weights,
                   int32_t n, int32_t rows)
{
    for (int32_t i = 0; i < n; i++)
        if (ws->model->device->kernels.gemm.act[weights[i]->type] == KERN_ACT_Q8 &&
            stage_way_of(ws, weights[i], rows) == STAGE_PLAIN)
            return 1;
    return 0;
}

int stage_all_want_q8(const struct model_workspace *ws, const struct model_weight *const *weights,
                      int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (ws->model->device->kernels.gemm.act[weights[i]->type] != KERN_ACT_Q8)
            return 0;
    return 1;
}

struct gemms {
    kern_gemm_fn *const *runs;
    const struct kern_gemm_args *args;
    int32_t n;
};

static void run_gemms(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct gemms *g = arg;
    BASE_UNUSED(thread);
    int32_t first = 0; /* column of the whole stage where product i starts */
    for (int32_t i = 0; i < g->n && first < end; i++) {
        int32_t b = BASE_MAX(begin - first, 0), e = BASE_MIN(end - first, g->args[i].n);
        if (b < e)
            g->runs[i](&g->args[i], b, e);
        first += BASE_ALIGN_UP(g->args[i].n, COLUMN_GRAIN);
    }
}

void stage_gemms(struct model_workspace *ws, kern_gemm_fn *const *runs,
                 const struct kern_gemm_args *args, int32_t n)
{
    struct gemms g = {runs, args, n};
    int32_t columns = 0;
    for (int32_t i = 0; i < n; i++)
        columns += BASE_ALIGN_UP(args[i].n, COLUMN_GRAIN);
    base_pool_run(ws->pool, run_gemms, &g, columns, COLUMN_GRAIN);
}

void stage_rows(struct model_workspace *ws, base_pool_fn fn, void *arg, int32_t rows, size_t width)
{
    int32_t grain = (int32_t)(ROWS_GRAIN / BASE_MAX(width, 1));
    base_pool_run(ws->pool, fn, arg, rows, BASE_MAX(grain, 1));
}

/* One row after another: normalise, or gate, then quantise, each where wanted. */
struct rows_job {
    const struct infer_kernels *kernels;
    enum model_norm_kind norm;
    const float *x;
    float *y; /* NULL: quantise only */
    const float *w, *b;
    kern_gate_fn *act; /* NULL: normalise */
    const float *up;
    uint8_t *q8; /* NULL: do not quantise */
    struct model_remainder *remainders;
    int32_t k;
    float eps;
};

static void run_row(const struct rows_job *job, size_t at)
{
    const float *x = job->x + at;
    float *y = job->y + at;
    if (job->act)
        job->act(y, x, job->up ? job->up + at : NULL, job->k);
    else if (job->norm == MODEL_NORM_LAYER)
        job->kernels->norm.layer(y, x, job->w, job->b, job->k, job->eps);
    else
        job->kernels->norm.rms(y, x, job->w, job->k, job->eps);
}

static void run_rows(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct rows_job *job = arg;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        size_t at = (size_t)i * (size_t)job->k;
        if (job->y)
            run_row(job, at);
        if (!job->q8)
            continue;
        const float *x = (job->y ? job->y : job->x) + at;
        uint8_t *q8 = job->q8 + (size_t)i * kern_act_q8_bytes(job->k);
        job->kernels->quant.act_q8(q8, x, job->k);
        if (job->remainders)
            model_remainder_make(&job->remainders[i], &job->kernels->quant, q8, x, job->k);
    }
}

static void run_rows_job(struct model_workspace *ws, struct rows_job *job, int32_t rows, int q8)
{
    job->kernels = &ws->model->device->kernels;
    job->q8 = q8 ? ws->q8 : NULL;
    job->remainders = ws->remainders;
    if (q8)
        ws->remainders_of = ws->q8;
    if (job->y || job->q8)
        stage_rows(ws, run_rows, job, rows, (size_t)job->k);
}

void stage_norm(struct model_workspace *ws, float *y, const float *x, const struct model_weight *w,
                const struct model_weight *bias, int32_t rows, int q8)
{
    struct rows_job job = {.norm = ws->model->arch->norm,
                           .x = x,
                           .y = w->data ? y : NULL,
                           .w = w->data,
                           .b = bias ? bias->data : NULL,
                           .k = w->data ? w->k : ws->model->hp.n_embd,
                           .eps = ws->model->hp.norm_eps};
    run_rows_job(ws, &job, rows, q8);
}

void stage_norm_stream(struct model_workspace *ws, const struct model_weight *w,
                       const struct model_weight *bias, int32_t rows)
{
    if (w->data)
        stage_norm(ws, ws->x, ws->x, w, bias, rows, 0);
}

void stage_quantize(struct model_workspace *ws, const float *x, int32_t k, int32_t rows)
{
    struct rows_job job = {.x = x, .k = k};
    run_rows_job(ws, &job, rows, 1);
}

void stage_gate(struct model_workspace *ws, kern_gate_fn *act, float *y, const float *gate,
                const float *up, int32_t k, int32_t rows, int q8)
{
    struct rows_job job = {.x = gate, .y = y, .act = act, .up = up, .k = k};
    run_rows_job(ws, &job, rows, q8);
}

kern_gate_fn *stage_act(const struct model_workspace *ws)
{
    const struct kern_unary *unary = &ws->model->device->kernels.unary;
    kern_gate_fn *const acts[] = {
        [MODEL_ACT_SILU] = unary->silu_mul,           [MODEL_ACT_GELU] = unary->gelu_mul,
        [MODEL_ACT_GELU_TANH] = unary->gelu_tanh_mul, [MODEL_ACT_RELU] = unary->relu_mul,
        [MODEL_ACT_RELU2] = unary->relu2_mul,         [MODEL_ACT_SWIGLU_OAI] = unary->swiglu_oai,
    };
    return acts[ws->model->hp.act];
}

struct add_job {
    const struct infer_model *model;
    float *y, a;
    const float *x;
};

static void run_add(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct add_job *job = arg;
    int32_t n = job->model->hp.n_embd;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++) {
        size_t at = (size_t)i * (size_t)n;
        job->model->device->kernels.unary.axpy(job->y + at, job->a, job->x + at, n);
    }
}

void stage_add(struct model_workspace *ws, float *y, float a, const float *x, int32_t rows)
{
    struct add_job job = {ws->model, y, a, x};
    stage_rows(ws, run_add, &job, rows, (size_t)ws->model->hp.n_embd);
}

static float residual_scale(const struct model_workspace *ws)
{
    return ws->model->hp.residual_scale != 0 ? ws->model->hp.residual_scale : 1;
}

/* Normalised in place, or as it is. */
void stage_join_row(const struct model_workspace *ws, const struct model_weight *post_norm,
                    int32_t row)
{
    const struct infer_model *model = ws->model;
    const struct infer_kernels *kernels = &model->device->kernels;
    int32_t n = model->hp.n_embd;
    size_t at = (size_t)row * (size_t)n;
    const struct rows_job norm = {.kernels = kernels,
                                  .norm = model->arch->norm,
                                  .x = ws->branch,
                                  .y = ws->branch,
                                  .w = post_norm->data,
                                  .k = n,
                                  .eps = model->hp.norm_eps};
    if (post_norm->data)
        run_row(&norm, at);
    kernels->unary.axpy(ws->x + at, residual_scale(ws), ws->branch + at, n);
}

struct join_job {
    const struct model_workspace *ws;
    const struct model_weight *post_norm;
};

static void run_join(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct join_job *job = arg;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++)
        stage_join_row(job->ws, job->post_norm, i);
}

void stage_join_branch(struct model_workspace *ws, const struct model_weight *post_norm,
                       int32_t rows)
{
    struct join_job job = {ws, post_norm};
    stage_rows(ws, run_join, &job, rows, 2 * (size_t)ws->model->hp.n_embd);
}

void stage_join(struct model_workspace *ws, const struct model_weight *w,
                const struct model_weight *bias, const struct model_weight *post_norm,
                const float *x, int32_t rows)
{
    int direct = !post_norm->data && residual_scale(ws) == 1;
    stage_products(ws, &(const struct stage_product){w, bias, direct ? ws->x : ws->branch, direct},
                   1, x, rows);
    if (!direct)
        stage_join_branch(ws, post_norm, rows);
}
