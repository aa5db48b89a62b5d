/* A directory of keys and tensors that was read from no GGUF file: of a Hugging Face folder,
 * or of a file that is about to be written.
 *
 * Everything above this floor reads models as struct gguf_file. A draft collects the same
 * directory piece by piece and turns into one, so that no reader needs a second path. */
#ifndef FORMAT_GGUF_DRAFT_H
#define FORMAT_GGUF_DRAFT_H

#include "base/file.h"
#include "format/gguf.h"

struct gguf_draft;

infer_status gguf_draft_create(struct gguf_draft **out, const struct base_alloc *a,
                               const char *path);
void gguf_draft_destroy(struct gguf_draft **draft); /* NULL-safe, sets NULL */
/* The allocator it was made with. */
const struct base_alloc *gguf_draft_alloc(const struct gguf_draft *d);

/* Keys and texts are copied. A key that exists already is replaced. */
infer_status gguf_draft_string(struct gguf_draft *d, const char *key, struct base_view text);
infer_status gguf_draft_u32(struct gguf_draft *d, const char *key, uint32_t value);
infer_status gguf_draft_f32(struct gguf_draft *d, const char *key, float value);
infer_status gguf_draft_bool(struct gguf_draft *d, const char *key, int32_t value);
infer_status gguf_draft_strings(struct gguf_draft *d, const char *key,
                                const struct base_view *texts, size_t n);
infer_status gguf_draft_i32s(struct gguf_draft *d, const char *key, const int32_t *values,
                             size_t n);
infer_status gguf_draft_f32s(struct gguf_draft *d, const char *key, const float *values, size_t n);
infer_status gguf_draft_u8s(struct gguf_draft *d, const char *key, const uint8_t *values, size_t n);
infer_status gguf_draft_bools(struct gguf_draft *d, const char *key, const uint8_t *values,
                              size_t n);
/* Copies every key of `from` that is not there yet, but those that speak of its files (split.*). */
infer_status gguf_draft_copy_keys(struct gguf_draft *d, const struct gguf_file *from);

/* Reads of keys that were set: whoever fills a draft asks what is there. NULL if absent. */
const struct gguf_kv *gguf_draft_find(const struct gguf_draft *d, const char *key);

/* Memory that lives as long as the file that comes of the draft. */
void *gguf_draft_memory(struct gguf_draft *d, size_t n, size_t size);
/* Takes over a mapping: unmapped when the file closes. */
infer_status gguf_draft_own(struct gguf_draft *d, struct base_file *file);

/* Adds a tensor whose data outlives the draft (in memory or a mapping it owns). `matrices`
 * (dims[2] pointers, copied) stands in for `data` where the matrices of a three-dimensional
 * tensor lie apart, as experts of a Hugging Face folder do. Data may be NULL for a tensor
 * that only its writer will compute. A name that exists already is FORMAT. */
infer_status gguf_draft_tensor(struct gguf_draft *d, const char *name, infer_dtype type,
                               int32_t n_dims, const uint64_t *dims, const void *data,
                               const void *const *matrices);

/* Ends the draft and gives the file; on failure the draft stays. */
infer_status gguf_draft_finish(struct gguf_draft **draft, struct gguf_file **out);

#endif
