/* Products of weights with few and with many rows. */
#include "kernels.h"

#include "blas.h"
#include "format/quant_layout.h"

#include <stdlib.h>

static const infer_dtype types[] = {INFER_DTYPE_BF16,  INFER_DTYPE_F16,  INFER_DTYPE_Q8_0,
                                    INFER_DTYPE_Q6_K,  INFER_DTYPE_Q4_K, INFER_DTYPE_Q4_0,
                                    INFER_DTYPE_F8_128};

/* --- few rows: the products of a step as the engine fuses them --- */

struct shape {
    const char *name;
    int32_t n[KERN_CUDA_PARTS]; /* of each part, 0: no more parts */
    int32_t k, norm, accumulate, act;
    int32_t times; /* in a step */
};

struct model {
    const char *name;
    struct shape shapes[5];
};

static const struct model models[] = {
    {"8B",
     {{"qkv", {4096, 1024, 1024}, 4096, 1, 0, KERN_CUDA_ACT_NONE, 32},
      {"out", {4096}, 4096, 0, 1, KERN_CUDA_ACT_NONE, 32},
      {"gate+up", {14336, 14336}, 4096, 1, 0, KERN_CUDA_ACT_SILU, 32},
      {"down", {4096}, 14336, 0, 1, KERN_CUDA_ACT_NONE, 32},
      {"head", {128256}, 4096, 1, 0, KERN_CUDA_ACT_NONE, 1}}},
    {"1B",
     {{"qkv", {2048, 512, 512}, 2048, 1, 0, KERN_CUDA_ACT_NONE, 16},
      {"out", {2048}, 2048, 0, 1, KERN_CUDA_ACT_NONE, 16},
      {"gate+up", {8192, 8192}, 2048, 1, 0, KERN_CUDA_ACT_SILU, 16},
      {"down", {2048}, 8192, 0, 1, KERN_CUDA_ACT_NONE, 16},
      {"head", {128256}, 2048, 1, 0, KERN_CUDA_ACT_NONE, 1}}},
};

static const int32_t few_rows[] = {1, 2, 4, 8};

struct few {
    const struct kernels_card *card;
    struct kern_cuda_few_args args;
    struct kernels_weights weights[KERN_CUDA_PARTS];
};

static int32_t launch_few(void *context, int32_t i, void *stream)
{
    struct few *f = context;
    for (int32_t p = 0; p < f->args.n_parts; p++)
        f->args.parts[p].w = kernels_weights_copy(&f->weights[p], i);
    return f->card->kernels.product.few(&f->args, stream);
}

static int few_start(struct few *f, const struct shape *s, infer_dtype type, double *bytes)
{
    *bytes = 0;
    for (int32_t p = 0; p < KERN_CUDA_PARTS; p++)
        *bytes += kernels_file_bytes(type, s->n[p], s->k);
    f->args = (struct kern_cuda_few_args){
        .x_stride = (size_t)s->k, .eps = 1e-5f, .accumulate = s->accumulate, .act = s->act};
    for (int32_t p = 0; p < KERN_CUDA_PARTS && s->n[p]; p++) {
        size_t n = (size_t)s->n[p];
        if (!kernels_weights_make(f->card, &f->weights[p], type, s->n[p], s->k,
                                  kernels_copies(*bytes)))
            return 0;
        f->args.parts[p] = (struct kern_cuda_part){
            .y = kernels_new(n * KERN_CUDA_FEW_ROWS * sizeof(float)), .y_stride = n};
        f->args.n_parts++;
    }
    f->args.x = kernels_new_normal((size_t)s->k * KERN_CUDA_FEW_ROWS, 1.0f, 11);
    if (s->norm)
        f->args.norm = kernels_new_normal((size_t)s->k, 1.0f, 12);
    return 1;
}

static void few_end(struct few *f)
{
    for (int32_t p = 0; p < f->args.n_parts; p++) {
        kernels_weights_free(&f->weights[p]);
        kernels_free(f->args.parts[p].y);
    }
    kernels_free((void *)f->args.x);
    kernels_free((void *)f->args.norm);
}

