/* A step of one row of one sequence in one launch (kernels/cuda/mega.cu). The walk over the layers
 * is that of every step, with launchers that write operations down instead of launching; what they
 * cannot write down goes the usual way. A plan lasts as long as weights and cache lie where they
 * do: all that changes from step to step is read on the card. */
#include "model/gpu/run.h"

#include "base/log.h"

#include <infer/log.h>

/* Of a layer at most: each of its seven products may be of a type of its own. */
#define OPS_OF_A_LAYER 8
#define OPS_OF_A_HEAD  1

/* On the card: what counts the blocks, and the choice, then the operations. */
#define OPS_AT 256

static int lies_there(const struct model_gpu_run *run)
{
    const struct gpu_mega *m = &run->mega;
    return m->weights == run->gpu->memory.data && m->first_kv == run->kv[0].base &&
           m->last_kv == run->kv[run->model->n_kv_groups - 1].base && m->ways == run->gpu->ways;
}

/* The head of a step that chooses the likeliest, behind the layers; what cannot be written down of
 * it is launched behind them instead, as is that of steps which choose otherwise. */
static void record_head(struct model_gpu_run *run, struct kern_cuda_mega_plan *plan)
{
    const struct kern_cuda_mega_plan layers = *plan;
    const enum gpu_choice asked = run->chooses;
    run->mega.layer_ops = plan->n_ops;
    if (run->status != INFER_OK)
        return;
    run->chooses = GPU_CHOOSE_BEST;
    gpu_choose(run);
    run->chooses = asked;
    if (run->status != INFER_OK) {
        *plan = layers;
        run->status = INFER_OK;
    }
}

/* Walks the layers into the plan. What is refused there is no error of the step. */
static infer_status record(struct model_gpu_run *run, struct kern_cuda_mega_plan *plan)
{
    const struct kern_cuda *kernels = run->kernels;
    struct kern_cuda table = *kernels;
    infer_status st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    void *stream = run->stream;
    kernels->mega.record(&table);
    run->kernels = &table;
    run->stream = plan;
    gpu_walk_each(run);
    record_head(run, plan);
    run->kernels = kernels;
    run->stream = stream;
    st = run->status;
    run->status = INFER_OK;
    if (st == INFER_OK)
        st = device_cuda_check(run->device, kernels->mega.fit(&run->mega.launch, plan),
                               "a step in one launch");
    device_cuda_leave(run->device);
    return st;
}

static infer_status upload(struct model_gpu_run *run, const struct kern_cuda_mega_plan *plan)
{
    struct gpu_mega *m = &run->mega;
    size_t bytes = OPS_AT + (size_t)plan->room * sizeof *plan->ops;
    infer_status st = INFER_OK;
    if (!m->memory.data) {
        st = device_buffer_alloc(run->device, DEVICE_WORKSPACE, bytes, &m->memory);
        if (st == INFER_OK)
            st = device_buffer_fill(&m->memory, 0, 0, OPS_AT);
    }
    if (st == INFER_OK)
        st = device_buffer_upload(&m->memory, OPS_AT, plan->ops,
                                  (size_t)plan->n_ops * sizeof *plan->ops);
    if (st != INFER_OK)
        return st;
    m->launch.arrived = (uint64_t *)m->memory.data;
    m->launch.ops =
        (const struct kern_cuda_mega_op *)(const void *)((uint8_t *)m->memory.data + OPS_AT);
    return INFER_OK;
}

/* Where the plan cannot be made, `launch.n_ops` stays 0 until weights or cache move. */
static infer_status make(struct model_gpu_run *run)
{
    struct gpu_mega *m = &run->mega;
    struct kern_cuda_mega_plan plan = {.room = run->model->hp.n_layers * OPS_OF_A_LAYER +
                                               OPS_OF_A_HEAD};
    m->launch = (struct kern_cuda_mega){0};
    m->weights = run->gpu->memory.data;
    m->first_kv = run->kv[0].base;
    m->last_kv = run->kv[run->model->n_kv_groups - 1].base;
    m->ways = run->gpu->ways;
    plan.ops = base_new(&run->alloc, (size_t)plan.room, sizeof *plan.ops);
    if (!plan.ops)
        return INFER_ERR_NO_MEMORY;
    infer_status st = record(run, &plan);
    if (st == INFER_OK) {
        st = upload(run, &plan);
    } else {
        base_log(INFER_LOG_INFO, "steps on %s are not one launch each", run->device->name);
        m->launch.n_ops = 0;
        st = INFER_OK;
    }
    base_free(&run->alloc, plan.ops);
    return st;
}

int gpu_mega_takes(struct model_gpu_run *run)
{
    if (!(run->gpu->ways & GPU_WAY_MEGA) || run->batch.n_seqs != 1 || run->batch.n_rows != 1 ||
        run->lora.targets || !run->kernels->mega.launch)
        return 0;
    if (!lies_there(run)) {
        run->status = make(run);
        if (run->status != INFER_OK) /* and is tried again in the next step */
            run->mega.weights = NULL;
    }
    return run->status == INFER_OK && run->mega.launch.n_ops > 0;
}

infer_status gpu_mega_run(struct model_gpu_run *run)
{
    struct kern_cuda_mega launch = run->mega.launch;
    infer_status st = device_cuda_enter(run->device, &run->stream);
    if (st != INFER_OK)
        return st;
    if (run->chooses != GPU_CHOOSE_BEST) {
        launch.n_ops = run->mega.layer_ops;
        launch.choice.n = 0;
    }
    gpu_embed(run);
    gpu_launched(run, run->kernels->mega.launch(&launch, run->stream), "a step in one launch");
    if (run->chooses && !launch.choice.n)
        gpu_choose(run);
    device_cuda_leave(run->device);
    return run->status;
}

void gpu_mega_free(struct model_gpu_run *run)
{
    device_buffer_free(&run->mega.memory);
}
