/* Products with a weight matrix: which kernel takes them is decided by the number of rows. Few rows
 * stream the weights once (few), some tens of rows go through tensor cores straight from the
 * weights (many), and long prompts to cuBLAS, for which quantised matrices are unpacked part by
 * part, in pieces that stay in the cache of the card; codes of F8_128 it may take as they are. */
#include "base/error.h"
#include "base/log.h"
#include "kernels/quant_blocks.h"
#include "model/gpu/run.h"

#include <infer/log.h>

/* How many rows each way is the fastest for, measured on an H200 (benchmarks/gpu/kernels). Plain
 * BF16 matrices cuBLAS reads at the memory's speed from three rows on; quantised ones it gets
 * unpacked, which pays for itself later. */
struct limits {
    int32_t few, many;
};

static struct limits limits_of(const struct model_gpu_run *run, infer_dtype type)
{
    switch (type) {
    case INFER_DTYPE_F32: /* of decoders routers, where roundings choose other experts */
        return (struct limits){KERN_CUDA_FEW_ROWS,
                               run->fast && run->model->arch->traits & MODEL_ENCODER ? 16
                                                                                     : INT32_MAX};
    case INFER_DTYPE_BF16:
        return (struct limits){2, 2};
    case INFER_DTYPE_F8_128: /* not yet measured: bounds by the traffic of shared memory */
        return (struct limits){2, 48};
    case INFER_DTYPE_F16:
        return (struct limits){2, 16};
    case INFER_DTYPE_Q4_0:
    case INFER_DTYPE_Q8_0:
        return (struct limits){4, 80};
    default:
        return (struct limits){4, 48};
    }
}

/* It is large and slow to open: not before rows come that want it. */
static int has_cublas(struct model_gpu_run *run)
{
    if (!run->cublas_asked && device_cublas_create(run->device, &run->cublas) != INFER_OK)
        base_log(INFER_LOG_INFO, "long prompts go without cuBLASLt: %s", base_error_text());
    run->cublas_asked = 1;
    return run->cublas != NULL;
}

/* Without cuBLAS the other two share the work. Where bits may not depend on the number of rows, the
 * kernel for many takes all: it sums a row up in the same order whatever its tile. */
static int is_few(struct model_gpu_run *run, const struct gpu_weight *w, int32_t n_rows)
{
    const struct limits limits = limits_of(run, w->matrix.type);
    if (run->invariant)
        return 0;
    if (n_rows <= limits.few)
        return 1;
    return n_rows <= KERN_CUDA_FEW_ROWS && n_rows > limits.many && !has_cublas(run);
}

/* Whether `many` or cuBLAS takes a product of more than a few rows. */
static int is_many(struct model_gpu_run *run, const struct gpu_weight *w, int32_t n_rows)
{
    infer_dtype type = w->matrix.type;
    if (run->kernels->many_rows(type) < 0)
        return 0;
    return run->invariant || n_rows <= limits_of(run, type).many || !has_cublas(run);
}

/* Whether rows may become E4M3 too, for a product that neither of the two takes. Behind keys of a
 * text lie then activations of 4 bits where it came in long batches, and of 8 or more where it did
 * not: that is more than last bits, so it has to be asked for. */
static int may_be_f8(struct model_gpu_run *run, const struct gpu_weight *w)
{
    return run->forms[KERN_CUDA_ROWS_F8] && w->matrix.type == INFER_DTYPE_F8_128 &&
           w->matrix.n % 16 == 0 && has_cublas(run) && device_cublas_has_f8(run->cublas);
}

int32_t gpu_product_form(struct model_gpu_run *run, const struct gpu_weight *w, int32_t n_rows)
{
    if (is_few(run, w, n_rows))
        return KERN_CUDA_ROWS_F32;
    if (is_many(run, w, n_rows))
        return run->kernels->many_rows(w->matrix.type);
    return may_be_f8(run, w) ? KERN_CUDA_ROWS_F8 : KERN_CUDA_ROWS_BF16;
}