/* The products of a step one behind the other: what decoding cannot beat with these kernels. */
static void step_line(const struct kernels_card *card, const char *name, double bytes,
                      const double *us)
{
    printf("%-16s", name);
    for (size_t r = 0; r < BASE_COUNT(few_rows); r++)
        printf(" | %7.0f %3.0f%%", us[r], 100e6 * bytes / us[r] / card->copy_rate);
    printf("\n");
}

static void few_model(const struct kernels_card *card, const struct model *model, infer_dtype type)
{
    double all_bytes = 0, all_us[BASE_COUNT(few_rows)] = {0};
    char name[64];
    for (size_t s = 0; s < BASE_COUNT(model->shapes); s++) {
        const struct shape *shape = &model->shapes[s];
        struct few few = {.card = card};
        double bytes;
        if (!few_start(&few, shape, type, &bytes)) {
            few_end(&few);
            printf("%s %s: no kernels for the type, skipped\n", model->name, quant_type_name(type));
            return;
        }
        snprintf(name, sizeof name, "%s %s %s", model->name, quant_type_name(type), shape->name);
        printf("%-16s", name);
        for (size_t r = 0; r < BASE_COUNT(few_rows); r++) {
            few.args.m = few_rows[r];
            snprintf(name, sizeof name, "few %s %s %s m=%d", model->name, quant_type_name(type),
                     shape->name, (int)few_rows[r]);
            all_us[r] += shape->times * kernels_cell(card, name, launch_few, &few,
                                                     few.weights[0].copies, bytes, 0);
        }
        printf("\n");
        all_bytes += shape->times * bytes;
        few_end(&few);
    }
    snprintf(name, sizeof name, "%s %s step", model->name, quant_type_name(type));
    step_line(card, name, all_bytes, all_us);
}

void kernels_few(const struct kernels_card *card)
{
    if (!card->kernels.product.few || !card->kernels.product.split) {
        printf("products of few rows: none for this card, skipped\n");
        return;
    }
    printf("few rows; us, %% of a copy, for m = 1, 2, 4, 8\n");
    for (size_t i = 0; i < BASE_COUNT(models); i++)
        for (size_t t = 0; t < BASE_COUNT(types); t++)
            few_model(card, &models[i], types[t]);
}

/* --- many rows --- */

static const int32_t many_rows[] = {16, 32, 64, 128, 256};
#define MANY_MAX 256
static const int32_t many_shapes[][2] = {
    {4096, 4096}, {14336, 4096}, {4096, 14336}, {128256, 4096}};

struct many {
    const struct kernels_card *card;
    struct kern_cuda_many_args args;
    struct kernels_weights weights;
};

static int32_t launch_many(void *context, int32_t i, void *stream)
{
    struct many *m = context;
    m->args.w = kernels_weights_copy(&m->weights, i);
    return m->card->kernels.product.many(&m->args, stream);
}

/* The library's at the same shapes: its time, and ours must be below. */
static void blas_line(const struct kernels_card *card, int32_t n, int32_t k)
{
    size_t bytes = (size_t)n * (size_t)k * 2;
    struct blas_product p = {.copy_bytes = bytes,
                             .n = n,
                             .k = k,
                             .type = BENCH_BF16,
                             .copies = kernels_copies((double)bytes)};
    void *w = kernels_new(bytes * (size_t)p.copies);
    void *x = kernels_new((size_t)MANY_MAX * (size_t)k * 2);
    bench_normal(w, bytes * (size_t)p.copies, BENCH_BF16, 0.02f, 13);
    bench_normal(x, (size_t)MANY_MAX * (size_t)k * 2, BENCH_BF16, 1.0f, 14);
    p.w = w;
    p.x = x;
    p.y = kernels_new((size_t)MANY_MAX * (size_t)n * 2);
    printf("cuBLASLt %6dx%-6d", (int)n, (int)k);
    for (size_t r = 0; r < BASE_COUNT(many_rows); r++) {
        struct bench_time t;
        char name[64];
        double operations = 2.0 * many_rows[r] * n * k;
        p.m = many_rows[r];
        if (!blas_time(&p, &t)) {
            printf(" | not offered");
            continue;
        }
        printf(" | %7.2f %3.0f%% %5.1f", t.us, 100e6 * (double)bytes / t.us / card->copy_rate,
               operations / t.us * 1e-6);
        snprintf(name, sizeof name, "cublaslt BF16 %dx%d m=%d", (int)n, (int)k, (int)p.m);
        bench_record(name, &t, (double)bytes, operations);
    }
    printf("\n");
    kernels_free(w);
    kernels_free(x);
    kernels_free(p.y);
}

