/* Tiny encoders of tests/model/encoder, opened on the model's own floor. */
#ifndef TESTS_MODEL_ENCODER_FIXTURE_H
#define TESTS_MODEL_ENCODER_FIXTURE_H

#include "arch_fixture.h"
#include "model/encode.h"

#include <infer/model.h>

#define ENCODER_FOLDER    "tests/model/encoder"
#define ENCODER_TEXTS_MAX 16

/* One open model and an encoder of its. */
struct encoder_case {
    struct infer_device *device;
    struct infer_model *model;
    struct model_encoder *encoder;
};

/* What differs from the defaults; all zero: one thread, all kernels. */
struct encoder_setup {
    int32_t device; /* 0: the CPU */
    int32_t n_threads;
    uint32_t disabled_cpu_flags;
    infer_pack pack;
    int32_t max_tokens; /* 0: 512 */
    int32_t fast;
    int32_t invariant;
};

void encoder_open(struct encoder_case *e, const char *path, const struct encoder_setup *setup);
void encoder_close(struct encoder_case *e);

/* The model at `from` as a GGUF file with weights of another type. */
void encoder_convert(const char *from, const char *to, const char *type);

/* The texts of a fixture as one batch. */
struct encoder_texts {
    json_t *list; /* borrowed */
    infer_token *tokens;
    uint8_t *types;
    int32_t offsets[ENCODER_TEXTS_MAX + 1];
    struct model_encode_batch batch;
};

void encoder_texts_make(struct encoder_texts *t, json_t *list);
void encoder_texts_free(struct encoder_texts *t);

/* Largest difference to the numbers of text i under `key`, relative to the largest of them. */
double encoder_difference(const struct encoder_texts *t, int32_t i, const char *key,
                          const float *got);
/* 1 - cosine. */
double encoder_distance(const float *a, const float *b, int32_t n);

/* Of a head's numbers, of all texts. */
double encoder_labels_difference(const struct encoder_case *e, const struct encoder_texts *t);

json_t *encoder_fixture(const char *name);

/* Names of fixtures, one of each kind. */
#define ENCODER_NAMES                                                                              \
    "bert", "bert-gamma", "bert-reranker", "roberta-classifier", "xlm-roberta", "distilbert",      \
        "nomic", "nomic-authors", "jina", "modern", "modern-reranker"

/* A folder made of a fixture. */
struct encoder_made {
    char path[512];
    struct arch_fixture fixture;
};

void encoder_make(struct encoder_made *f, const char *name, const char *dtype,
                  arch_change_fn *change, void *user_data);
void encoder_made_remove(struct encoder_made *f);

#endif
