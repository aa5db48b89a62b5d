/**
 * @file session.h
 * The engine over one model and one KV cache: many requests at once, batched
 * anew in every step.
 */
#ifndef INFER_SESSION_H
#define INFER_SESSION_H

#include <infer/kv_cache.h>
#include <infer/request.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_session infer_session;

/** Which arithmetic the session may use. */
typedef int32_t infer_numerics;

enum {
    INFER_NUMERICS_STABLE = 0, /**< a request's tokens do not depend on batch, chunks or threads; on
                                    a GPU the last bits of logits may vary with the rows of a step,
                                    which decide on kernels. Activations are rounded as their
                                    weights are: to eight bits a block before quantised ones, and
                                    to BF16 before BF16 ones where the processor multiplies those
                                    (AVX512-BF16 without AMX) */
    INFER_NUMERICS_FAST = 1,   /**< large products may go to OpenBLAS; those of many rows with
                                    quantised weights round both sides to eight bits with one scale
                                    for 256 numbers of a row, where the processor has AVX512-VNNI
                                    and no AMX; activations of BF16 weights become BF16 where the
                                    processor multiplies those; on a GPU activations of many rows
                                    become E4M3 with a scale for 128 numbers before F8_128 weights
                                    (doc/gpu.md); results may then vary with what else is in the
                                    step */
    INFER_NUMERICS_INVARIANT = 2 /**< STABLE to the last bit on a GPU as well: logits of a request
                                      depend on the request alone, since one kernel takes each
                                      product and attention whatever the rows of a step; slower,
                                      prompts above all (doc/gpu.md). On the CPU it is STABLE */
};

/** Monotonic nanoseconds of the host's choice. Called from any thread, some with the session's
 *  lock held: may not call libinfer. */
typedef uint64_t (*infer_clock_fn)(void *user_data);

typedef int32_t infer_trace_type;

enum {
    INFER_TRACE_SUBMITTED = 1,
    INFER_TRACE_SCHEDULED = 2, /**< it runs from the next step on; again after each preemption */
    INFER_TRACE_PREEMPTED = 3, /**< it gave its blocks to others and waits */
    INFER_TRACE_FIRST_TOKEN = 4,
    INFER_TRACE_FINISHED = 5,
    INFER_TRACE_STEP_BEGIN = 6, /**< who takes part is chosen */
    INFER_TRACE_STEP_END = 7
};

typedef struct infer_trace_event {
    size_t struct_size;
    uint64_t time_ns;      /**< by the session's clock */
    uint64_t request_id;   /**< infer_request_info.id; 0 in STEP_ events */
    uint64_t step;         /**< steps finished so far */
    infer_trace_type type; /**< later versions may have more */
    infer_finish finish;   /**< in FINISHED */
    int32_t n_tokens;      /**< of the request so far, prompt included; or computed in the step */
    int32_t n_requests;    /**< in the step */
    int32_t n_decodes;     /**< those of them that generate; the others are in their prompts */
    uint32_t reserved;     /**< 0 */
    int32_t n_swapped_tokens; /**< in PREEMPTED: so many of n_tokens were computed and went to the
                                   swap store; 0: they are computed again */
    uint32_t reserved_2;      /**< 0 */
} infer_trace_event;

/** Told as things happen, on the thread where they do, some with the session's lock held: must be
 *  quick and may not call libinfer. */
typedef void (*infer_trace_fn)(const infer_trace_event *event, void *user_data);

/** Names in infer_session_metrics(). */
typedef int32_t infer_metrics_names;

enum {
    INFER_METRICS_INFER = 0,
    INFER_METRICS_VLLM = 1 /**< "vllm:...", as routers, autoscalers and dashboards for vLLM read
                                them; "infer_..." where vLLM has no such metric */
};

typedef struct infer_session_options {
    size_t struct_size;
    infer_kv_cache *kv_cache; /**< NULL: one with default options; the session keeps a reference */
    const infer_allocator *allocator; /**< NULL: the model's; copied */
    int32_t n_context;                /**< tokens a request may span; 0: the model's context */
    int32_t max_requests;             /**< requests running at once; 0: 64 */
    int32_t max_queue;   /**< requests waiting, beyond which submit gives INFER_ERR_BUSY; 0: 1024 */
    int32_t step_tokens; /**< tokens per step: longer prompts are cut into chunks; 0: 256, on
                              a GPU 2048; of encoders 512 and 4096 */
    int32_t worker_thread; /**< 1: the session steps by itself on a thread of its own */
    infer_numerics numerics;
    uint64_t target_itl_ns; /**< time from token to token that running requests shall keep: prompts
                                 are computed in smaller chunks, of 8 tokens at least, as measured
                                 steps demand; 0: no target */
    uint64_t priority_age_ns;  /**< waiting so long is worth one step of priority, so that all
                                    priorities get their turn; 0: a second */
    uint64_t max_queue_tokens; /**< prompt tokens waiting, beyond which submit gives
                                    INFER_ERR_BUSY; 0: any number */
    int32_t max_tenant_queue;  /**< waiting requests of one tenant and priority, likewise; 0: any */
    infer_metrics_names metrics_names;
    const char *model_name; /**< label of metrics, copied; NULL: none, with vLLM's names the path */
    infer_clock_fn clock;   /**< for all times and deadlines; NULL: the system's monotonic clock */
    void *clock_data;
    infer_trace_fn trace; /**< NULL: nothing is told */
    void *trace_data;
    infer_model *draft_model; /**< a small model of the same vocabulary that drafts for requests
                                   (INFER_SPECULATION_DRAFT), in a KV cache of its own that holds as
                                   many tokens as the session's; the session keeps a reference.
                                   NULL: none */
} infer_session_options;

