/* Steps of one row a sequence, replayed. All that changes from step to step lies in the memory of
 * the card, so a graph is for a number of sequences and a length, both rounded up, and is never
 * updated. A shape is walked when it comes for the first time and captured when it comes again, so
 * that no first token waits for a capture. */
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
    return a->n_seqs == b->n_seqs && a->length == b->length && a->chooses == b->chooses &&
           a->weights == b->weights && a->first_kv == b->first_kv && a->last_kv == b->last_kv &&
           a->segments == b->segments && a->segment_rows == b->segment_rows && a->rank == b->rank &&
           a->targets == b->targets && a->lora == b->lora && a->ways == b->ways;
}

static struct gpu_graph *find(struct model_gpu_run *run)
{
    const struct gpu_graph shape = shape_of(run);
    struct gpu_graph *oldest = &run->graphs[0];
    for (int32_t i = 0; i < GPU_GRAPHS_MAX; i++) {
        struct gpu_graph *g = &run->graphs[i];
        if (same_shape(g, &shape))
            return g;
        if (g->used < oldest->used)
            oldest = g;
    }
    device_cuda_graph_free(run->device, oldest->exec);
    *oldest = shape;
    return oldest;
}

/* What cannot be captured is walked: slower, and as right. */
static infer_status capture(struct model_gpu_run *run, struct gpu_graph *g)
{
    infer_status st = device_cuda_capture_begin(run->device);
    if (st != INFER_OK)
        return st;
    infer_status walked = gpu_walk_layers(run);
    st = device_cuda_capture_end(run->device, &g->exec);
    if (st == INFER_OK && walked == INFER_OK)
        return INFER_OK;
    base_log(INFER_LOG_INFO, "a step of %d sequences on %s is not captured", g->n_seqs,
             run->device->name);
    run->status = INFER_OK;
    device_cuda_graph_free(run->device, g->exec);
    g->exec = NULL;
    return INFER_OK;
}

infer_status gpu_graph_run(struct model_gpu_run *run)
{
    struct gpu_graph *g = find(run);
    infer_status st = INFER_OK;
    if (g->used && !g->exec)
        st = capture(run, g);
    g->used = run->n_steps;
    if (st != INFER_OK)
        return st;
    if (g->exec)
        return device_cuda_graph_launch(run->device, g->exec);
    return gpu_walk_layers(run);
}

void gpu_graphs_free(struct model_gpu_run *run)
{
    for (int32_t i = 0; i < GPU_GRAPHS_MAX; i++) {
        device_cuda_graph_free(run->device, run->graphs[i].exec);
        run->graphs[i] = (struct gpu_graph){0};
    }
}
