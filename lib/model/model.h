/* A loaded model: files, shape, weights, vocabulary. Immutable and shared; the data of its weights
 * alone may go and come back (life.h). */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "base/array.h"
#include "device/device.h"
#include "model/life.h"
#include "model/pooling.h"
#include "model/rope.h"
#include "model/vocab.h"
#include "model/weights.h"
#include "text/chat_template.h"

#include <stdatomic.h>

struct model_metadata {
    const char *key, *type, *value; /* in the arena */
};

struct model_gpu;

struct infer_model {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    struct infer_device *device;
    struct base_arena arena;
    struct base_arena bound;     /* what binding makes of weights */
    struct device_buffer packed; /* weights in the layout of the kernels; empty: they are mapped */
    struct model_gpu *gpu;       /* weights on a GPU; NULL on the CPU */
    struct model_life life;
    struct gguf_file *file;
    const struct model_arch *arch; /* NULL: vocabulary only */
    struct model_hparams hp;
    struct model_vocab *vocab;
    struct model_pooling pooling;
    struct text_chat_template *chat; /* NULL: none, or it does not compile */
    const char *chat_source;         /* in the arena, or NULL */
    const char *chat_error;          /* why it does not compile, in the arena */
    infer_status chat_status;
    struct model_weights weights;
    struct model_rope rope[MODEL_ROPES];
    struct model_kv_group kv_groups[MODEL_KV_GROUPS_MAX];
    int32_t n_kv_groups;
    int32_t verify_files; /* as at load, for restoring, as the next */
    int32_t pack;         /* infer_pack */
    infer_dtype kv_type;  /* where the host named none; -1: as the weights are */
    const char *path, *name, *arch_name;
    struct model_metadata *metadata; /* one per key of the file */
    const char **tensor_names;       /* 0-terminated, in file order */
};

struct model_load_config {
    const struct base_alloc *alloc;
    struct infer_device *device; /* the model takes a reference of its own */
    infer_progress_fn progress;
    void *progress_user_data;
    int32_t vocabulary_only, check_weights, verify_files, pack;
    infer_dtype kv_type; /* of caches whose host names none; -1: as the weights are */
    const char *hub_dir; /* NULL: names of the hub are unknown */
};

infer_status model_load(struct infer_model **out, const char *path,
                        const struct model_load_config *config);
struct infer_model *model_retain(struct infer_model *model);
void model_release(struct infer_model **model); /* NULL-safe, sets NULL */

/* Bytes that the model allocated for itself, beside those of packed weights. */
uint64_t model_private_bytes(const struct infer_model *model, uint64_t *packed);

/* Element type of a KV cache whose host names none: the one given at load, else F32 for F32
 * weights, so that nothing is lost, else F16. */
infer_dtype model_kv_default_type(const struct infer_model *model);

/* Bytes of recurrent state of one sequence in all layers. */
uint64_t model_kv_state_bytes(const struct infer_model *model);

/* Bytes of keys and values of one token in all layers. */
uint64_t model_kv_token_bytes(const struct infer_model *model, infer_dtype type);

#endif
