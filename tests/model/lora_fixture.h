/* Adapters for the tiny models of arch/: random A and B, written in both forms, and merged into
 * the model's own weights in float64, which is the reference. */
#ifndef TESTS_MODEL_LORA_FIXTURE_H
#define TESTS_MODEL_LORA_FIXTURE_H

#include "arch_fixture.h"

/* What an adapter is like; zero fields take a default. */
struct lora_spec {
    const char *const *modules; /* ends of module names ("q_proj"), NULL at the end */
    uint64_t seed;
    int32_t rank;            /* 4 */
    double alpha;            /* 8 */
    int rslora;              /* sqrt of the rank divides */
    const char *special;     /* a module (by its end) of another rank and alpha, or NULL */
    const char *special_key; /* what the configuration calls it; NULL: the same */
    int32_t special_rank;
    double special_alpha;
    const char *dtype;   /* "F32" */
    const char *members; /* of adapter_config.json, such as "\"use_dora\":true," */
};

/* A folder of PEFT's for all weights of the model whose module ends so; the folder exists. */
void lora_write_peft(const struct lora_spec *s, const struct arch_fixture *f, const char *folder);

/* The same numbers in GGUF, as llama.cpp's converter arranges them, for the models whose names
 * lora_gguf_name() knows. */
void lora_write_gguf(const struct lora_spec *s, const struct arch_fixture *f, const char *path);

/* Writes the model with W + scale * strength * B A in place of W. */
void lora_write_merged(const struct lora_spec *s, const struct arch_fixture *f, double strength,
                       const char *folder);

#endif
