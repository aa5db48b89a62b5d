/* What recurrent mixers share. */
#include "model/recurrent.h"

#include "base/error.h"
#include "base/thread.h"
#include "kernels/kernels.h"

#include <string.h>

#define CONV_UNIT 64 /* channels */

int32_t model_recurrent_channels(const struct model_hparams *hp)
{
    return hp->ssm_inner + 2 * hp->ssm_groups * hp->ssm_state;
}

size_t model_recurrent_row_bytes(const struct model_hparams *hp)
{
    /* Mamba 2: the projection and the result. Delta rule: queries, keys, values and gates in the
     * layer's order and in the file's, strengths in both, the result over the file's. */
    size_t channels = (size_t)model_recurrent_channels(hp), inner = (size_t)hp->ssm_inner;
    size_t floats = 2 * (channels + inner) + 4 * (size_t)hp->ssm_heads;
    return hp->ssm_heads ? floats * sizeof(float) + 6 * BASE_CACHE_LINE : 0;
}

static struct model_state state_of(const struct model_recurrent *r,
                                   const struct model_batch_seq *seq)
{
    const struct model_hparams *hp = &r->ws->model->hp;
    const struct model_kv_view *kv = &r->batch->kv[r->layer->kv_group];
    size_t block = (size_t)seq->blocks[r->layer->kv_group][0];
    uint8_t *at = kv->base + block * kv->block_stride + (size_t)r->layer->kv_at * kv->layer_stride;
    size_t carried = (size_t)(hp->ssm_conv - 1) * (size_t)model_recurrent_channels(hp);
    return (struct model_state){(float *)(void *)at, (float *)(void *)at + carried};
}

static void run_units(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct model_recurrent *r = arg;
    BASE_UNUSED(thread);
    while (begin < end) {
        const struct model_batch_seq *seq = &r->batch->seqs[begin / r->n_units];
        int32_t first = begin % r->n_units;
        int32_t n = BASE_MIN(end - begin, r->n_units - first);
        r->run(r, seq, state_of(r, seq), first, first + n);
        begin += n;
    }
}

void model_recurrent_run(const struct model_recurrent *r)
{
    struct model_recurrent job = *r;
    base_pool_run(r->ws->pool, run_units, &job, r->batch->n_seqs * r->n_units, 1);
}

struct conv_job {
    float *x;
    size_t stride;
};

static void run_conv(const struct model_recurrent *r, const struct model_batch_seq *seq,
                     struct model_state state, int32_t begin, int32_t end)
{
    const struct model_hparams *hp = &r->ws->model->hp;
    const struct conv_job *job = r->job;
    int32_t channels = model_recurrent_channels(hp);
    float *x = job->x + (size_t)seq->row * job->stride;
    begin *= CONV_UNIT;
    end = BASE_MIN(end * CONV_UNIT, channels);
    for (int32_t j = 0; seq->first_pos == 0 && j < hp->ssm_conv - 1; j++)
        memset(state.conv + (size_t)j * (size_t)channels + begin, 0,
               (size_t)(end - begin) * sizeof *state.conv);
    struct kern_conv_args args = {
        .x = x,
        .x_stride = job->stride,
        .y = x,
        .y_stride = job->stride,
        .w = model_layer_weight(r->layer, MODEL_SSM_CONV)->data,
        .bias = model_layer_weight(r->layer, MODEL_SSM_CONV_BIAS)->data,
        .state = state.conv,
        .n_rows = seq->n_rows,
        .n_channels = channels,
        .width = hp->ssm_conv,
        .silu = 1,
    };
    r->ws->model->device->kernels.ssm.conv(&args, begin, end);
}

void model_recurrent_conv(struct model_workspace *ws, const struct model_batch *batch,
                          const struct model_layer *layer, float *x, size_t stride)
{
    struct conv_job job = {x, stride};
    model_recurrent_run(&(const struct model_recurrent){
        .ws = ws,
        .batch = batch,
        .layer = layer,
        .run = run_conv,
        .n_units = BASE_DIV_UP(model_recurrent_channels(&ws->model->hp), CONV_UNIT),
        .job = &job,
    });
}

infer_status model_recurrent_check(struct model_hparams *hp, const struct gguf_file *file)
{
    const struct {
        const char *key;
        int32_t value, most;
    } sizes[] = {{"conv_kernel", hp->ssm_conv, KERN_CONV_WIDTH_MAX},
                 {"inner_size", hp->ssm_inner, 1 << 20},
                 {"state_size", hp->ssm_state, KERN_DELTA_KEY_MAX},
                 {"time_step_rank", hp->ssm_heads, 1 << 16},
                 {"group_count", hp->ssm_groups, 1 << 12}};
    BASE_UNUSED(file);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++)
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].most)
            return base_error(INFER_ERR_UNSUPPORTED, "ssm.%s is %d, expected 1 to %d", sizes[i].key,
                              sizes[i].value, sizes[i].most);
    if (hp->ssm_inner % hp->ssm_heads || hp->ssm_heads % hp->ssm_groups ||
        (int64_t)hp->ssm_groups * hp->ssm_state > 1 << 20)
        return base_error(INFER_ERR_FORMAT,
                          "ssm.inner_size %d, time_step_rank %d and group_count %d do not fit",
                          hp->ssm_inner, hp->ssm_heads, hp->ssm_groups);
    return INFER_OK;
}
