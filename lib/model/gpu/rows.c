/* Activations in the forms that products read, and hidden rows. */
#include "model/gpu/run.h"

#include "kernels/quant_blocks.h"

void gpu_launched(struct model_gpu_run *run, int32_t launched, const char *what)
{
    if (launched && run->status == INFER_OK)
        run->status = device_cuda_check(run->device, launched, what);
}

size_t gpu_row_bytes(int32_t form, int32_t k)
{
    switch (form) {
    case KERN_CUDA_ROWS_Q8:
        return kern_act_q8_bytes(BASE_ALIGN_UP(k, 32));
    case KERN_CUDA_ROWS_F8: /* of its codes */
        return BASE_ALIGN_UP((size_t)k, (size_t)KERN_F8);
    case KERN_CUDA_ROWS_BF16:
        return BASE_ALIGN_UP((size_t)k * 2, (size_t)16);
    default:
        return BASE_ALIGN_UP((size_t)k * 4, (size_t)16);
    }
}

struct gpu_rows gpu_rows_plain(const float *x, int32_t k, int32_t n_rows)
{
    return (struct gpu_rows){.kind = GPU_ROWS_PLAIN, .x = x, .k = k, .n_rows = n_rows};
}

struct gpu_rows gpu_rows_norm(const struct model_gpu_run *run, const float *x,
                              const struct gpu_weight *w, const struct gpu_weight *b,
                              int32_t n_rows)
{
    struct gpu_rows rows = gpu_rows_plain(x, run->model->hp.n_embd, n_rows);
    if (w->vector) {
        rows.kind = GPU_ROWS_NORM;
        rows.w = w->vector;
        rows.b = b->vector;
    }
    return rows;
}

/* Whether rows are others than those of x. */
static int is_changed(const struct gpu_rows *rows)
{
    return rows->factor || rows->x_div > 1;
}

int gpu_rows_fuse(const struct model_gpu_run *run, const struct gpu_rows *rows)
{
    return rows->kind == GPU_ROWS_NORM && run->model->arch->norm == MODEL_NORM_RMS && !rows->b &&
           !is_changed(rows);
}

static void make(struct model_gpu_run *run, const struct gpu_rows *rows, int32_t form,
                 size_t stride)
{
    const struct kern_cuda *k = run->kernels;
    void *y = run->forms[form];
    const struct kern_cuda_norm_args norm = {
        .y = y,
        .y_stride = stride,
        .x = rows->x,
        .x_stride = (size_t)rows->k,
        .w = rows->w,
        .b = rows->b,
        .n_rows = rows->n_rows,
        .n = rows->k,
        .rows_type = form,
        .layer = run->model->arch->norm == MODEL_NORM_LAYER,
        .eps = run->model->hp.norm_eps,
        .x_div = rows->x_div,
        .factor = rows->factor,
        .plain = rows->kind == GPU_ROWS_PLAIN,
    };
    const struct kern_cuda_gate_args gate = {
        .y = y,
        .y_stride = stride,
        .rows_type = form,
        .gate = rows->x,
        .up = rows->up,
        .stride = rows->stride,
        .up_stride = rows->up_stride,
        .factor = rows->factor,
        .act = rows->act,
        .n_rows = rows->n_rows,
        .n = rows->k,
    };
    if (rows->kind == GPU_ROWS_GATE)
        gpu_launched(run, k->rows.gate(&gate, run->stream), "an activation");
    else if (rows->kind == GPU_ROWS_NORM || is_changed(rows))
        gpu_launched(run, k->rows.norm(&norm, run->stream), "a norm");
    else
        gpu_launched(run,
                     k->rows.convert(y, stride, form, rows->x, (size_t)rows->k, rows->n_rows,
                                     rows->k, run->stream),
                     "a conversion");
}

const void *gpu_rows_as(struct model_gpu_run *run, struct gpu_rows *rows, int32_t form,
                        size_t *stride)
{
    if (rows->kind == GPU_ROWS_PLAIN && form == KERN_CUDA_ROWS_F32 && !is_changed(rows)) {
        *stride = (size_t)rows->k * sizeof(float);
        return rows->x;
    }
    *stride = gpu_row_bytes(form, rows->k);
    if (!(rows->made >> form & 1))
        make(run, rows, form, *stride);
    rows->made |= 1u << form;
    return run->forms[form];
}

int32_t gpu_act(const struct infer_model *model)
{
    static const int32_t acts[] = {
        [MODEL_ACT_SILU] = KERN_CUDA_ACT_SILU,
        [MODEL_ACT_GELU] = KERN_CUDA_ACT_GELU,
        [MODEL_ACT_GELU_TANH] = KERN_CUDA_ACT_GELU_TANH,
        [MODEL_ACT_RELU] = KERN_CUDA_ACT_RELU,
        [MODEL_ACT_RELU2] = KERN_CUDA_ACT_RELU2,
        [MODEL_ACT_SWIGLU_OAI] = KERN_CUDA_ACT_SWIGLU_OAI,
    };
    return acts[model->hp.act];
}
