/* Steps of one row a sequence, and small batches of texts, replayed. All that changes from step to
 * step lies in memory that the card reads, so a graph is for a number of sequences and a length, or
 * of rows and tiles, all rounded up, and is never updated. A shape is walked when it comes for the
 * first time and captured when it comes again, so that no first token waits for a capture. */
#include "model/gpu/run.h"

#include "base/log.h"

#include <infer/log.h>

/* Where what a graph reads lies: weights that came back, and caches that were resized, have moved.
 */
static struct gpu_graph shape_of(const struct model_gpu_run *run)
{
    return (struct gpu_graph){.n_seqs = run->batch.n_seqs,
                              .length = run->batch.seq_length,
                              .chooses = run->chooses,
                              .weights = run->gpu->memory.data,
                              .first_kv = run->kv[0].base,
                              .last_kv = run->kv[run->model->n_kv_groups - 1].base,
                              .segments = run->lora.n_segments,
                              .segment_rows = run->lora.segment_rows,
                              .rank = run->lora.rank,
                              .targets = run->lora.targets,
                              .lora = run->lora.targets ? run->lora.t : NULL,
                              .ways = run->gpu->ways};
}

static int same_shape(const struct gpu_graph *a, const struct gpu_graph *b)
{
    return a->n_seqs == b->n_seqs && a->length == b->length && a->n_rows == b->n_rows &&
           a->n_tiles == b->n_tiles && a->chooses == b->chooses && a->weights == b->weights &&
           a->first_kv == b->first_kv && a->last_kv == b->last_kv && a->segments == b->segments &&
           a->segment_rows == b->segment_rows && a->rank == b->rank && a->targets == b->targets &&
           a->lora == b->lora && a->ways == b->ways;
}

static struct gpu_graph *find(struct model_gpu_run *run, const struct gpu_graph *shape)
{
    struct gpu_graph *oldest = &run->graphs[0];
    for (int32_t i = 0; i < GPU_GRAPHS_MAX; i++) {
        struct gpu_graph *g = &run->graphs[i];
        if (same_shape(g, shape))
            return g;
        if (g->used < oldest->used)
            oldest = g;
    }
    device_cuda_graph_free(run->device, oldest->exec);
    *oldest = *shape;
    return oldest;
}

/* What cannot be captured is walked: slower, and as right. */
static void capture(struct model_gpu_run *run, struct gpu_graph *g, gpu_walk_fn *walk, void *of)
{
    infer_status st = device_cuda_capture_begin(run->device);
    if (st == INFER_OK) {
        infer_status walked = walk(of);
        st = device_cuda_capture_end(run->device, &g->exec);
        if (st == INFER_OK && walked == INFER_OK)
            return;
    }
    base_log(INFER_LOG_INFO, "a step of %d %s on %s is not captured",
             g->n_rows ? g->n_rows : g->n_seqs, g->n_rows ? "rows of texts" : "sequences",
             run->device->name);
    run->status = INFER_OK;
    device_cuda_graph_free(run->device, g->exec);
    g->exec = NULL;
}

infer_status gpu_graph_replay(struct model_gpu_run *run, const struct gpu_graph *shape,
                              gpu_walk_fn *walk, void *of)
{
    if (run->gpu->ways & GPU_WAY_WALKED)
        return walk(of);
    struct gpu_graph *g = find(run, shape);
    if (g->used && !g->exec)
        capture(run, g, walk, of);
    g->used = run->n_steps;
    return g->exec ? device_cuda_graph_launch(run->device, g->exec) : walk(of);
}

static infer_status walk_layers(void *run)
{
    return gpu_walk_layers(run);
}

infer_status gpu_graph_run(struct model_gpu_run *run)
{
    const struct gpu_graph shape = shape_of(run);
    return gpu_graph_replay(run, &shape, walk_layers, run);
}

void gpu_graphs_free(struct model_gpu_run *run)
{
    for (int32_t i = 0; i < GPU_GRAPHS_MAX; i++) {
        device_cuda_graph_free(run->device, run->graphs[i].exec);
        run->graphs[i] = (struct gpu_graph){0};
    }
}
