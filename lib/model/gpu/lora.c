/* Adapters on the card. Their matrices lie there from loading on, beside a table of them that the
 * kernels read. A step uploads which rows have which adapter; each product that some adapter adds
 * to is followed by two kernels for all rows and parts. Nothing of an adapter is in what is
 * launched but the largest rank, so that steps with adapters are captured as others are. */
#include "model/lora.h"
#include "model/gpu/run.h"

#include "base/error.h"

#include <string.h>

#define ALIGNMENT 256

/* Rows that a segment has at most: more are several, which blocks share. */
#define SEGMENT_ROWS 64
/* Ranks are rounded up to this, so that few graphs serve many adapters. */
#define RANK_UNIT 16

/* ------------------------------------------------------------------- loading */

struct image {
    const struct infer_adapter *adapter;
    uint8_t *host; /* NULL: sizes are only counted */
    uint8_t *card;
    size_t used;
};

static int32_t padded(const struct model_weight *w)
{
    return (int32_t)BASE_ALIGN_UP(w->row_bytes, (size_t)16);
}

/* Where the matrix lies on the card. */
static const uint8_t *put(struct image *image, const struct model_weight *w)
{
    size_t stride = (size_t)padded(w), at = image->used;
    image->used += BASE_ALIGN_UP((size_t)w->n * stride, (size_t)ALIGNMENT);
    for (int32_t r = 0; image->host && r < w->n; r++)
        memcpy(image->host + at + (size_t)r * stride,
               (const uint8_t *)w->data + (size_t)r * w->row_bytes, w->row_bytes);
    return image->card + at;
}

/* Parts of a fused matrix follow one another, and share A. */
static const uint8_t *put_a(struct image *image, struct kern_cuda_lora_pair *table, int32_t i)
{
    const struct model_lora_pair *pairs = image->adapter->pairs;
    for (int32_t other = i - 1; other >= 0 && other >= i - 2; other--)
        if (pairs[other].a.data == pairs[i].a.data)
            return image->host ? table[other].a : NULL;
    return put(image, &pairs[i].a);
}

/* The table lies in front. */
static void put_all(struct image *image)
{
    const struct infer_adapter *a = image->adapter;
    struct kern_cuda_lora_pair *table = (void *)image->host;
    size_t bytes = (size_t)a->n_pairs * sizeof *table;
    image->used = BASE_ALIGN_UP(bytes, (size_t)ALIGNMENT);
    for (int32_t i = 0; i < a->n_pairs; i++) {
        const struct model_lora_pair *p = &a->pairs[i];
        if (!p->a.data)
            continue;
        const uint8_t *at = put_a(image, table, i), *b = put(image, &p->b);
        if (image->host)
            table[i] = (struct kern_cuda_lora_pair){.a = at,
                                                    .b = b,
                                                    .a_stride = padded(&p->a),
                                                    .b_stride = padded(&p->b),
                                                    .type_a = (int32_t)p->a.type,
                                                    .type_b = (int32_t)p->b.type,
                                                    .rank = p->a.n,
                                                    .scale = p->scale};
    }
}

infer_status model_gpu_lora_upload(struct infer_adapter *a)
{
    struct image image = {.adapter = a};
    if (!device_cuda_kernels(a->model->device)->lora.down)
        return base_error(INFER_ERR_UNSUPPORTED, "%s has no kernels for adapters",
                          a->model->device->name);
    put_all(&image);
    infer_status st = device_buffer_alloc(a->model->device, DEVICE_WEIGHTS, image.used, &a->card);
    if (st != INFER_OK)
        return st;
    image.host = base_new(&a->alloc, 1, image.used);
    image.card = a->card.data;
    if (!image.host)
        return INFER_ERR_NO_MEMORY;
    put_all(&image);
    st = device_buffer_upload(&a->card, 0, image.host, image.used);
    base_free(&a->alloc, image.host);
    return st;
}

/* -------------------------------------------------------------------- memory */