typedef struct infer_session_stats {
    size_t struct_size;
    uint64_t n_steps;
    uint64_t step_ns; /**< time spent in steps */
    uint64_t n_submitted, n_finished, n_failed, n_cancelled, n_preempted;
    uint64_t n_prompt_tokens, n_generated_tokens;
    uint64_t workspace_bytes;
    int32_t n_waiting, n_running;
    uint64_t n_cached_tokens; /**< prompt tokens that needed no computing; not in n_prompt_tokens */
    uint64_t n_expired;       /**< ended by their deadline; not in n_finished */
    uint64_t n_refused;       /**< submits that gave INFER_ERR_BUSY */
    uint64_t compute_ns;      /**< of step_ns, the model's part */
    uint64_t n_drafted_tokens, n_accepted_tokens; /**< of speculation, in all requests */
    uint64_t n_swapped; /**< of n_preempted, and of restored requests that gave way before they ran:
                             those whose blocks went to the swap store */
    int32_t n_models;   /**< behind the handle: more than 1 while requests of a model that was
                             swapped go on (infer_session_swap_model()) */
    int32_t model_evicted; /**< 1: the newest one's weights are away (infer_model_evict()) */
} infer_session_stats;

/** Receives a piece of generated text: whole characters, 0-terminated.
 *  @return 0 to go on, anything else to cancel the request. */
typedef int32_t (*infer_text_fn)(const char *text, size_t size, void *user_data);

/**
 * Makes a session. All memory of a step is allocated here.
 * @return INFER_OK, INFER_ERR_INVALID, INFER_ERR_NO_MEMORY, INFER_ERR_UNSUPPORTED (an option,
 *         FAST without OpenBLAS on a CPU whose kernels do not outdo it, or a draft model where one
 *         has recurrent state), INFER_ERR_LIMIT, INFER_ERR_DEVICE
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_session_create(infer_session **out, infer_model *model,
                                            const infer_session_options *options);

/**
 * Cancels all requests and drops the caller's reference; request handles stay
 * valid until they are destroyed. NULL-safe. Not from within a callback.
 * Thread-safety: once per handle, and not during another call on it. Since: 0.1
 */
INFER_API void infer_session_destroy(infer_session **session);

/**
 * Generates from a prompt, streams the text, and returns when it is finished.
 * @param prompt   UTF-8, 0-terminated; NULL if options name tokens or messages
 * @param options  NULL for all defaults; must not name another prompt than `prompt`
 * @param text     called on this thread; NULL: the text is dropped
 * @return INFER_OK, INFER_ERR_CANCELLED if `text` asked for it, INFER_ERR_LIMIT at its deadline, or
 * as infer_session_submit() and infer_request_next() Thread-safety: safe; concurrent calls are
 * batched together. Since: 0.1
 */
INFER_API infer_status infer_session_generate(infer_session *session, const char *prompt,
                                              const infer_request_options *options,
                                              infer_text_fn text, void *user_data);

/**
 * Queues a request.
 * @param out  receives the handle; the caller destroys it
 * @return INFER_OK, INFER_ERR_INVALID (empty prompt, ids out of range), INFER_ERR_LIMIT (longer
 *         than the context or the whole KV cache), INFER_ERR_BUSY (queue full),
 *         INFER_ERR_NO_MEMORY, INFER_ERR_UNSUPPORTED (speculation with a model whose recurrent
 *         state cannot take tokens back), or as infer_model_render_chat()
 * Thread-safety: safe from any thread, also while a step runs. Since: 0.1
 */
INFER_API infer_status infer_session_submit(infer_request **out, infer_session *session,
                                            const infer_request_options *options);

/**
 * Runs one step for the requests that can run: for hosts with their own loop.
 * A failure that concerns one request ends that request, not the step.
 * @return INFER_OK if there is more to do, INFER_DONE if nothing is running or waiting,
 *         INFER_AGAIN if nothing could run because another session holds the KV blocks, the KV
 *         cache has no memory (infer_kv_cache_resize()) or the model is evicted
 *         (infer_model_evict()),
 *         INFER_ERR_BUSY if another thread is stepping or the session has a worker thread
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_session_step(infer_session *session);

/** Set stats->struct_size first. @return INFER_OK or INFER_ERR_INVALID.
 *  Thread-safety: safe; does not wait for a running step. Since: 0.1 */
INFER_API infer_status infer_session_get_stats(const infer_session *session,
                                               infer_session_stats *stats);

/**
 * Renders the statistics of the session and of its KV cache as Prometheus text, counters, gauges
 * and histograms, with the names that the options chose.
 * @param text  buffer of *size bytes, or NULL to ask; 0-terminated if there is room
 * @return INFER_OK, INFER_ERR_LIMIT (buffer too small), INFER_ERR_INVALID
 * Thread-safety: safe; does not wait for a running step. Since: 0.1
 */
INFER_API infer_status infer_session_metrics(const infer_session *session, char *text,
                                             size_t *size);

#ifdef __cplusplus
}
#endif

#endif
