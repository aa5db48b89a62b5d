/* Planning of layers. */
#include "model/layer.h"

#include "base/error.h"
#include "kernels/kernels.h"
#include "model/attention.h"
#include "model/encode_attention.h"
#include "model/latent.h"
#include "model/mlp.h"
#include "model/moe.h"

#include <math.h>

/* Whether the one in `period` that differs is this one: the last, or the first with `first`. */
static int is_turn(int32_t layer, int32_t period, int first)
{
    return first ? layer % period == 0 : layer % period == period - 1;
}

static int has_window(const struct model_arch *arch, const struct model_hparams *hp, int32_t i)
{
    if (!hp->window)
        return 0;
    if (hp->layer_window)
        return hp->layer_window[i];
    if (hp->window_period <= 1) /* every layer, where the model has a window at all */
        return 1;
    return !is_turn(i, hp->window_period, (arch->traits & MODEL_FULL_FIRST) != 0);
}

static int is_recurrent(const struct model_arch *arch, const struct model_hparams *hp, int32_t i)
{
    if (!arch->recurrent)
        return 0;
    if (hp->layer_recurrent)
        return hp->layer_recurrent[i];
    if (hp->layer_heads_kv)
        return !hp->layer_heads_kv[i] && (!hp->layer_ff || !hp->layer_ff[i] || !hp->n_ff);
    return !hp->full_interval || !is_turn(i, hp->full_interval, 0);
}

static int has_experts(const struct model_hparams *hp, int32_t i)
{
    if (!hp->n_experts || i < hp->n_dense_lead)
        return 0;
    return hp->moe_period <= 1 || is_turn(i, hp->moe_period, 0);
}

static int32_t rope_of(const struct model_arch *arch, const struct model_hparams *hp,
                       const struct model_layer *layer, int32_t i, int windowed)
{
    if (arch->rope == MODEL_ROPE_NONE || !layer->n_rot)
        return -1;
    if (arch->traits & MODEL_NOPE_FULL && !windowed)
        return -1;
    if (hp->nope_period && is_turn(i, hp->nope_period, 0))
        return -1;
    return windowed ? MODEL_ROPE_WINDOW : MODEL_ROPE_MAIN;
}

static void plan_attention(struct model_layer *layer, const struct model_arch *arch,
                           const struct model_hparams *hp, int32_t i)
{
    int windowed = has_window(arch, hp, i);
    layer->mix = hp->kv_lora ? model_latent_attention : model_attention;
    if (arch->traits & MODEL_ENCODER)
        layer->mix = model_encode_attention;
    layer->n_heads = hp->layer_heads ? hp->layer_heads[i] : hp->n_heads;
    layer->n_heads_kv = hp->layer_heads_kv ? hp->layer_heads_kv[i] : hp->n_heads_kv;
    layer->head_dim = windowed ? hp->head_dim_window : hp->head_dim;
    layer->head_dim_v = windowed ? hp->head_dim_v_window : hp->head_dim_v;
    layer->n_rot = windowed ? hp->n_rot_window : hp->n_rot;
    if (hp->kv_lora) { /* the file's lengths are those of the latent; heads have their own */
        layer->n_heads_kv = 1;
        layer->head_dim = hp->head_dim_mla ? hp->head_dim_mla : layer->head_dim;
        layer->head_dim_v = hp->head_dim_v_mla ? hp->head_dim_v_mla : layer->head_dim_v;
    }
    if (windowed && arch->traits & MODEL_WINDOW_CHUNKS)
        layer->chunk = hp->window;
    else if (windowed)
        layer->window = hp->window;
    layer->rope = rope_of(arch, hp, layer, i, windowed);
    layer->grows =
        hp->temperature_scale > 0 && (layer->rope < 0 || !(arch->traits & MODEL_NOPE_FULL));
    layer->attn_scale = hp->attn_scale > 0 ? hp->attn_scale : 1 / sqrtf((float)layer->head_dim);
    if (!layer->n_heads || !layer->n_heads_kv)
        layer->mix = NULL;
}

/* What files may ask of other models. */
static infer_status check_encoder(const struct model_layer *layer, const struct model_hparams *hp,
                                  int32_t i)
{
    const char *what = NULL;
    if (hp->kv_lora)
        what = "compressed keys";
    else if (layer->head_dim != layer->head_dim_v)
        what = "values of another length than keys";
    else if (layer->window == 1)
        what = "a window of one token";
    else if (hp->parallel)
        what = "attention beside the feed-forward";
    else if (hp->attn_softcap > 0 || hp->qk_unit || layer->grows)
        what = "scores that are changed";
    if (!what)
        return INFER_OK;
    return base_error(INFER_ERR_UNSUPPORTED, "an encoder with %s (layer %d)", what, i);
}

