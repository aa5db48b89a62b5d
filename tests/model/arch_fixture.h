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

/* A fresh folder for one model, and its end with the files that tests put there. Anything else
 * left in it fails the test. */
void arch_folder_make(char *path, size_t size);
void arch_folder_remove(const char *path);

/* Opens a fixture and writes it in F32 into a fresh folder; and the end of both. */
void arch_fixture_make(struct arch_fixture *f, const char *name, char *folder, size_t size);
void arch_fixture_remove(struct arch_fixture *f, const char *folder);

/* Path of a model: of the test data or, where `data` is NULL, a folder made of the fixture `name`.
 * The latter goes with arch_model_remove(). */
void arch_model_path(const char *name, const char *data, char *path, size_t size);
void arch_model_remove(const char *data, const char *path);

/* A hash, to compare logits bit for bit without keeping them: 64-bit FNV-1a. */
uint64_t arch_hash(const void *data, size_t size);

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