/* --------------------------------------------------------------- few rows */

static const float *bias_of(const struct gpu_product *p)
{
    return p->bias ? p->bias->vector : NULL;
}

static size_t stride_of(const struct gpu_product *p)
{
    return p->y_stride ? p->y_stride : (size_t)p->w->matrix.n;
}

/* What cuBLASLt is promised of y. Numbers of heads, labels or an odd vocabulary may leave rows that
 * begin elsewhere. */
static int is_aligned(const struct gpu_product *p)
{
    return (uintptr_t)p->y % 16 == 0 && stride_of(p) % 4 == 0;
}

/* The norm in front is the kernel's own work, but for a layer norm. */
static struct kern_cuda_few_args few_args(struct model_gpu_run *run, struct gpu_rows *rows)
{
    int fused = gpu_rows_fuse(run, rows);
    struct kern_cuda_few_args args = {
        .m = rows->n_rows, .eps = run->model->hp.norm_eps, .ways = run->gpu->ways & GPU_WAYS_FEW};
    size_t stride = (size_t)rows->k * sizeof(float);
    args.x = fused ? rows->x : gpu_rows_as(run, rows, KERN_CUDA_ROWS_F32, &stride);
    args.x_stride = stride / sizeof(float);
    args.norm = fused ? rows->w : NULL;
    return args;
}

static void add_part(struct kern_cuda_few_args *args, const struct gpu_product *p)
{
    args->part_scale[args->n_parts] = p->w->scales;
    args->parts[args->n_parts++] = (struct kern_cuda_part){
        .w = p->w->matrix, .bias = bias_of(p), .y = p->y, .y_stride = stride_of(p)};
}

static void launch_few(struct model_gpu_run *run, const struct kern_cuda_few_args *args)
{
    gpu_launched(run, run->kernels->product.few(args, run->stream), "a product of few rows");
}

/* -------------------------------------------------------------- many rows */

static void launch_many(struct model_gpu_run *run, struct gpu_rows *rows,
                        const struct gpu_product *p, int32_t accumulate)
{
    struct kern_cuda_many_args args = {
        .w = p->w->matrix,
        .bias = bias_of(p),
        .y = p->y,
        .y_stride = stride_of(p),
        .m = rows->n_rows,
        .accumulate = accumulate,
        .part_scale = p->w->scales,
        .scratch = run->many_scratch,
    };
    args.x = gpu_rows_as(run, rows, run->kernels->many_rows(p->w->matrix.type), &args.x_stride);
    gpu_launched(run, run->kernels->product.many(&args, run->stream), "a product of many rows");
}

static int is_plain(const struct gpu_weight *w)
{
    return w->matrix.type == INFER_DTYPE_BF16 && w->scale == 1;
}

/* Rows of a matrix that are unpacked at once. */
static int32_t rows_at_once(const struct model_gpu_run *run, const struct kern_cuda_matrix *m)
{
    size_t room = run->unpacked_bytes / ((size_t)m->k * 2) / 64 * 64;
    return (int32_t)BASE_MIN(room, (size_t)m->n);
}

/* Whether the bias of b lies behind that of a, or neither has one. */
static int biases_follow(const struct gpu_product *a, const struct gpu_product *b)
{
    const float *first = bias_of(a), *second = bias_of(b);
    return first && second ? second == first + a->w->matrix.n : !first && !second;
}

/* How many of the products cuBLAS can take as one: plain matrices that lie one behind the other,
 * as do their biases and results. */
static int32_t n_together(const struct gpu_product *p, int32_t n)
{
    int32_t i = 0;
    for (; i + 1 < n; i++) {
        const struct kern_cuda_matrix *a = &p[i].w->matrix, *b = &p[i + 1].w->matrix;
        if (!is_plain(p[i].w) || !is_plain(p[i + 1].w) || !biases_follow(&p[i], &p[i + 1]) ||
            a->k != b->k || a->body_stride != b->body_stride ||
            b->body != a->body + (size_t)a->n * a->body_stride || p[i + 1].y != p[i].y + a->n ||
            stride_of(&p[i]) != stride_of(&p[i + 1]))
            break;
    }
    return i + 1;
}

