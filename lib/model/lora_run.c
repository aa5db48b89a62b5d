/* What adapters add to the products of a step. Rows of one adapter lie side by side in the batch,
 * so that each of its matrices is read once a product; A x is computed beside the product itself
 * and scaled, then B (A x) joins the result. Each element is one sum in an order of its own, so
 * that a row's result depends on nothing else in the batch. */
#include "model/lora.h"

#include "model/stage.h"

/* Products of one stage that can have pairs at once: queries, keys and values. */
#define STAGE_PAIRS 3

struct model_lora_item {
    struct kern_gemm_args args;
    kern_gemm_fn *run;
    float scale;         /* of the pair */
    const float *scales; /* of the rows */
};

static void *take(uint8_t *memory, size_t *used, size_t n, size_t size)
{
    void *p = memory ? memory + *used : NULL;
    *used += BASE_ALIGN_UP(n * size, (size_t)BASE_CACHE_LINE);
    return p;
}

size_t model_lora_scratch_init(struct model_lora_scratch *s, int32_t max_rows, int32_t max_outputs,
                               int32_t max_runs, int32_t rank, void *memory)
{
    size_t used = 0, outputs = (size_t)max_outputs, runs = (size_t)max_runs;
    size_t rows = (size_t)BASE_MAX(max_rows, max_outputs);
    *s = (struct model_lora_scratch){.max_runs = max_runs, .max_outputs = max_outputs};
    s->t = take(memory, &used, rows * (size_t)rank * STAGE_PAIRS, sizeof *s->t);
    s->down = take(memory, &used, runs * STAGE_PAIRS, sizeof *s->down);
    s->up = take(memory, &used, runs * STAGE_PAIRS, sizeof *s->up);
    s->head_runs = take(memory, &used, runs, sizeof *s->head_runs);
    s->head_scales = take(memory, &used, outputs, sizeof *s->head_scales);
    return used;
}

void model_lora_begin(struct model_lora_scratch *s, const struct model_batch *batch)
{
    s->batch = batch;
    s->runs = batch->runs;
    s->n_runs = batch->n_runs;
    s->scales = batch->scales;
}

void model_lora_pick(struct model_lora_scratch *s, const int32_t *rows, int32_t n)
{
    const struct model_batch *batch = s->batch;
    int32_t in = 0, out = 0;
    if (!batch || !batch->n_runs)
        return;
    for (int32_t i = 0; i < n; i++) {
        while (in < batch->n_runs && rows[i] >= batch->runs[in].row + batch->runs[in].n_rows)
            in++;
        s->head_scales[i] = batch->scales[rows[i]];
        if (in == batch->n_runs || rows[i] < batch->runs[in].row)
            continue;
        struct model_batch_run *last = out ? &s->head_runs[out - 1] : NULL;
        if (last && last->adapter == batch->runs[in].adapter)
            last->n_rows = i + 1 - last->row;
        else
            s->head_runs[out++] = (struct model_batch_run){batch->runs[in].adapter, i, 1};
    }
    s->runs = s->head_runs;
    s->n_runs = out;
    s->scales = s->head_scales;
}

/* A's product with the rows of a run; the parts of a fused matrix share it. */
static const struct model_lora_item *add_down(struct model_lora_scratch *s,
                                              const struct infer_kernels *kernels,
                                              const struct model_batch_run *run,
                                              const struct model_lora_pair *pair, const float *x,
                                              float **t)
{
    const struct model_lora_item *last = s->n_down ? &s->down[s->n_down - 1] : NULL;
    size_t k = (size_t)pair->a.k;
    x += (size_t)run->row * k;
    if (last && last->args.w == pair->a.data && last->args.x == x)
        return last;
    struct model_lora_item *item = &s->down[s->n_down++];
    *item = (struct model_lora_item){.args = {.w = pair->a.data,
                                              .w_stride = pair->a.row_bytes,
                                              .x = x,
                                              .x_stride = k * sizeof(float),
                                              .y = *t,
                                              .y_stride = (size_t)pair->a.n,
                                              .m = run->n_rows,
                                              .n = pair->a.n,
                                              .k = pair->a.k},
                                     .run = kernels->gemm.run[pair->a.type],
                                     .scale = pair->scale,
                                     .scales = s->scales + run->row};
    *t += (size_t)run->n_rows * (size_t)pair->a.n;
    s->down_width += BASE_ALIGN_UP(pair->a.n, MODEL_LORA_GRAIN);
    return item;
}

static void add_up(struct model_lora_scratch *s, const struct infer_kernels *kernels,
                   const struct model_batch_run *run, const struct model_lora_pair *pair,
                   const struct model_lora_item *down, float *y)
{
    s->up[s->n_items++] =
        (struct model_lora_item){.args = {.w = pair->b.data,
                                          .w_stride = pair->b.row_bytes,
                                          .x = down->args.y,
                                          .x_stride = (size_t)pair->b.k * sizeof(float),
                                          .y = y + (size_t)run->row * (size_t)pair->b.n,
                                          .y_stride = (size_t)pair->b.n,
                                          .m = run->n_rows,
                                          .n = pair->b.n,
                                          .k = pair->b.k,
                                          .accumulate = 1},
                                 .run = kernels->gemm.run[pair->b.type]};
    s->up_width += BASE_ALIGN_UP(pair->b.n, MODEL_LORA_GRAIN);
}

int32_t model_lora_plan(struct model_lora_scratch *s, const struct infer_kernels *kernels,
                        const struct stage_product *products, int32_t n_products, const float *x)
{
    float *t = s->t;
    s->n_items = s->n_down = s->down_width = s->up_width = 0;
    for (int32_t r = 0; r < s->n_runs; r++)
        for (int32_t i = 0; i < n_products; i++) {
            const struct model_batch_run *run = &s->runs[r];
            const struct model_lora_pair *pair = model_lora_find(run->adapter, products[i].w);
            if (pair)
                add_up(s, kernels, run, pair, add_down(s, kernels, run, pair, x, &t),
                       products[i].y);
        }
    return s->down_width;
}

/* Runs the part of begin .. end that falls on each item; ranges begin at whole grains. */
static void run_items(const struct model_lora_item *items, int32_t n, int32_t begin, int32_t end)
{
    int32_t first = 0;
    for (int32_t i = 0; i < n && first < end; i++) {
        const struct model_lora_item *item = &items[i];
        int32_t b = BASE_MAX(begin - first, 0), e = BASE_MIN(end - first, item->args.n);
        first += BASE_ALIGN_UP(item->args.n, MODEL_LORA_GRAIN);
        if (b >= e)
            continue;
        item->run(&item->args, b, e);
        for (int32_t m = 0; item->scales && m < item->args.m; m++) {
            float *y = item->args.y + (size_t)m * item->args.y_stride;
            float scale = item->scale * item->scales[m];
            for (int32_t c = b; c < e; c++)
                y[c] *= scale;
        }
    }
}

void model_lora_down(const struct model_lora_scratch *s, int32_t begin, int32_t end)
{
    run_items(s->down, s->n_down, begin, end);
}

void model_lora_up(const struct model_lora_scratch *s, int32_t begin, int32_t end)
{
    run_items(s->up, s->n_items, begin, end);
}
