/**
 * @file model.h
 * Models: weights, tokenizer and chat template as their files say. A model is
 * immutable and may be shared by any number of sessions and threads. Its weights
 * can be away for a while: <infer/life.h>.
 */
#ifndef INFER_MODEL_H
#define INFER_MODEL_H

#include <infer/device.h>
#include <infer/sampling.h>
#include <infer/tokenizer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_model infer_model;

/** Element type of cached keys and values. Q8 and Q4 quantise the vector of each head at each
 *  position on its own, in blocks of 32 with a scale each: 8.5 and 5 bits an element. F8 is E4M3
 *  without a scale: 4 significant bits, magnitudes from 2^-9 to 448, to which larger ones are cut.
 *  Recurrent state is F32 in all of them. */
typedef int32_t infer_kv_type;

enum {
    INFER_KV_DEFAULT = 0, /**< as infer_model_options says, else F32 for F32 weights, else F16 */
    INFER_KV_F32 = 1,
    INFER_KV_F16 = 2,
    INFER_KV_BF16 = 3,
    INFER_KV_Q8 = 4, /**< hardly to be told from F16 in what models say, half the memory */
    INFER_KV_Q4 = 5, /**< less than a third of F16's memory, at a cost that shows in small heads */
    INFER_KV_F8 = 6  /**< half of F16's memory; what other engines call an FP8 KV cache */
};

/** Whether weights are copied into the order in which the processor's kernels read them fastest.
 *  Results are the same to the bit. Packed, decoding and small batches gain most, up to twofold;
 *  loading takes about a second for 4 GB, on all threads, and the copy is this process's own, while
 *  the file's pages leave its memory again. As they are, loading takes milliseconds and processes
 *  share the weights. */
typedef int32_t infer_pack;

enum {
    INFER_PACK_AUTO = 0, /**< where kernels gain from it, the machine and the process's control
                            groups have room, and no other copy stays in memory: not weights that
                            loading unpacks from a folder */
    INFER_PACK_OFF = 1,  /**< never: weights are read where the file is mapped */
    INFER_PACK_ON = 2    /**< always; INFER_ERR_NO_MEMORY or _LIMIT where there is no room */
};

typedef struct infer_model_options {
    size_t struct_size;
    infer_device *device; /**< NULL: the CPU with default options; the model keeps a reference. On a
                               GPU weights are copied to its memory, and what its kernels cannot
                               compute is INFER_ERR_UNSUPPORTED */
    const infer_allocator *allocator; /**< NULL: the C library's; copied */
    infer_progress_fn progress;       /**< may cancel; NULL: none */
    void *progress_user_data;
    int32_t vocabulary_only; /**< 1: load tokenizer and metadata; weights may be absent */
    int32_t check_weights;   /**< 1: read every weight and refuse NaN and infinity by tensor name;
                                  0: they are found when a request meets them */
    const char *hub_dir;     /**< the cache of Hugging Face's client, such as
                                  "/home/me/.cache/huggingface/hub": "org/repo" and
                                  "org/repo@revision" are looked up there, nothing is downloaded;
                                  NULL: such names are unknown */
    int32_t verify_files;    /**< 1: every file of that cache that is read must have the digest that
                                  its blob is named by, which reads it once; folders and files
                                  outside of a cache are INFER_ERR_UNSUPPORTED */
    uint32_t reserved;       /**< 0 */
    infer_kv_type kv_type;   /**< of KV caches whose options name none; estimates count in it */
    infer_pack pack;         /**< 0: where it is faster */
} infer_model_options;

typedef struct infer_model_info {
    size_t struct_size;
    const char *architecture;  /**< such as "llama"; borrowed from the model, as all strings here */
    const char *name;          /**< general.name, or "" */
    const char *weight_type;   /**< type of most weights, such as "Q8_0" */
    const char *chat_template; /**< Jinja source, or NULL */
    const char *path;          /**< as given to infer_model_load() */
    uint64_t n_parameters;
    uint64_t weight_bytes;  /**< in the files; mapped and shared between processes, or packed */
    uint64_t private_bytes; /**< memory that this handle allocated, packed weights included */
    uint64_t kv_bytes_per_token; /**< in the type of KV caches whose options name none */
    int32_t n_vocab, n_context, n_embedding, n_layers, n_heads, n_heads_kv, head_dim, n_ff;
    uint64_t mapped_bytes; /**< of the files, mapped now: what is read of them stays in memory while
                                the system has room */
    int32_t evicted;       /**< 1: the weights are away (infer_model_evict()) */
    uint32_t reserved;     /**< 0 */
} infer_model_info;

/** What loading and running would take, in bytes. */
typedef struct infer_memory_estimate {
    size_t struct_size;
    uint64_t weight_bytes;    /**< mapped from the files, where the system may drop and re-read
                                   them, or packed */
    uint64_t private_bytes;   /**< tokenizer, directory and tables, about */
    uint64_t kv_bytes;        /**< KV cache for the tokens asked for */
    uint64_t workspace_bytes; /**< activations of one step of a default session */
    uint64_t total_bytes;     /**< sum of the above */
    const char *architecture; /**< such as "llama"; static, as the next */
    const char *weight_type;  /**< type of most weights, such as "Q4_K" or "AWQ" */
    uint64_t n_parameters;    /**< about, where a folder's weights are packed */
    int32_t n_context;        /**< tokens that the model was made for */
    uint32_t reserved;        /**< 0 */
} infer_memory_estimate;

