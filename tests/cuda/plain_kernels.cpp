/* Products of a few rows by F32 matrices as loops of the host, for emulated tests that are about
 * other kernels: fibers take most of their time for products. */
#include "cuda/plain_kernels.h"

#include "cuda/emulate.h"

/* 1, or what an RMS norm multiplies a row by. */
static double factor_of(const struct kern_cuda_few_args &a, const float *x, int32_t k)
{
    double sum = 0;
    for (int32_t j = 0; a.norm && j < k; j++)
        sum += (double)x[j] * (double)x[j];
    return a.norm ? 1 / sqrt(sum / k + (double)a.eps) : 1;
}

static void multiply(const struct kern_cuda_few_args &a, const struct kern_cuda_part &p)
{
    for (int32_t i = 0; i < a.m; i++) {
        const float *x = a.x + (size_t)i * a.x_stride;
        const double factor = factor_of(a, x, p.w.k);
        for (int32_t r = 0; r < p.w.n; r++) {
            const float *w = (const float *)(p.w.body + (size_t)r * p.w.body_stride);
            float *y = p.y + (size_t)i * p.y_stride + r;
            double sum = (a.accumulate ? (double)*y : 0) + (p.bias ? (double)p.bias[r] : 0);
            for (int32_t j = 0; j < p.w.k; j++)
                sum += (double)x[j] * factor * (a.norm ? (double)a.norm[j] : 1) * (double)w[j];
            *y = (float)sum;
        }
    }
}

static int32_t few(const struct kern_cuda_few_args *args, void *stream)
{
    const struct kern_cuda_few_args a = *args;
    bool plain = !a.expert && !a.out_scale && a.act == KERN_CUDA_ACT_NONE;
    for (int32_t i = 0; i < a.n_parts; i++)
        plain = plain && a.parts[i].w.type == INFER_DTYPE_F32 && !a.part_scale[i];
    if (!plain)
        return kern_cuda_product_few(args, stream);
    return emulated_launch(dim3(1), dim3(1), 0, stream, [=] {
        for (int32_t i = 0; i < a.n_parts; i++)
            multiply(a, a.parts[i]);
    });
}

void plain_kernels(struct kern_cuda *k)
{
    k->product.few = few;
}
