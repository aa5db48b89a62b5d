/**
 * @file sampling.h
 * How the next token is chosen. Stages run in the order of the fields below;
 * a zero switches a stage off, so all zeros is greedy decoding.
 */
#ifndef INFER_SAMPLING_H
#define INFER_SAMPLING_H

#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_logit_bias {
    infer_token token;
    float bias; /**< added to the logit; -INFINITY bans the token */
} infer_logit_bias;

typedef struct infer_sampling {
    size_t struct_size;
    const infer_logit_bias *logit_bias;
    size_t n_logit_bias;
    float repetition_penalty; /**< > 1 discourages tokens already seen, the prompt's too (Keskar
                                   et al., arXiv:1909.05858); 0 or 1: off */
    float frequency_penalty;  /**< subtracted per occurrence among the generated tokens; 0: off */
    float presence_penalty;   /**< subtracted once if among the generated tokens; 0: off */
    int32_t penalty_last_n;   /**< tokens that penalties look back on; 0: all */
    float temperature;        /**< 0: greedy, the most likely token (lowest id of equals) */
    int32_t top_k;            /**< keep the k most likely; 0: off */
    float top_p;              /**< keep the smallest set of this probability (Holtzman et al.,
                                   arXiv:1904.09751); 0 or 1: off */
    float min_p;              /**< keep tokens of at least this share of the most likely one's
                                   probability (Nguyen et al., arXiv:2407.01082); 0: off */
    uint64_t seed;            /**< same seed, same request: same tokens; 0 is a seed like any */
} infer_sampling;

#ifdef __cplusplus
}
#endif

#endif
