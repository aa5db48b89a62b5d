/**
 * @file adapter.h
 * Low-rank adapters (LoRA): small files that change what a loaded model does, for single
 * requests. Any number of them can be loaded and dropped while sessions run, and requests with
 * different ones share a step.
 */
#ifndef INFER_ADAPTER_H
#define INFER_ADAPTER_H

#include <infer/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_adapter infer_adapter;

typedef struct infer_adapter_options {
    size_t struct_size;
    const infer_allocator *allocator; /**< NULL: the model's; copied */
    uint64_t max_bytes;               /**< memory for it at most; 0: what its file needs */
} infer_adapter_options;

/** Strings live as long as the adapter. */
typedef struct infer_adapter_info {
    size_t struct_size;
    const char *name;      /**< of its file, else the last part of the path */
    const char *path;      /**< as it was given */
    uint64_t digest;       /**< of all that changes results: a copy of the file has the same one */
    uint64_t n_parameters; /**< elements of all its matrices */
    uint64_t memory_bytes; /**< held for it, on a GPU most of it there */
    int32_t n_matrices;    /**< matrices of the model's file that it adds to */
    int32_t rank;          /**< the largest of its ranks */
} infer_adapter_info;

/**
 * Loads an adapter for one model: a folder of PEFT's (adapter_config.json and
 * adapter_model.safetensors) or a GGUF file of llama.cpp's convert_lora_to_gguf. The model may be
 * quantised. The file is read and closed; it may change or go afterwards. For a model on a GPU the
 * matrices are copied there, in rows of whole 16 bytes.
 * @param out      receives the handle, on success only
 * @param model    the adapter keeps a reference
 * @param path     a folder or a file
 * @param options  NULL: all defaults
 * @return INFER_OK; INFER_ERR_FORMAT (damaged, or made for another model: the sentence names the
 *         tensor), INFER_ERR_UNSUPPORTED (more than a low-rank addition, such as DoRA or
 *         modules_to_save, or for a matrix that takes none, such as single experts),
 *         INFER_ERR_LIMIT (max_bytes, the device's budget, or a rank above 4096),
 *         INFER_ERR_NOT_FOUND, INFER_ERR_IO, INFER_ERR_NO_MEMORY, INFER_ERR_DEVICE,
 *         INFER_ERR_INVALID
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_adapter_load(infer_adapter **out, infer_model *model, const char *path,
                                          const infer_adapter_options *options);

/** Drops the caller's reference; requests that use it keep theirs. NULL-safe.
 *  Thread-safety: safe, once per handle. Since: 0.1 */
INFER_API void infer_adapter_destroy(infer_adapter **adapter);

/** Set info->struct_size first. @return INFER_OK or INFER_ERR_INVALID.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_adapter_get_info(const infer_adapter *adapter,
                                              infer_adapter_info *info);

#ifdef __cplusplus
}
#endif

#endif
