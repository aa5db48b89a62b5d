/* Feed-forward network. */
#include "model/mlp.h"

#include "model/hidden.h"

const float *model_ffn_input(struct model_workspace *ws, const struct model_layer *layer,
                             int32_t rows, int q8)
{
    const struct model_weight *norm = model_layer_weight(layer, MODEL_FFN_NORM);
    const struct model_weight *bias = model_layer_weight(layer, MODEL_FFN_NORM_BIAS);
    int32_t n_embd = ws->model->hp.n_embd;
    if (ws->parallel) {
        if (q8)
            stage_quantize(ws, ws->parallel, n_embd, rows);
        return ws->parallel;
    }
    stage_norm(ws, ws->xn, ws->x, norm, bias, rows, q8);
    return norm->data ? ws->xn : ws->x;
}

void model_mlp_hidden(struct model_workspace *ws, const struct model_layer *layer, int32_t rows)
{
    const struct model_weight *gate = model_layer_weight(layer, MODEL_FFN_GATE);
    const struct model_weight *up = model_layer_weight(layer, MODEL_FFN_UP);
    const struct model_weight *down = model_layer_weight(layer, MODEL_FFN_DOWN);
    const struct stage_product up_product = {up, model_layer_weight(layer, MODEL_FFN_UP_BIAS),
                                             ws->up, 0};
    const struct stage_product gate_product = {gate, model_layer_weight(layer, MODEL_FFN_GATE_BIAS),
                                               ws->gate, 0};
    int gated = gate->data != NULL;
    const float *x = model_ffn_input(
        ws, layer, rows,
        stage_wants_q8(ws, (const struct model_weight *[]){up, gate}, 1 + gated, rows));
    model_hidden_dense(ws, &up_product, gated ? &gate_product : NULL, x, rows,
                       stage_wants_q8(ws, &down, 1, rows));
}

void model_mlp(struct model_workspace *ws, const struct model_layer *layer, int32_t rows)
{
    model_mlp_hidden(ws, layer, rows);
    stage_join(ws, model_layer_weight(layer, MODEL_FFN_DOWN),
               model_layer_weight(layer, MODEL_FFN_DOWN_BIAS),
               model_layer_weight(layer, MODEL_FFN_POST_NORM), ws->gate, rows);
    stage_norm_stream(ws, model_layer_weight(layer, MODEL_LAYER_OUT_NORM),
                      model_layer_weight(layer, MODEL_LAYER_OUT_NORM_BIAS), rows);
}
