/* A model that is made up: one layer of Llama with eight numbers a token, as a folder that tests
 * change. */
#ifndef TESTS_MODEL_MADE_UP_H
#define TESTS_MODEL_MADE_UP_H

#include "support/hf_folder.h"
#include "support/test.h"

#include "model/model.h"

extern float made_up_numbers[8 * 8];

#define VECTOR(name)                                                                               \
    {                                                                                              \
        name, "F32", {8, -1}, made_up_numbers, 8 * sizeof *made_up_numbers                         \
    }
#define MATRIX(name, rows)                                                                         \
    {                                                                                              \
        name, "F32", {rows, 8, -1}, made_up_numbers, rows * 8 * sizeof *made_up_numbers            \
    }
#define LAYER "model.layers.0."

enum { Q_PROJ = 5, UP_PROJ = 10, N_TENSORS = 12, MAX_TENSORS = 24 };

extern const struct hf_tensor made_up_tensors[N_TENSORS];
extern const char made_up_tokenizer[]; /* eight tokens */

/* config.json with one member exchanged, added, or left out (`value` NULL); "" as key: as it is.
 * Until the next call. */
const char *made_up_config(const char *key, const char *value);

void made_up_write(struct hf_folder *f, const char *config, const struct hf_tensor *tensors,
                   size_t n);

infer_status made_up_load(struct infer_model **out, const struct base_alloc *a, const char *path);

/* The model is refused, with a sentence that begins with the folder; nothing stays behind. */
void made_up_refuse(const struct hf_folder *f, infer_status status, const char *sentence);

#endif
