/* Choice of experts. */
#include "model/moe_route.h"

#include <math.h>

static void softmax(float *x, int32_t n)
{
    float max = -INFINITY;
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        max = fmaxf(max, x[i]);
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)(x[i] - max));
    for (int32_t i = 0; i < n; i++)
        x[i] = (float)(exp((double)(x[i] - max)) / sum);
}

static void sigmoid(float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        x[i] = (float)(1 / (1 + exp(-(double)x[i])));
}

static float preference(const float *scores, const float *correction, int32_t i)
{
    return scores[i] + (correction ? correction[i] : 0);
}

/* Of a group counts its best expert, or with a correction the sum of its two best. */
static float group_score(const float *scores, const float *correction, int32_t begin, int32_t n)
{
    float best = -INFINITY, second = -INFINITY;
    for (int32_t i = begin; i < begin + n; i++) {
        float s = preference(scores, correction, i);
        if (s > best) {
            second = best;
            best = s;
        } else if (s > second) {
            second = s;
        }
    }
    return correction && n > 1 ? best + second : best;
}

/* Whether fewer than n_expert_groups_used groups are better than group g. */
static int group_open(const struct model_hparams *hp, const float *scores, const float *correction,
                      int32_t g)
{
    int32_t size = hp->n_experts / hp->n_expert_groups, better = 0;
    float own = group_score(scores, correction, g * size, size);
    for (int32_t o = 0; o < hp->n_expert_groups; o++) {
        float s = group_score(scores, correction, o * size, size);
        better += s > own || (s == own && o < g);
    }
    return better < hp->n_expert_groups_used;
}

static int is_chosen(const int32_t *chosen, int32_t n, int32_t i)
{
    for (int32_t j = 0; j < n; j++)
        if (chosen[j] == i)
            return 1;
    return 0;
}

/* The best expert of the open groups that is not chosen yet. A router that gives NaN still
 * gets experts: the first ones left. */
static int32_t next_best(const struct model_hparams *hp, const float *scores,
                         const float *correction, const int32_t *chosen, int32_t n)
{
    int32_t groups = BASE_MAX(hp->n_expert_groups, 1), size = hp->n_experts / groups;
    int32_t best = -1;
    for (int32_t g = 0; g < groups; g++) {
        if (groups > 1 && !group_open(hp, scores, correction, g))
            continue;
        for (int32_t i = g * size; i < (g + 1) * size; i++)
            if (!is_chosen(chosen, n, i) && (best < 0 || preference(scores, correction, i) >
                                                             preference(scores, correction, best)))
                best = i;
    }
    for (int32_t i = 0; best < 0; i++)
        if (!is_chosen(chosen, n, i))
            best = i;
    return best;
}

void model_moe_choose(const struct model_hparams *hp, float *logits, const float *correction,
                      int32_t *chosen, float *weights)
{
    int32_t used = hp->n_experts_used;
    for (int32_t i = 0; hp->router_scale > 0 && i < hp->n_experts; i++)
        logits[i] *= hp->router_scale;
    if (hp->gating == MODEL_GATING_SIGMOID)
        sigmoid(logits, hp->n_experts);
    else if (hp->gating != MODEL_GATING_TOPK_SOFTMAX)
        softmax(logits, hp->n_experts);
    double sum = 0;
    for (int32_t i = 0; i < used; i++) {
        chosen[i] = next_best(hp, logits, correction, chosen, i);
        weights[i] = logits[chosen[i]];
        sum += (double)weights[i];
    }
    if (hp->gating == MODEL_GATING_TOPK_SOFTMAX)
        softmax(weights, used);
    float scale = hp->expert_scale != 0 ? hp->expert_scale : 1;
    for (int32_t i = 0; i < used; i++)
        weights[i] =
            (hp->expert_weights_sum ? (float)((double)weights[i] / fmax(sum, 1e-20)) : weights[i]) *
            scale;
}
