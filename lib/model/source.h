/* What a user points at, as a GGUF directory: a file, a folder, or a model of the hub. */
#ifndef MODEL_SOURCE_H
#define MODEL_SOURCE_H

#include "format/gguf.h"

struct model_source_options {
    uint32_t gguf_flags;  /* GGUF_OPEN_*; metadata only: the tensors of a folder are left out */
    const char *hub_dir;  /* cache of Hugging Face's client; NULL: names of the hub are unknown */
    int32_t verify_files; /* files of that cache must be what their names say */
    int32_t survey;       /* a folder gives its keys alone, without tensors and tokenizer */
    int32_t keep_f8;      /* matrices of FP8 in a folder become F8_128 where they can, not BF16 */
};

/* `path` is tried in this order: a GGUF file; a folder with config.json; a folder with one model
 * in GGUF; "org/repo" or "org/repo@revision" in hub_dir. Errors begin with the path. */
infer_status model_source_open(struct gguf_file **out, const struct base_alloc *a, const char *path,
                               const struct model_source_options *options);

#endif