/** One metadata entry of the model's files. */
typedef struct infer_metadata {
    size_t struct_size;
    const char *key;   /**< borrowed from the model, as all strings here */
    const char *type;  /**< such as "u32", "str", "arr[str,32000]" */
    const char *value; /**< as text; "" for arrays */
} infer_metadata;

/** One tensor of the model's files. */
typedef struct infer_tensor_info {
    size_t struct_size;
    const char *name;       /**< borrowed from the model, as all pointers here */
    const char *type;       /**< such as "Q4_K" */
    const uint64_t *dims;   /**< n_dims sizes, the contiguous one first */
    uint64_t bytes, offset; /**< in its file */
    infer_dtype dtype;
    int32_t n_dims, file; /**< file: index of the part of a split model */
} infer_tensor_info;

/**
 * Loads a model from a GGUF file (any part of a split one), from a Hugging Face folder
 * (config.json, safetensors, the files of the tokenizer), from a folder with one GGUF file, or
 * by a name of the hub (hub_dir of the options).
 *
 * Files are mapped: loading takes milliseconds, and memory is shared between processes, but for
 * weights that are packed (infer_pack). The files must not change while the model lives.
 * @param out   receives the handle; the caller destroys it
 * @param path  UTF-8
 * @return INFER_OK, INFER_ERR_NOT_FOUND, INFER_ERR_IO, INFER_ERR_FORMAT (naming file, tensor or
 *         key and offset), INFER_ERR_UNSUPPORTED (naming what), INFER_ERR_NO_MEMORY,
 *         INFER_ERR_CANCELLED, INFER_ERR_INVALID
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_model_load(infer_model **out, const char *path,
                                        const infer_model_options *options);

/**
 * Drops the caller's reference and sets *model to NULL; sessions keep theirs.
 * NULL-safe. Thread-safety: safe, once per handle. Since: 0.1
 */
INFER_API void infer_model_destroy(infer_model **model);

/** Describes a model. Set info->struct_size first.
 *  @return INFER_OK or INFER_ERR_INVALID. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_model_get_info(const infer_model *model, infer_model_info *info);

/**
 * Says what a model will need, without loading it: no weight is read and no tokenizer made, so
 * that a folder of models is looked through quickly. Private memory is a guess.
 * @param out        set out->struct_size first
 * @param kv_tokens  tokens that the KV cache shall hold; 0: one full context
 * @return as infer_model_load()
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_model_estimate(infer_memory_estimate *out, const char *path,
                                            int64_t kv_tokens, const infer_model_options *options);

/** What running a loaded model takes, as infer_model_estimate() says of one that is not loaded;
 *  private memory is what the model has allocated.
 *  @return INFER_OK or INFER_ERR_INVALID. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_model_memory(const infer_model *model, int64_t kv_tokens,
                                          infer_memory_estimate *out);

/** The model's tokenizer; borrowed. NULL only if model is NULL.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API const infer_tokenizer *infer_model_tokenizer(const infer_model *model);

/**
 * The sampling that the model's files recommend (general.sampling.*), or
 * greedy where they say nothing. Set out->struct_size first.
 * @return INFER_OK or INFER_ERR_INVALID. Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_model_sampling(const infer_model *model, infer_sampling *out);

/** Number of metadata entries. Thread-safety: safe. Since: 0.1 */
INFER_API size_t infer_model_metadata_count(const infer_model *model);
/** Entry i. Set out->struct_size first.
 *  @return INFER_OK or INFER_ERR_INVALID. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_model_metadata_at(const infer_model *model, size_t i,
                                               infer_metadata *out);

/** Number of tensors. Thread-safety: safe. Since: 0.1 */
INFER_API size_t infer_model_tensor_count(const infer_model *model);
/** Tensor i in file order. Set out->struct_size first.
 *  @return INFER_OK or INFER_ERR_INVALID. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_model_tensor_at(const infer_model *model, size_t i,
                                             infer_tensor_info *out);

/** One turn of a conversation. */
typedef struct infer_message {
    const char *role;     /**< "system", "user", "assistant" ... */
    const char *content;  /**< UTF-8 */
    uint64_t reserved[2]; /**< must be 0 */
} infer_message;

/**
 * Renders a conversation with the model's chat template. Control tokens written in the
 * messages stand in the text as they are: submit messages, not this text, where strangers
 * wrote them.
 * @param text  buffer of *size bytes, or NULL to ask; 0-terminated if there is room
 * @return INFER_OK, INFER_ERR_LIMIT (buffer too small), INFER_ERR_NOT_FOUND (the model has no
 *         template), INFER_ERR_INVALID (with the template's own words, if it refuses),
 *         INFER_ERR_UNSUPPORTED, INFER_ERR_NO_MEMORY
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_model_render_chat(const infer_model *model,
                                               const infer_message *messages, size_t n_messages,
                                               char *text, size_t *size);

/**
 * Renders a conversation with tools, documents and settings. The context is a JSON object as
 * infer_template_render() takes it. What it does not say: add_generation_prompt is true, bos_token
 * and eos_token are the model's.
 * @param text  buffer of *size bytes, or NULL to ask; 0-terminated if there is room
 * @return as infer_model_render_chat(), and INFER_ERR_FORMAT if the context is no JSON
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_model_render_context(const infer_model *model, const char *context,
                                                  size_t context_size, char *text, size_t *size);

#ifdef __cplusplus
}
#endif

#endif
