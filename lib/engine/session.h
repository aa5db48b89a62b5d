/* The engine over one model and one KV cache. */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include "base/clock.h"
#include "engine/line.h"
#include "engine/pace.h"
#include "engine/queue.h"
#include "engine/request.h"
#include "engine/swap_cost.h"
#include "model/forward.h"

#include <infer/session.h>

/* One request's share of a step. */
struct engine_part {
    struct infer_request *request;
    int32_t n_rows;
};

/* A running prompt, and at which level it asks for its turn. */
struct engine_turn {
    struct infer_request *request;
    int64_t level;
};

/* A row whose logits are wanted, and for which request. */
struct engine_output {
    struct infer_request *request;
    int32_t position; /* of the row in its sequence */
};

/* What requests with adapters need (adapt.h). */
struct engine_adapt {
    struct device_buffer memory; /* of the workspace's steps */
    struct device_buffer spare;  /* under the lock: larger memory for the next step */
    int32_t rank;                /* under the lock: what the larger of both is for */
    struct engine_part *parts;   /* max_requests, to sort in */
    struct model_batch_run *runs;
    float *scales; /* step_tokens */
};

struct draft_model;

/* Speculation (draft.h). */
struct engine_draft {
    struct draft_model *model; /* NULL: none */
    struct draft_pace pace;
    int32_t n_rows; /* drafts in this step */
    /* For tests and measurements: drafts in place of n-grams and model; as many as a request
     * allows, whatever they cost. */
    int32_t (*hook)(void *data, const struct infer_request *r, infer_token *out, int32_t n);
    void *hook_data;
    int32_t fixed;
};

/* The step in flight (ahead.h). */
struct engine_ahead {
    struct engine_output *rows; /* max_requests; of a request that has gone: NULL */
    int32_t *source;            /* of each row the row of the step before; max_requests */
    struct model_pick *picks;   /* what a step is asked to choose, or is about to be; as many */
    int32_t n_rows;
    int32_t n_live;     /* of them, those of requests; 0: nothing is in flight. As the next one and
                           rows, under the lock between steps */
    int32_t settled;    /* since requests were picked nobody came, ended or gave way */
    int32_t n_in_a_row; /* steps since then */
    uint64_t step;      /* its number (model_step()) */
    /* For tests and measurements. */
    int32_t off; /* nothing is launched early; so where the device is no GPU */
    uint64_t n_taken;
};

/* What steps that make vectors need (embed.h). */
struct engine_encode {
    struct model_encoder *encoder; /* NULL: the model is a decoder */
    int32_t *offsets;              /* max_requests + 1 */
    uint8_t *types;                /* step_tokens */
    float *labels;                 /* max_requests rows of what the head gives */
    struct model_fold *folds;      /* max_requests; of decoders too */
};

struct infer_session {
    struct infer_session *next_in_cache; /* under the lock of the KV cache */
    _Atomic int32_t refs; /* its line, while it is in it, every request, and who uses it just now */
    struct base_alloc alloc;
    struct infer_model *model;
    struct infer_kv_cache *kv;
    int32_t n_context, max_requests, max_queue, step_tokens;
    int32_t n_context_asked; /* 0: the model's was taken */
    infer_numerics numerics; /* whose keys and values are not those of others; STABLE for INVARIANT
                                where both are the same */
    infer_numerics numerics_asked;

    struct session_line *line; /* whose lock guards what "the session's lock" is said to guard */
    struct infer_session *older;
    struct model_watch watch;
    int32_t in_line;   /* as the next three, under the lock */
    int32_t n_users;   /* threads that are about to submit */
    int32_t is_handle; /* the host has it: stays in memory when its model has gone */
    int32_t is_empty;  /* which is so now */
    struct engine_queue queue;
    struct infer_request **running; /* max_requests, by rank and age */
    int32_t n_running;
    int32_t n_keepers;         /* at most so many of them only keep blocks for others */
    uint64_t next_deadline_ns; /* no deadline is before; 0: there is none */
    _Atomic int32_t n_cancels; /* since requests were last looked through */

    /* fixed at creation */
    infer_clock_fn clock; /* NULL: the system's */
    void *clock_data;
    infer_trace_fn trace; /* NULL: nobody listens */
    void *trace_data;
    uint64_t target_itl_ns; /* 0: none */
    uint64_t max_queue_tokens;
    int32_t max_tenant_queue;
    infer_metrics_names metrics_names;
    char *model_name; /* for metrics; NULL: none was given */

    /* the stepping thread's; all made at creation */
    struct engine_part *parts;
    int32_t n_parts, n_decodes; /* of the parts: the first n_decodes */
    int32_t n_rows;             /* of all parts */
    struct engine_turn *turns;  /* max_requests */
    struct engine_pace pace;
    struct swap_cost swap_cost;
    uint64_t swap_ns; /* of this step */
    struct model_batch batch;
    infer_token *tokens;
    struct model_batch_seq *seqs;
    const int32_t **tables; /* CACHE_GROUPS_MAX for each part */
    struct engine_output *outputs;
    int32_t *output_rows;
    int32_t n_outputs;
    struct model_pick *picks;    /* ws.max_outputs; NULL on a CPU (pick.h) */
    struct sample_count *counts; /* what penalties of these look back on */
    struct model_workspace ws;
    struct engine_adapt adapt;
    struct engine_draft draft;
    struct engine_encode encode;
    struct engine_ahead ahead;
    uint64_t step; /* model_step() of the one whose outputs are handled */
    struct engine_stats stats;
};