static void launch_gemm(struct model_gpu_run *run, const struct device_cublas_args *args)
{
    if (run->status == INFER_OK)
        run->status = device_cublas_gemm(run->cublas, args);
}

static void unpack_and_multiply(struct model_gpu_run *run, const struct gpu_weight *w,
                                struct device_cublas_args args)
{
    const struct kern_cuda_matrix *m = &w->matrix;
    int32_t step = rows_at_once(run, m);
    args.w = run->unpacked;
    args.w_stride = (size_t)m->k;
    for (int32_t at = 0; at < m->n && run->status == INFER_OK; at += step) {
        args.n = BASE_MIN(step, m->n - at);
        gpu_launched(run,
                     run->kernels->product.rows(run->unpacked, KERN_CUDA_ROWS_BF16, m, NULL, at,
                                                args.n, w->scale, run->stream),
                     "unpacking a matrix");
        launch_gemm(run, &args);
        args.y += args.n;
    }
}

static void launch_bias(struct model_gpu_run *run, const struct gpu_product *p, int32_t n_rows,
                        int32_t n)
{
    if (bias_of(p))
        gpu_launched(
            run,
            run->kernels->rows.add_bias(p->y, stride_of(p), bias_of(p), n_rows, n, run->stream),
            "a bias");
}

/* E4M3 by E4M3: what differs from part to part of the matrix is set by multiply_f8(). */
static struct device_cublas_args f8_args(const struct model_gpu_run *run,
                                         const struct gpu_product *p, int32_t n_rows, size_t stride)
{
    const struct kern_cuda_matrix *m = &p->w->matrix;
    struct device_cublas_args args = {
        .w_stride = m->body_stride,
        .x = run->forms[KERN_CUDA_ROWS_F8],
        .x_stride = stride,
        .y_stride = stride_of(p),
        .m = BASE_ALIGN_UP(n_rows, GPU_ROWS_UNIT),
        .k = m->k,
        .w_scales = run->unpacked,
        .scale = p->w->scale,
    };
    args.x_scales = (const void *)((const uint8_t *)args.x + (size_t)args.m * stride);
    return args;
}

/* Rows of the matrix whose turned scales there is room for. */
static int32_t f8_rows_at_once(const struct model_gpu_run *run, const struct kern_cuda_matrix *m)
{
    size_t room = run->unpacked_bytes / ((size_t)m->k / KERN_F8 * sizeof(float)) / 64 * 64;
    return (int32_t)BASE_MIN(room, (size_t)m->n);
}

/* Whether cuBLASLt has kernels for all parts. */
static int f8_is_offered(struct model_gpu_run *run, struct device_cublas_args args, int32_t n,
                         int32_t step)
{
    const int32_t parts[] = {step, n % step};
    int32_t offered = 1;
    for (size_t i = 0; i < BASE_COUNT(parts) && offered && run->status == INFER_OK; i++) {
        args.n = parts[i];
        if (args.n)
            run->status = device_cublas_offers(run->cublas, &args, &offered);
    }
    return offered && run->status == INFER_OK;
}

/* Whether it has done it. */
static int launch_f8(struct model_gpu_run *run, struct gpu_rows *rows, const struct gpu_product *p,
                     int32_t accumulate)
{
    const struct kern_cuda_matrix *m = &p->w->matrix;
    size_t stride = gpu_row_bytes(KERN_CUDA_ROWS_F8, m->k);
    if (!may_be_f8(run, p->w))
        return 0;
    struct device_cublas_args args = f8_args(run, p, rows->n_rows, stride);
    const int32_t step = f8_rows_at_once(run, m);
    args.accumulate = accumulate;
    if (!f8_is_offered(run, args, m->n, step))
        return 0;
    gpu_rows_as(run, rows, KERN_CUDA_ROWS_F8, &stride);
    for (int32_t at = 0; at < m->n && run->status == INFER_OK; at += step) {
        args.n = BASE_MIN(step, m->n - at);
        args.w = m->body + (size_t)at * m->body_stride;
        args.y = p->y + at;
        gpu_launched(run, run->kernels->product.scales(run->unpacked, m, at, args.n, run->stream),
                     "turning a matrix's scales");
        launch_gemm(run, &args);
    }
    launch_bias(run, p, rows->n_rows, m->n);
    return 1;
}

