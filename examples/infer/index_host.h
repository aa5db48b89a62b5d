/* What the commands of `infer index` begin with: the index, and an embedding model where texts are
 * to become vectors. */
#ifndef INFER_INDEX_HOST_H
#define INFER_INDEX_HOST_H

#include "host.h"
#include "json_out.h"

struct index_host {
    struct host host; /* its model is the embedder */
    const char *path, *ns;
    infer_index_options options;
    infer_index *index;
    infer_device *device; /* that searches */
    int64_t device_index;
    infer_embedding_info embedding; /* with a model */
    infer_index_stamp stamp;        /* the model's; its fields are empty without one */
};

#define INDEX_OPTIONS(h)                                                                           \
    ARGS_ROW_REQUIRED("--index", "FOLDER", (h).path, "the index"),                                 \
        ARGS_ROW(ARGS_TEXT, "--ns", "NAME", (h).ns, "namespace (default: the one without a name)")

#define INDEX_MODEL_OPTIONS(h)                                                                     \
    ARGS_ROW(ARGS_TEXT, "--model", "MODEL", (h).host.path,                                         \
             "embedding model: GGUF file, Hugging Face folder, or org/repo of its cache"),         \
        ARGS_ROW_MIN(ARGS_COUNT, "--threads", "N", (h).host.threads, 1,                            \
                     "CPU threads (default: one per core)")

/* The model, where one is named, and its session. Each returns an exit status and has said on
 * stderr what failed. */
int index_host_open_model(struct index_host *h);
/* The index, as h->options say; those of the model go into them. */
int index_host_open(struct index_host *h);
/* n rows of h->embedding.dims floats. */
int index_host_embed(struct index_host *h, float *vectors, const char *const *texts,
                     const size_t *sizes, size_t n, infer_embed_as as);
void index_host_close(struct index_host *h);

/* A record that was found, as a member of an array; `scored`: with score and distance. */
void index_host_write_hit(struct json_out *json, const infer_hit *hit, int32_t dims, int scored);

#endif
