/* Vectors of texts: rows are joined on the card, and the vectors alone come back. */
#include "base/error.h"
#include "model/encode.h"
#include "model/gpu/run.h"

/* Vectors that come back together. */
#define AT_ONCE 128

struct gpu_folds {
    struct kern_cuda_text_fold folds[AT_ONCE];
    float vectors[]; /* AT_ONCE rows of n_embd; the card writes them by itself */
};

/* The card reads it over the bus: small, and read once. */
static infer_status open_folds(struct model_gpu_run *run)
{
    size_t row = (size_t)run->model->hp.n_embd * sizeof(float);
    if (run->folds)
        return INFER_OK;
    void *memory = NULL;
    infer_status st =
        device_cuda_host_alloc(run->device, sizeof(struct gpu_folds) + AT_ONCE * row, &memory);
    run->folds = memory;
    return st;
}

static struct kern_cuda_text_fold fold_of(const struct model_fold *f)
{
    struct kern_cuda_text_fold out = {
        .row = f->row, .n_rows = f->n_rows, .largest = f->kind == MODEL_POOLING_MAX, .scale = 1};
    if (f->kind == MODEL_POOLING_MEAN || f->kind == MODEL_POOLING_MAX || f->n_rows < 1)
        return out;
    out.row += f->n_rows - 1;
    out.n_rows = 1;
    return out;
}

static infer_status fold_some(struct model_gpu_run *run, const float *rows,
                              const struct model_fold *folds, int32_t n)
{
    struct gpu_folds *m = run->folds;
    int32_t n_embd = run->model->hp.n_embd;
    for (int32_t i = 0; i < n; i++)
        m->folds[i] = fold_of(&folds[i]);
    infer_status st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    run->status = INFER_OK;
    gpu_launched(run, run->kernels->text.pool(m->vectors, rows, m->folds, n, n_embd, run->stream),
                 "pooling");
    device_cuda_leave(run->device);
    gpu_used(run);
    st = run->status == INFER_OK ? model_gpu_wait(run) : run->status;
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        struct model_fold one = folds[i];
        one.row = i;
        one.n_rows = BASE_MIN(one.n_rows, 1);
        model_fold_rows(run->model, m->vectors, &one, 1);
    }
    return st;
}

infer_status gpu_fold(struct model_gpu_run *run, const float *rows, const struct model_fold *folds,
                      int32_t n)
{
    infer_status st = open_folds(run);
    for (int32_t at = 0; at < n && st == INFER_OK; at += AT_ONCE)
        st = fold_some(run, rows, folds + at, BASE_MIN(AT_ONCE, n - at));
    return st;
}

/* Of all rows from the first to the last that are wanted: the residual stream stays as it is, for
 * requests of the same step that go on to the head. */
static infer_status norm_rows(struct model_gpu_run *run, int32_t begin, int32_t end)
{
    const struct model_hparams *hp = &run->model->hp;
    size_t row = (size_t)hp->n_embd;
    const struct kern_cuda_norm_args args = {
        .y = run->branch + (size_t)begin * row,
        .y_stride = row * sizeof(float),
        .x = run->x + (size_t)begin * row,
        .x_stride = row,
        .w = run->gpu->global[MODEL_OUTPUT_NORM].vector,
        .b = run->gpu->global[MODEL_OUTPUT_NORM_BIAS].vector,
        .n_rows = end - begin,
        .n = hp->n_embd,
        .rows_type = KERN_CUDA_ROWS_F32,
        .layer = run->model->arch->norm == MODEL_NORM_LAYER,
        .eps = hp->norm_eps,
    };
    infer_status st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    run->status = INFER_OK;
    gpu_launched(run, run->kernels->rows.norm(&args, run->stream), "a norm");
    device_cuda_leave(run->device);
    gpu_used(run);
    return run->status;
}

infer_status model_gpu_final_fold(struct model_gpu_run *run, const struct model_fold *folds,
                                  int32_t n)
{
    int32_t begin = INT32_MAX, end = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct kern_cuda_text_fold f = fold_of(&folds[i]);
        begin = BASE_MIN(begin, f.n_rows ? f.row : begin);
        end = BASE_MAX(end, f.row + f.n_rows);
    }
    infer_status st = INFER_OK;
    if (begin < end && run->gpu->global[MODEL_OUTPUT_NORM].vector)
        st = norm_rows(run, begin, end);
    else
        return gpu_fold(run, run->x, folds, n);
    return st == INFER_OK ? gpu_fold(run, run->branch, folds, n) : st;
}