struct session_config {
    const struct base_alloc *alloc;
    struct session_line *line; /* to join; NULL: one of its own, and the session is a handle */
    struct infer_kv_cache *kv; /* the session takes a reference of its own */
    struct infer_model *draft; /* NULL: none; as `kv` */
    int32_t n_context, n_context_asked, max_requests, max_queue, step_tokens;
    int32_t worker_thread;
    infer_numerics numerics;
    infer_clock_fn clock;
    void *clock_data;
    infer_trace_fn trace;
    void *trace_data;
    uint64_t target_itl_ns, priority_age_ns, max_queue_tokens;
    int32_t max_tenant_queue;
    infer_metrics_names metrics_names;
    const char *model_name; /* copied */
};

/* Rows whose logits are computed together. */
#define SESSION_OUTPUTS_MAX         32
#define SESSION_OUTPUTS_MAX_GPU     128
#define SESSION_STEP_TOKENS         256
#define SESSION_STEP_TOKENS_ENCODER 512
/* A GPU takes thousands of rows to be busy. */
#define SESSION_STEP_TOKENS_GPU         2048
#define SESSION_STEP_TOKENS_ENCODER_GPU 4096
#define SESSION_MAX_REQUESTS            64
/* Short texts, of which a step takes many. */
#define SESSION_MAX_REQUESTS_ENCODER 256
#define SESSION_MAX_QUEUE            1024
#define SESSION_AGE_NS               1000000000u

infer_status session_create(struct infer_session **out, struct infer_model *model,
                            const struct session_config *config);
struct infer_session *session_retain(struct infer_session *session);
void session_release(struct infer_session *session);

/* Destroys a handle: ends all requests as cancelled and the worker; waits for a running step. */
void session_close(struct infer_session *handle);

/* Puts a session over another model behind the handle. Requests that are there go on with theirs.
 */
struct session_swap {
    struct infer_kv_cache *kv; /* the session takes a reference of its own, as of the next */
    struct infer_model *draft; /* NULL: none */
    int32_t n_context, n_context_asked;
    const char *model_name; /* NULL: as before */
};
infer_status session_swap(struct infer_session *handle, struct infer_model *model,
                          const struct session_swap *swap);

/* The session that takes a handle's requests. Until session_done() it is not left by its line, so
 * that what it is asked for is computed. */
struct infer_session *session_current(struct infer_session *handle);
void session_done(struct infer_session *session);

/* Queues a request that was made; takes over the caller's reference where it fails. */
infer_status session_queue(struct infer_session *session, struct infer_request *request);
/* Waits until no step runs, and takes the lock; what a step works on can be looked at. */
void session_visit(struct infer_session *session);
void session_leave(struct infer_session *session);

/* INFER_ERR_BUSY while the queue is full: asked before a prompt is encoded, so that refusing costs
 * little, and again when a request is queued. */
infer_status session_has_room(struct infer_session *session);
infer_status session_submit(struct infer_request **out, struct infer_session *session,
                            const struct request_config *config);

/* What a fork has of its own; the rest is its source's. */
struct fork_config {
    const struct sample_params *sampling; /* NULL: the source's */
    int64_t max_tokens;                   /* 0: the source's */
    uint64_t seed; /* 0: that of `sampling`, or the source's plus the number of this fork */
};

/* Queues a request that goes on from the source's tokens so far, and begins with its blocks. */
infer_status session_fork(struct infer_request **out, struct infer_request *source,
                          const struct fork_config *config);

/* As infer_request_next() and infer_request_poll(). */
infer_status session_next(struct infer_request *request, infer_event *event, int wait);
/* Waits until a request made with n_heirs keeps what they shall begin with. Says how many there are
 * to be; before they are submitted. */
infer_status session_wait_kept(struct infer_request *request);
void session_set_heirs(struct infer_request *request, int32_t n);
void session_cancel(struct infer_request *request);
/* Drops the handle; an unfinished request is taken out of the session. */
void session_drop(struct infer_request *request);

/* As infer_session_step(). */
infer_status session_step(struct infer_session *handle);

/* Tokens of a step, and requests at once, where the host says nothing. */
int32_t session_step_tokens(const struct infer_model *model);
int32_t session_max_requests(const struct infer_model *model);

/* Tokens that a request may span: what the host wants (0: nothing) as far as the model goes, or the
 * model's context; an encoder's is what its files say of a text. */
int32_t session_context(const struct infer_model *model, int32_t wanted);

/* Bytes of a step's memory. */
uint64_t session_workspace_bytes(const struct infer_model *model, int32_t step_tokens,
                                 infer_numerics numerics);

#endif