/* Returns how many of the products it has done. */
static int32_t launch_cublas(struct model_gpu_run *run, struct gpu_rows *rows,
                             const struct gpu_product *p, int32_t n, int32_t accumulate)
{
    const struct kern_cuda_matrix *m = &p->w->matrix;
    int32_t done = n_together(p, n);
    size_t stride;
    if (launch_f8(run, rows, p, accumulate))
        return 1;
    const void *x = gpu_rows_as(run, rows, KERN_CUDA_ROWS_BF16, &stride);
    struct device_cublas_args args = {
        .w = m->body,
        .w_stride = m->body_stride / 2,
        .x = x,
        .x_stride = stride / 2,
        .y = p->y,
        .y_stride = stride_of(p),
        .m = rows->n_rows,
        .k = m->k,
        .accumulate = accumulate,
    };
    for (int32_t i = 0; i < done; i++)
        args.n += p[i].w->matrix.n;
    const int32_t n_outputs = args.n;
    if (is_plain(p->w))
        launch_gemm(run, &args);
    else
        unpack_and_multiply(run, p->w, args);
    launch_bias(run, p, rows->n_rows, n_outputs);
    return done;
}

/* Types that neither of them takes: a few rows at a time. */
static void launch_groups(struct model_gpu_run *run, struct gpu_rows *rows,
                          const struct gpu_product *p, int32_t accumulate)
{
    size_t stride;
    const float *x = gpu_rows_as(run, rows, KERN_CUDA_ROWS_F32, &stride);
    for (int32_t at = 0; at < rows->n_rows; at += KERN_CUDA_FEW_ROWS) {
        struct gpu_product part = *p;
        struct kern_cuda_few_args args = {.m = BASE_MIN(KERN_CUDA_FEW_ROWS, rows->n_rows - at),
                                          .x = x + (size_t)at * (stride / sizeof(float)),
                                          .x_stride = stride / sizeof(float),
                                          .accumulate = accumulate};
        part.y += (size_t)at * stride_of(p);
        add_part(&args, &part);
        launch_few(run, &args);
    }
}

/* ---------------------------------------------------------------- together */

static void multiply(struct model_gpu_run *run, struct gpu_rows *rows,
                     const struct gpu_product *products, int32_t n, int32_t accumulate)
{
    int32_t few = 0;
    for (int32_t i = 0; i < n; i++)
        few += is_few(run, products[i].w, rows->n_rows);
    if (few == n) {
        struct kern_cuda_few_args args = few_args(run, rows);
        args.accumulate = accumulate;
        for (int32_t i = 0; i < n; i++)
            add_part(&args, &products[i]);
        launch_few(run, &args);
        return;
    }
    for (int32_t i = 0, done; i < n; i += done) {
        const struct gpu_product *p = &products[i];
        done = 1;
        if (is_few(run, p->w, rows->n_rows))
            launch_groups(run, rows, p, accumulate);
        else if (is_many(run, p->w, rows->n_rows) || !is_aligned(p))
            launch_many(run, rows, p, accumulate);
        else if (has_cublas(run))
            done = launch_cublas(run, rows, p, n - i, accumulate);
        else
            launch_groups(run, rows, p, accumulate);
    }
}

void gpu_products(struct model_gpu_run *run, struct gpu_rows *rows,
                  const struct gpu_product *products, int32_t n, int32_t accumulate)
{
    multiply(run, rows, products, n, accumulate);
    gpu_lora_add(run, rows, products, n);
}

