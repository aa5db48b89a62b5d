/* Which model this is: equal for two files of the same weights, whatever they are called. */
#ifndef MODEL_DIGEST_H
#define MODEL_DIGEST_H

#include "base/hash.h"
#include "model/model.h"

/* Over all metadata but names and descriptions, the directory of tensors, and samples of each
 * tensor's bytes: a handful of pages a tensor, so that it costs no reading of the model. Two
 * models that differ in a few single weights alone may have the same one. */
struct base_hash128 model_digest_of(const struct gguf_file *file);
/* The same of a model, evicted or not (life.c). */
struct base_hash128 model_digest(struct infer_model *model);
/* In hex; the model's. */
const char *model_digest_text(struct infer_model *model);

#endif