static size_t max_rows_of(const struct model_gpu_run *run)
{
    return (size_t)BASE_MAX(run->max_rows, run->max_outputs);
}

int32_t gpu_lora_segments(int32_t max_rows, int32_t max_outputs, int32_t max_seqs)
{
    return max_seqs + BASE_MAX(max_rows, max_outputs) / SEGMENT_ROWS;
}

size_t model_gpu_lora_bytes(const struct model_gpu_run *run, int32_t rank)
{
    return max_rows_of(run) * run->kernels->lora.row(rank) * sizeof(float);
}

void model_gpu_lora_use(struct model_gpu_run *run, void *memory)
{
    run->lora.t = memory;
}

/* -------------------------------------------------------------------- a step */

static int32_t round_up(int32_t n, int32_t most)
{
    int32_t up = 1;
    while (up < n)
        up *= 2;
    return BASE_MIN(up, most);
}

/* Kernels are for one row a segment, a few, or many: a shape more than these makes no difference.
 */
static int32_t round_rows(int32_t n)
{
    return n == 1 ? 1 : n <= 8 ? 8 : SEGMENT_ROWS;
}

static void add_run(struct gpu_lora *l, struct kern_cuda_lora_segment *segments,
                    const struct infer_adapter *adapter, int32_t row, int32_t n_rows)
{
    for (int32_t at = 0; at < n_rows; at += SEGMENT_ROWS)
        segments[l->n_segments++] = (struct kern_cuda_lora_segment){
            adapter->card.data, row + at, BASE_MIN(n_rows - at, SEGMENT_ROWS)};
    l->segment_rows = BASE_MAX(l->segment_rows, BASE_MIN(n_rows, SEGMENT_ROWS));
    l->rank = BASE_MAX(l->rank, BASE_ALIGN_UP(adapter->max_rank, RANK_UNIT));
    l->targets |= adapter->targets;
}

/* Segments beyond those there are have no rows. */
static void end_runs(const struct model_gpu_run *run, struct gpu_lora *l,
                     struct kern_cuda_lora_segment *segments)
{
    int32_t n = round_up(l->n_segments, run->max_segments);
    while (l->n_segments < n)
        segments[l->n_segments++] = (struct kern_cuda_lora_segment){NULL, 0, 0};
    l->segment_rows = round_rows(l->segment_rows);
}

void gpu_lora_begin(struct model_gpu_run *run, const struct model_batch *batch)
{
    struct gpu_batch_memory *h = run->host;
    run->lora = (struct gpu_lora){.segments = run->card.segments,
                                  .scales = run->card.scales,
                                  .batch = batch,
                                  .t = run->lora.t};
    if (!batch->n_runs)
        return;
    for (int32_t i = 0; i < batch->n_runs; i++) {
        const struct model_batch_run *r = &batch->runs[i];
        add_run(&run->lora, h->segments, r->adapter, r->row, r->n_rows);
        memcpy(h->scales + r->row, batch->scales + r->row, (size_t)r->n_rows * sizeof *h->scales);
    }
    end_runs(run, &run->lora, h->segments);
}

/* The last run that begins at or before the row and has it, or NULL. */
static const struct model_batch_run *run_of(const struct model_batch *batch, int32_t row)
{
    for (int32_t i = batch->n_runs - 1; i >= 0; i--)
        if (batch->runs[i].row <= row)
            return row < batch->runs[i].row + batch->runs[i].n_rows ? &batch->runs[i] : NULL;
    return NULL;
}

