/* What most commands begin with: device, model and session from the options
 * that they share. */
#ifndef INFER_HOST_H
#define INFER_HOST_H

#include "args.h"
#include "speculate_args.h"

#include <infer/infer.h>

struct host {
    const char *path;
    int64_t threads, device_index;
    int verbose, verify, mapped;
    int kv_type; /* INFER_KV_* */
    struct {     /* session */
        int64_t context;
        int fast, invariant;
        int64_t max_requests, max_queue, step_tokens; /* 0: the library's default */
    } want;
    struct speculate_args speculate;
    infer_device *device;
    infer_model *model;
    infer_session *session;
    char *hub; /* cache of Hugging Face's client */
};

/* Rows for a command's table of options. */
#define HOST_MODEL_OPTIONS(host)                                                                   \
    ARGS_ROW_REQUIRED("--model", "MODEL", (host).path,                                             \
                      "GGUF file, Hugging Face folder, or org/repo[@revision] of its cache"),      \
        ARGS_ROW(ARGS_FLAG, "--verify", NULL, (host).verify,                                       \
                 "compare files of that cache with their digests"),                                \
        ARGS_ROW(ARGS_FLAG, "--verbose", NULL, (host).verbose, "say on stderr what is chosen")

#define HOST_KV_OPTION(host)                                                                       \
    ARGS_ROW_CHOICE("--kv-type", "TYPE", (host).kv_type, host_kv_types,                            \
                    "KV cache in f32, f16, bf16, q8, q4 or f8 (default: as the weights)")

#define HOST_RUN_OPTIONS(host)                                                                     \
    HOST_MODEL_OPTIONS(host), HOST_KV_OPTION(host),                                                \
        ARGS_ROW(ARGS_COUNT, "--device", "N", (host).device_index,                                 \
                 "processor of `infer devices` (default: 0, the CPU)"),                            \
        ARGS_ROW_MIN(ARGS_COUNT, "--threads", "N", (host).threads, 1,                              \
                     "CPU threads (default: one per core)"),                                       \
        ARGS_ROW(ARGS_FLAG, "--mapped", NULL, (host).mapped,                                       \
                 "leave weights in the file's order: loads at once, shared, decodes slower"),      \
        ARGS_ROW(ARGS_FLAG, "--fast", NULL, (host).want.fast,                                      \
                 "less exact or repeatable products where they are faster"),                       \
        ARGS_ROW(ARGS_FLAG, "--invariant", NULL, (host).want.invariant,                            \
                 "bits on a GPU do not depend on the batch; slower")

/* In the order of INFER_KV_*, from INFER_KV_F32 on; ends with NULL. */
extern const char *const host_kv_types[];

/* Device and model, with a bar on a terminal. Each returns an exit status and
 * has said on stderr what failed. */
int host_open(struct host *host, int vocabulary_only);

/* What the host says about loading a model. 0, or -1 where memory is short. */
int host_model_options(struct host *host, infer_model_options *options);

/* The session, and the draft model where one is asked for; `cache` may be NULL. */
int host_open_session(struct host *host, infer_kv_cache *cache);

/* Says the library's sentence. Returns STATUS_FAILED. */
int host_failed(void);

void host_close(struct host *host);

/* Such as "stop" or "length". */
const char *host_finish_name(infer_finish finish);

#endif