/* Rows of activations in the form that the type wants. */
static void *rows_for(const struct kernels_card *card, infer_dtype type, int32_t k, size_t *stride)
{
    int32_t form = kern_cuda_many_rows(type);
    *stride = form == KERN_CUDA_ROWS_Q8     ? kern_act_q8_bytes(k)
              : form == KERN_CUDA_ROWS_BF16 ? (size_t)k * 2
                                            : (size_t)k * 4;
    void *x = kernels_new_normal((size_t)MANY_MAX * (size_t)k, 1.0f, 15);
    if (form == KERN_CUDA_ROWS_F32)
        return x;
    void *rows = kernels_new(MANY_MAX * *stride);
    BENCH_MUST(card->kernels.rows.convert(rows, *stride, form, x, (size_t)k, MANY_MAX, k, NULL));
    BENCH_MUST(cudaDeviceSynchronize());
    kernels_free(x);
    return rows;
}

static void many_line(const struct kernels_card *card, infer_dtype type, int32_t n, int32_t k)
{
    struct many many = {.card = card};
    double bytes = kernels_file_bytes(type, n, k);
    char name[64];
    if (kern_cuda_many_rows(type) < 0 ||
        !kernels_weights_make(card, &many.weights, type, n, k, kernels_copies(bytes))) {
        printf("%s: no kernels for the type, skipped\n", quant_type_name(type));
        return;
    }
    many.args.x = rows_for(card, type, k, &many.args.x_stride);
    many.args.y = kernels_new((size_t)MANY_MAX * (size_t)n * sizeof(float));
    many.args.y_stride = (size_t)n;
    printf("%-8s %6dx%-6d", quant_type_name(type), (int)n, (int)k);
    for (size_t r = 0; r < BASE_COUNT(many_rows); r++) {
        many.args.m = many_rows[r];
        size_t scratch = kern_cuda_many_scratch(n, k, many.args.m);
        many.args.scratch = scratch ? kernels_new(scratch) : NULL;
        snprintf(name, sizeof name, "many %s %dx%d m=%d", quant_type_name(type), (int)n, (int)k,
                 (int)many.args.m);
        kernels_cell(card, name, launch_many, &many, many.weights.copies, bytes,
                     2.0 * many.args.m * n * k);
        kernels_free(many.args.scratch);
    }
    printf("\n");
    kernels_weights_free(&many.weights);
    kernels_free((void *)many.args.x);
    kernels_free(many.args.y);
}

/* --- FP8 prompts: E4M3 by E4M3 by the library, and what it takes to have both sides so --- */

static const int32_t f8_rows[] = {64, 512, 2048};
#define F8_ROWS_MAX 2048

struct f8 {
    const struct kernels_card *card;
    struct kernels_weights weights;
    float *scales, *x;
    void *rows;
    int32_t m, k;
};

static int32_t launch_scales(void *context, int32_t i, void *stream)
{
    struct f8 *f = context;
    const struct kern_cuda_matrix w = kernels_weights_copy(&f->weights, i);
    return f->card->kernels.product.scales(f->scales, &w, 0, w.n, stream);
}

static int32_t launch_rows(void *context, int32_t i, void *stream)
{
    struct f8 *f = context;
    BASE_UNUSED(i);
    return f->card->kernels.rows.convert(f->rows, (size_t)f->k, KERN_CUDA_ROWS_F8, f->x,
                                         (size_t)f->k, f->m, f->k, stream);
}

