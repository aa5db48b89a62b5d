/* Inputs of single layers on the card, as layer_input.c has them. */
#include "model/layer_input.h"
#include "model/gpu/run.h"

#include <math.h>

/* A part of a row for each layer, normed by itself, then joined by the token's own row. */
void gpu_layer_inputs(struct model_gpu_run *run)
{
    const struct model_hparams *hp = &run->model->hp;
    const struct gpu_weight *global = run->gpu->global;
    const struct kern_cuda *k = run->kernels;
    const size_t n = (size_t)hp->n_input;
    struct gpu_rows in = gpu_rows_plain(run->x, hp->n_embd, run->batch.n_rows);
    const struct gpu_product product = {&global[MODEL_INPUT_PROJ], NULL, run->inputs, 0};
    const struct kern_cuda_norm_args norm = {
        .y = run->inputs,
        .y_stride = n * sizeof(float),
        .x = run->inputs,
        .x_stride = n,
        .w = global[MODEL_INPUT_NORM].vector,
        .n_rows = in.n_rows * hp->n_layers,
        .n = hp->n_input,
        .rows_type = KERN_CUDA_ROWS_F32,
        .eps = hp->norm_eps * (float)hp->n_embd, /* the product is not divided by sqrt(n_embd) */
    };
    gpu_products(run, &in, &product, 1, 0);
    gpu_launched(run, k->rows.norm(&norm, run->stream), "inputs of layers");
    gpu_launched(run,
                 k->product.add_rows(run->inputs, &global[MODEL_INPUT_EMBD].matrix,
                                     run->batch.tokens, in.n_rows, sqrtf((float)n),
                                     (float)M_SQRT1_2, run->stream),
                 "inputs of layers");
}

void gpu_layer_input_add(struct model_gpu_run *run, int32_t i)
{
    static const struct gpu_weight no_bias = {0};
    const struct model_hparams *hp = &run->model->hp;
    const size_t n = (size_t)hp->n_input;
    struct gpu_rows in = gpu_rows_plain(run->x, hp->n_embd, run->batch.n_rows);
    struct gpu_rows gated = gpu_hidden_by(run, &in, gpu_weight_of(run->gpu, i, MODEL_LAYER_GATE),
                                          run->inputs + (size_t)i * n, n * (size_t)hp->n_layers);
    gpu_join(run, &gated, gpu_weight_of(run->gpu, i, MODEL_LAYER_PROJ), &no_bias,
             gpu_weight_of(run->gpu, i, MODEL_LAYER_NORM));
}
