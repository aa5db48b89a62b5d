/* The launcher of products of few rows: parts are gathered by type. */
#include "kernels/cuda/few.cuh"

#define FLOAT_TYPES(X)             X(F32) X(F16) X(BF16) X(F8_E4M3) X(F8_E5M2) X(F8_128)
#define QUANT(dtype, type, n)      DECLARE(dtype)
#define QUANT_CASE(dtype, type, n) CASE(dtype)

#define DECLARE(dtype) kern_few_launch_fn kern_few_##dtype;
FLOAT_TYPES(DECLARE)
KERN_QUANT_LIST(QUANT)

static kern_few_launch_fn *launch_of(infer_dtype type)
{
#define CASE(dtype)                                                                                \
    case INFER_DTYPE_##dtype:                                                                      \
        return kern_few_##dtype;
    switch (type) {
        FLOAT_TYPES(CASE)
        KERN_QUANT_LIST(QUANT_CASE)
    default:
        return nullptr;
    }
}

/* Parts of the type of part `first` that are not done; marks them. */
static void gather(struct kern_few_job *job, const struct kern_cuda_few_args *args, int32_t first,
                   bool done[KERN_CUDA_PARTS])
{
    job->args.n_parts = 0;
    for (int32_t p = first; p < args->n_parts; p++) {
        if (done[p] || args->parts[p].w.type != args->parts[first].w.type)
            continue;
        done[p] = true;
        job->args.parts[job->args.n_parts] = args->parts[p];
        job->args.part_scale[job->args.n_parts++] = args->part_scale[p];
    }
}

/* The gate by itself into y, then up, which finds it there. */
static int32_t gate_in_turn(struct kern_few_job *job, const struct kern_cuda_few_args *args,
                            kern_few_find_fn *launch_of, void *stream)
{
    kern_few_launch_fn *gate = launch_of(args->parts[0].w.type);
    kern_few_launch_fn *up = launch_of(args->parts[1].w.type);
    if (!gate || !up || args->accumulate)
        return (int32_t)cudaErrorInvalidValue;
    job->args.n_parts = 1;
    job->args.act = KERN_CUDA_ACT_NONE;
    job->args.out_scale = nullptr;
    const int32_t error = gate(job, false, stream);
    if (error)
        return error;
    job->args.act = args->act;
    job->args.out_scale = args->out_scale;
    job->args.parts[0] = args->parts[1];
    job->args.parts[0].y = args->parts[0].y;
    job->args.parts[0].y_stride = args->parts[0].y_stride;
    job->args.part_scale[0] = args->part_scale[1];
    job->late_up = 1;
    return up(job, false, stream);
}

int32_t kern_few_by_type(const struct kern_cuda_few_args *args, kern_few_find_fn *launch_of,
                         void *stream)
{
    struct kern_few_job job = {};
    bool done[KERN_CUDA_PARTS] = {};
    if (args->m <= 0 || args->n_parts <= 0)
        return 0;
    job.args = *args;
    job.k = args->parts[0].w.k;
    if (args->act != KERN_CUDA_ACT_NONE && args->n_parts > 1) {
        kern_few_launch_fn *launch = launch_of(args->parts[0].w.type);
        if (args->n_parts > 2 || !launch)
            return (int32_t)cudaErrorInvalidValue;
        return args->parts[1].w.type == args->parts[0].w.type
                   ? launch(&job, true, stream)
                   : gate_in_turn(&job, args, launch_of, stream);
    }
    for (int32_t first = 0; first < args->n_parts; first++) {
        if (done[first])
            continue;
        kern_few_launch_fn *launch = launch_of(args->parts[first].w.type);
        if (!launch)
            return (int32_t)cudaErrorInvalidValue;
        gather(&job, args, first, done);
        const int32_t error = launch(&job, false, stream);
        if (error)
            return error;
    }
    return 0;
}

extern "C" int32_t kern_cuda_product_few(const struct kern_cuda_few_args *args, void *stream)
{
    return kern_few_by_type(args, launch_of, stream);
}