static void f8_cells(struct f8 *f, int32_t n, void *y)
{
    const double bytes = (double)n * f->k;
    for (size_t r = 0; r < BASE_COUNT(f8_rows); r++) {
        struct blas_product p = {.w = f->weights.matrix.body,
                                 .x = f->rows,
                                 .y = y,
                                 .copy_bytes = f->weights.body_bytes,
                                 .m = f8_rows[r],
                                 .n = n,
                                 .k = f->k,
                                 .type = BENCH_E4M3,
                                 .copies = f->weights.copies,
                                 .w_scales = f->scales};
        const double operations = 2.0 * p.m * n * f->k;
        struct bench_time t;
        char name[64];
        f->m = p.m;
        BENCH_MUST(launch_rows(f, 0, NULL));
        p.x_scales = (const void *)((const char *)f->rows + (size_t)p.m * (size_t)f->k);
        snprintf(name, sizeof name, "cublaslt F8_128 %dx%d m=%d", (int)n, (int)f->k, (int)p.m);
        if (blas_time(&p, &t)) {
            printf(" | %7.2f %6.1f", t.us, operations / t.us * 1e-6);
            bench_record(name, &t, bytes, operations);
        } else {
            printf(" | not offered");
        }
        snprintf(name, sizeof name, "rows to F8 %dx%d", (int)p.m, (int)f->k);
        kernels_cell(f->card, name, launch_rows, f, 1, 5.0 * p.m * f->k, 0);
    }
}

static void f8_line(const struct kernels_card *card, int32_t n, int32_t k)
{
    struct f8 f = {.card = card, .k = k};
    const double bytes = (double)n * k;
    char name[64];
    if (!kernels_weights_make(card, &f.weights, INFER_DTYPE_F8_128, n, k, kernels_copies(bytes)))
        return;
    f.scales = kernels_new((size_t)n * (size_t)k / 128 * sizeof(float));
    f.x = kernels_new_normal((size_t)F8_ROWS_MAX * (size_t)k, 1.0f, 16);
    f.rows = kernels_new((size_t)F8_ROWS_MAX * ((size_t)k + (size_t)k / 32));
    void *y = kernels_new((size_t)F8_ROWS_MAX * (size_t)n * sizeof(float));
    printf("F8_128 %6dx%-6d", (int)n, (int)k);
    snprintf(name, sizeof name, "turn scales %dx%d", (int)n, (int)k);
    kernels_cell(card, name, launch_scales, &f, f.weights.copies, bytes / 16, 0);
    f8_cells(&f, n, y);
    printf("\n");
    kernels_weights_free(&f.weights);
    kernels_free(f.scales), kernels_free(f.x), kernels_free(f.rows), kernels_free(y);
}

static void f8_lines(const struct kernels_card *card)
{
    printf("FP8 prompts; us: scales turned, then for m = 64, 512, 2048 the library's (TFLOP/s) and "
           "rows to E4M3\n");
    for (size_t s = 0; s + 1 < BASE_COUNT(many_shapes); s++)
        f8_line(card, many_shapes[s][0], many_shapes[s][1]);
}

void kernels_many(const struct kernels_card *card, int with_blas)
{
    if (!card->kernels.product.many || !card->kernels.product.split ||
        !card->kernels.rows.convert) {
        printf("products of many rows: none for this card, skipped\n");
        return;
    }
    printf("many rows; us, %% of a copy, TFLOP/s, for m = 16, 32, 64, 128, 256\n");
    for (size_t s = 0; s < BASE_COUNT(many_shapes); s++) {
        for (size_t t = 0; t < BASE_COUNT(types); t++)
            many_line(card, types[t], many_shapes[s][0], many_shapes[s][1]);
        if (with_blas)
            blas_line(card, many_shapes[s][0], many_shapes[s][1]);
    }
    if (with_blas)
        f8_lines(card);
}
