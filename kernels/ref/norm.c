/* Normalisation, reference. */
#include "kernels/ref/ref.h"

#include <math.h>

static void rms(float *y, const float *x, const float *w, int32_t n, float eps)
{
    double sum = 0.0;
    double scale;

    for (int32_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    scale = 1.0 / sqrt(sum / (double)n + (double)eps);
    for (int32_t i = 0; i < n; i++) {
        y[i] = (float)((double)x[i] * scale * (w ? (double)w[i] : 1.0));
    }
}

static void layer(float *y, const float *x, const float *w, const float *b, int32_t n, float eps)
{
    double mean = 0.0;
    double sum = 0.0;
    double scale;

    for (int32_t i = 0; i < n; i++) {
        mean += (double)x[i];
    }
    mean /= (double)n;
    for (int32_t i = 0; i < n; i++) {
        sum += ((double)x[i] - mean) * ((double)x[i] - mean);
    }
    scale = 1.0 / sqrt(sum / (double)n + (double)eps);
    for (int32_t i = 0; i < n; i++) {
        const double v = ((double)x[i] - mean) * scale;

        y[i] = (float)(v * (w ? (double)w[i] : 1.0) + (b ? (double)b[i] : 0.0));
    }
}

void kern_norm_init_ref(struct kern_norm *norm)
{
    norm->rms = rms;
    norm->layer = layer;
}
