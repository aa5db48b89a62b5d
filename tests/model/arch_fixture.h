/* Tiny models of tests/model/arch/: written as Hugging Face folders, with the logits that an
 * independent implementation computes for them in float64. */
#ifndef TESTS_MODEL_ARCH_FIXTURE_H
#define TESTS_MODEL_ARCH_FIXTURE_H

#include "support/test.h"

#include <infer/types.h>
#include <jansson.h>

#define ARCH_FOLDER     "tests/model/arch"
#define ARCH_MAX_TOKENS 64

struct arch_fixture {
    json_t *root;
    infer_token tokens[ARCH_MAX_TOKENS];
    size_t n_tokens, n_vocab;
    size_t n_prompt; /* from here on the tokens are the reference's greedy continuation */
};

/* Names of all fixtures, sorted; the caller frees the array and each name. */
size_t arch_fixture_names(char ***out);

/* `name` without folder and ".json". */
void arch_fixture_open(struct arch_fixture *f, const char *name);
void arch_fixture_close(struct arch_fixture *f);

/* Writes config.json, tokenizer.json and model.safetensors into an existing folder. `dtype` is
 * "F32", "BF16" or "F16": the weights are the same numbers in each, or rounded in F16. */
void arch_fixture_write(const struct arch_fixture *f, const char *folder, const char *dtype);

/* The same with other weights: `change` may write into the values of each tensor (rows of dims[1]
 * where it has two dimensions) before they are stored. */
typedef void arch_change_fn(const char *name, size_t n_dims, const uint64_t *dims, float *values,
                            void *user_data);
void arch_fixture_write_changed(const struct arch_fixture *f, const char *folder, const char *dtype,
                                arch_change_fn *change, void *user_data);

/* How far logits are from the reference, over all rows that were compared. */
struct arch_error {
    double difference, largest; /* max |a - b|, max |b| */
    size_t rows, numbers;
};

/* `logits` (n_vocab floats) are those after the token at `position`. */
void arch_error_add(struct arch_error *e, const struct arch_fixture *f, size_t position,
                    const float *logits);
double arch_error_relative(const struct arch_error *e); /* NaN and no rows give infinity */

#endif
