/* Writes small GGUF files for tests: keys of every type, tensors with data, split models.
 *
 *     struct gguf_builder *b = gguf_builder_new();
 *     gguf_builder_string(b, "general.architecture", "llama");
 *     gguf_builder_int(b, "llama.block_count", GGUF_U32, 2);
 *     gguf_builder_tensor(b, "token_embd.weight", INFER_DTYPE_F32, 2, dims, weights, bytes);
 *     gguf_builder_write(b, path);
 *     gguf_builder_free(b);
 *
 * Nothing is checked: a test may build files that a reader must refuse. Ends
 * the program when out of memory. */
#ifndef TESTS_SUPPORT_GGUF_BUILDER_H
#define TESTS_SUPPORT_GGUF_BUILDER_H

#include "format/gguf.h"

struct gguf_builder;

struct gguf_builder *gguf_builder_new(void); /* version 3, alignment 32 */
void gguf_builder_free(struct gguf_builder *b);
void gguf_builder_version(struct gguf_builder *b, uint32_t version);

/* Also adds the key "general.alignment". */
void gguf_builder_alignment(struct gguf_builder *b, uint32_t alignment);

/* Any integer type and GGUF_BOOL: the low bytes of `value` are written. */
void gguf_builder_int(struct gguf_builder *b, const char *key, int32_t type, int64_t value);
void gguf_builder_float(struct gguf_builder *b, const char *key, int32_t type, double value);
void gguf_builder_string(struct gguf_builder *b, const char *key, const char *text);
void gguf_builder_view(struct gguf_builder *b, const char *key, struct base_view text);

/* `data` holds n elements of a fixed-size type as they lie in memory (little-endian hosts). */
void gguf_builder_array(struct gguf_builder *b, const char *key, int32_t element_type,
                        const void *data, uint64_t n);
void gguf_builder_strings(struct gguf_builder *b, const char *key, const char *const *texts,
                          uint64_t n);
void gguf_builder_views(struct gguf_builder *b, const char *key, const struct base_view *texts,
                        uint64_t n);

/* Copies the data; NULL writes zeros and costs no memory until then. Tensors are laid out in the
 * order of these calls. */
void gguf_builder_tensor(struct gguf_builder *b, const char *name, int32_t type, int32_t n_dims,
                         const uint64_t *dims, const void *data, size_t bytes);

/* Everything before the first tensor's data, for who streams the data behind it,
 * each tensor padded to the alignment; the caller frees. */
uint8_t *gguf_builder_header(const struct gguf_builder *b, size_t *size);

/* The whole file; the caller frees. */
uint8_t *gguf_builder_finish(const struct gguf_builder *b, size_t *size);
void gguf_builder_write(const struct gguf_builder *b, const char *path);

/* Writes prefix-00001-of-0000n.gguf and so on, the tensors dealt out in runs. */
void gguf_builder_write_split(const struct gguf_builder *b, const char *prefix, int32_t n_parts);

#endif