struct gpu_rows gpu_hidden(struct model_gpu_run *run, struct gpu_rows *rows,
                           const struct gpu_product *gate, const struct gpu_product *up,
                           const float *factor)
{
    int32_t k = up->w->matrix.n, act = gpu_act(run->model);
    size_t stride = (size_t)k * (gate ? 2 : 1);
    const struct gpu_product both[] = {
        {gate ? gate->w : up->w, gate ? gate->bias : up->bias, run->hidden, stride},
        {up->w, up->bias, run->hidden + k, stride}};
    /* What an adapter adds comes ahead of the activation. */
    int adds = gpu_lora_touches(run, up->w) || (gate && gpu_lora_touches(run, gate->w));
    if (!adds && is_few(run, up->w, rows->n_rows) &&
        (!gate || is_few(run, gate->w, rows->n_rows))) {
        struct kern_cuda_few_args args = few_args(run, rows);
        args.act = act;
        args.out_scale = factor;
        for (int32_t i = 0; i < (gate ? 2 : 1); i++)
            add_part(&args, &both[i]);
        args.parts[0].y_stride = (size_t)k;
        launch_few(run, &args);
        return gpu_rows_plain(run->hidden, k, rows->n_rows);
    }
    gpu_products(run, rows, both, gate ? 2 : 1, 0);
    return (struct gpu_rows){.kind = GPU_ROWS_GATE,
                             .x = run->hidden,
                             .up = gate ? run->hidden + k : NULL,
                             .stride = stride,
                             .up_stride = stride,
                             .factor = factor,
                             .act = act,
                             .k = k,
                             .n_rows = rows->n_rows};
}

struct gpu_rows gpu_hidden_by(struct model_gpu_run *run, struct gpu_rows *rows,
                              const struct gpu_weight *gate, const float *up, size_t up_stride)
{
    const struct gpu_product product = {gate, NULL, run->hidden, 0};
    struct gpu_rows hidden = {.kind = GPU_ROWS_GATE,
                              .x = run->hidden,
                              .up = up,
                              .stride = (size_t)gate->matrix.n,
                              .up_stride = up_stride,
                              .act = gpu_act(run->model),
                              .k = gate->matrix.n,
                              .n_rows = rows->n_rows};
    if (!is_few(run, gate, rows->n_rows) || gpu_lora_touches(run, gate)) {
        gpu_products(run, rows, &product, 1, 0);
        return hidden;
    }
    struct kern_cuda_few_args args = few_args(run, rows);
    args.act = hidden.act;
    args.up = up;
    args.up_stride = up_stride;
    add_part(&args, &product);
    launch_few(run, &args);
    return gpu_rows_plain(run->hidden, hidden.k, hidden.n_rows);
}

float gpu_residual_scale(const struct model_gpu_run *run)
{
    float scale = run->model->hp.residual_scale;
    return scale != 0 ? scale : 1;
}

void gpu_join_branch(struct model_gpu_run *run, const struct gpu_weight *post_norm, int32_t n_rows)
{
    const struct infer_model *model = run->model;
    const struct kern_cuda_join_args args = {
        .x = run->x,
        .branch = run->branch,
        .w = post_norm->vector,
        .layer = model->arch->norm == MODEL_NORM_LAYER,
        .eps = model->hp.norm_eps,
        .scale = gpu_residual_scale(run),
        .factor = run->join_factor,
        .n_rows = n_rows,
        .n = model->hp.n_embd,
    };
    gpu_launched(run, run->kernels->rows.join(&args, run->stream), "a sum");
}

void gpu_join(struct model_gpu_run *run, struct gpu_rows *rows, const struct gpu_weight *w,
              const struct gpu_weight *bias, const struct gpu_weight *post_norm)
{
    int direct = !post_norm->vector && gpu_residual_scale(run) == 1 && run->join_factor == 1;
    gpu_products(run, rows, &(const struct gpu_product){w, bias, direct ? run->x : run->branch, 0},
                 1, direct);
    if (!direct)
        gpu_join_branch(run, post_norm, rows->n_rows);
}