infer_status gpu_lora_pick(struct model_gpu_run *run, const int32_t *rows, int32_t n)
{
    const struct model_batch *batch = run->lora.batch;
    struct gpu_batch_memory *h = run->host, *c = &run->card;
    struct gpu_lora head = {
        .segments = c->head_segments, .scales = c->head_scales, .batch = batch, .t = run->lora.t};
    if (!(run->lora.targets & MODEL_LORA_HEAD)) {
        run->lora.targets = 0;
        return INFER_OK;
    }
    for (int32_t at = 0, end; at < n; at = end) {
        const struct model_batch_run *r = run_of(batch, rows[at]);
        for (end = at + 1; end < n && run_of(batch, rows[end]) == r;)
            end++;
        for (int32_t i = at; r && i < end; i++)
            h->head_scales[i] = batch->scales[rows[i]];
        if (r)
            add_run(&head, h->head_segments, r->adapter, at, end - at);
    }
    end_runs(run, &head, h->head_segments);
    head.targets &= MODEL_LORA_HEAD;
    run->lora = head;
    return device_cuda_copy_in(run->device, c->head_segments, h->head_segments,
                               run->head_lora_bytes);
}

/* ------------------------------------------------------------------ products */

/* The bit of what the weight is among an adapter's targets, 0: none adds to it; and its place in
 * their tables. */
static uint32_t target_of(const struct model_gpu_run *run, const struct gpu_weight *w,
                          int32_t *place)
{
    const size_t n_roles = BASE_COUNT(run->gpu->layers[0]);
    const struct gpu_weight *first = run->gpu->layers[0];
    const uintptr_t bytes = (uintptr_t)w - (uintptr_t)first;
    int32_t n_layers = run->model->hp.n_layers, layer = n_layers;
    enum model_role role = MODEL_OUTPUT;
    if (w != &run->gpu->global[MODEL_OUTPUT]) {
        size_t at = bytes / sizeof *w;
        layer = (int32_t)(at / n_roles);
        role = (enum model_role)(MODEL_LAYER_FIRST + at % n_roles);
        if (bytes >= (size_t)n_layers * n_roles * sizeof *w) /* another one of all layers */
            return 0;
    }
    return model_lora_target(n_layers, layer, role, place);
}

int gpu_lora_touches(const struct model_gpu_run *run, const struct gpu_weight *w)
{
    int32_t place;
    return run->lora.targets && (run->lora.targets & target_of(run, w, &place));
}

/* The norm in front is the kernels' own work, but for a layer norm. */
static void set_rows(struct model_gpu_run *run, struct gpu_rows *rows,
                     struct kern_cuda_lora_args *args)
{
    int fused = gpu_rows_fuse(run, rows);
    size_t stride = (size_t)rows->k * sizeof(float);
    args->x = fused ? rows->x : gpu_rows_as(run, rows, KERN_CUDA_ROWS_F32, &stride);
    args->x_stride = stride / sizeof(float);
    args->norm = fused ? rows->w : NULL;
    args->eps = run->model->hp.norm_eps;
}

void gpu_lora_add(struct model_gpu_run *run, struct gpu_rows *rows,
                  const struct gpu_product *products, int32_t n)
{
    const struct gpu_lora *l = &run->lora;
    struct kern_cuda_lora_args args = {.segments = l->segments,
                                       .scales = l->scales,
                                       .n_segments = l->n_segments,
                                       .segment_rows = l->segment_rows,
                                       .max_rank = l->rank,
                                       .tiles = !run->invariant && l->segment_rows == SEGMENT_ROWS,
                                       .k = rows->k,
                                       .t = l->t};
    for (int32_t i = 0; i < n && l->targets; i++) {
        const struct gpu_product *p = &products[i];
        int32_t at = args.n_parts;
        if (!(l->targets & target_of(run, p->w, &args.pair[at])))
            continue;
        args.n[at] = p->w->matrix.n;
        args.y[at] = p->y;
        args.y_stride[at] = p->y_stride ? p->y_stride : (size_t)p->w->matrix.n;
        args.n_parts++;
    }
    if (!args.n_parts)
        return;
    set_rows(run, rows, &args);
    gpu_launched(run, run->kernels->lora.down(&args, run->stream), "an adapter's product");
    gpu_launched(run, run->kernels->lora.up(&args, run->stream), "an adapter's product");
}