static infer_status check_attention(const struct model_layer *layer, const struct model_hparams *hp,
                                    int32_t i)
{
    if (!layer->mix || layer->recurrent)
        return INFER_OK;
    int32_t group = layer->n_heads / layer->n_heads_kv;
    int32_t widest =
        hp->kv_lora ? hp->kv_lora + layer->n_rot : BASE_MAX(layer->head_dim, layer->head_dim_v);
    if (layer->n_heads % layer->n_heads_kv)
        return base_error(
            INFER_ERR_FORMAT,
            "attention.head_count %d is not a multiple of head_count_kv %d in layer %d",
            layer->n_heads, layer->n_heads_kv, i);
    if (group > KERN_ATTN_GROUP_MAX)
        return base_error(INFER_ERR_UNSUPPORTED, "%d query heads share a KV head, at most %d",
                          group, KERN_ATTN_GROUP_MAX);
    if (widest > KERN_ATTN_HEAD_MAX)
        return base_error(INFER_ERR_UNSUPPORTED, "heads of %d elements, at most %d", widest,
                          KERN_ATTN_HEAD_MAX);
    if (layer->n_rot > layer->head_dim)
        return base_error(INFER_ERR_FORMAT,
                          "rope.dimension_count %d is more than the head's %d in layer %d",
                          layer->n_rot, layer->head_dim, i);
    return INFER_OK;
}

static struct model_kv_group group_of(const struct model_layer *layer,
                                      const struct model_hparams *hp)
{
    if (layer->recurrent)
        return (struct model_kv_group){.kind = MODEL_KV_STATE,
                                       .state_bytes = model_state_bytes(hp)};
    if (hp->kv_lora)
        return (struct model_kv_group){
            .kind = MODEL_KV_LATENT, .n_heads = 1, .head_dim = hp->kv_lora + layer->n_rot};
    return (struct model_kv_group){.kind = layer->window ? MODEL_KV_WINDOW : MODEL_KV_FULL,
                                   .n_heads = layer->n_heads_kv,
                                   .head_dim = layer->head_dim,
                                   .head_dim_v = layer->head_dim_v,
                                   .window = layer->window};
}

static int same_group(const struct model_kv_group *a, const struct model_kv_group *b)
{
    return a->kind == b->kind && a->n_heads == b->n_heads && a->head_dim == b->head_dim &&
           a->head_dim_v == b->head_dim_v && a->window == b->window &&
           a->state_bytes == b->state_bytes;
}

/* The last layers of some models read the keys and values of the last one of their kind that
 * stores any. */
static infer_status share_kv(struct model_layer *layers, int32_t i, int32_t n_storing,
                             const struct model_hparams *hp)
{
    struct model_kv_group own = group_of(&layers[i], hp);
    for (int32_t j = n_storing - 1; j >= 0; j--) {
        struct model_kv_group other = group_of(&layers[j], hp);
        if (!layers[j].mix || !same_group(&own, &other))
            continue;
        layers[i].kv_group = layers[j].kv_group;
        layers[i].kv_at = layers[j].kv_at;
        layers[i].reads_kv = 1;
        return INFER_OK;
    }
    return base_error(INFER_ERR_FORMAT,
                      "attention.shared_kv_layers is %d, but no layer before the last %d stores "
                      "what layer %d reads",
                      hp->n_kv_shared, hp->n_kv_shared, i);
}

static infer_status join_group(struct model_layer *layer, struct model_kv_group *groups,
                               int32_t *n_groups, const struct model_hparams *hp)
{
    struct model_kv_group own = group_of(layer, hp);
    int32_t g = 0;
    while (g < *n_groups && !same_group(&groups[g], &own))
        g++;
    if (g == MODEL_KV_GROUPS_MAX)
        return base_error(INFER_ERR_LIMIT, "the model has more than %d kinds of KV blocks",
                          MODEL_KV_GROUPS_MAX);
    if (g == *n_groups)
        groups[(*n_groups)++] = own;
    layer->kv_group = g;
    layer->kv_at = groups[g].n_layers++;
    return INFER_OK;
}

infer_status model_layers_plan(struct model_layer *layers, struct model_kv_group *groups,
                               int32_t *n_groups, const struct model_arch *arch,
                               const struct model_hparams *hp)
{
    int32_t n_storing = hp->n_layers - (hp->kv_lora ? 0 : hp->n_kv_shared);
    *n_groups = 0;
    for (int32_t i = 0; i < hp->n_layers; i++) {
        struct model_layer *layer = &layers[i];
        layer->recurrent = is_recurrent(arch, hp, i);
        layer->experts = has_experts(hp, i);
        layer->n_ff = hp->layer_ff ? hp->layer_ff[i] : hp->n_ff;
        if (layer->recurrent)
            layer->mix = arch->recurrent;
        else
            plan_attention(layer, arch, hp, i);
        layer->dense = layer->n_ff && (!layer->experts || arch->traits & MODEL_EXPERTS_BESIDE);
        layer->ffn = layer->experts ? model_moe : layer->dense ? model_mlp : NULL;
        infer_status st = check_attention(layer, hp, i);
        if (st == INFER_OK && arch->traits & MODEL_ENCODER)
            st = check_encoder(layer, hp, i);
        if (st == INFER_OK && layer->mix && !layer->recurrent && i >= n_storing)
            st = share_kv(layers, i, n_storing, hp);
        else if (st == INFER_OK && layer->mix && !(arch->traits & MODEL_ENCODER))
            st = join_group(layer, groups, n_groups, hp);
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

size_t model_state_bytes(const struct model_hparams *hp)
{
    size_t heads = (size_t)hp->ssm_heads, inner = (size_t)hp->ssm_inner;
    size_t channels = inner + 2 * (size_t)hp->ssm_groups * (size_t)hp->ssm_state;
    if (!heads || hp->ssm_conv < 1)
        return 0;
    return sizeof(float) * ((size_t)(hp->ssm_conv - 1) * channels + inner * (size_t)hp->ssm_state);
}
