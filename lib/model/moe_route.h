/* Which experts a row goes to, and with what weights. */
#ifndef MODEL_MOE_ROUTE_H
#define MODEL_MOE_ROUTE_H

#include "model/arch.h"

/* From the router's n_experts logits (overwritten) to n_experts_used experts, best first.
 * `correction` (or NULL) is added for the choice, not for the weights (DeepSeek-V3,
 * arXiv:2412.19437, eq. 16). Ties go to the lower number. */
void model_moe_choose(const struct model_hparams *hp, float *logits, const float *correction,
                      int32_t *chosen, float *weights);

#endif
