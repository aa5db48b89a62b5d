/* Who waits, and who comes next.
 *
 * Requests of one tenant and priority form a flow, flows of one priority a class. The class whose
 * priority, bettered by the time since it was last served, is lowest comes first; in it the flow
 * that has been served least (Sheng et al., Fairness in Serving Large Language Models, OSDI 2024,
 * arXiv:2401.00588); in a flow the order of arrival. All functions run under the session's lock. */
#ifndef ENGINE_QUEUE_H
#define ENGINE_QUEUE_H

#include "base/alloc.h"

struct infer_request;

#define QUEUE_BUCKETS 256
/* Flows without a request that are remembered because they are ahead of the others. */
#define QUEUE_IDLE_MAX 1024
/* What computing one token costs a flow: a generated one keeps its place in many steps' batches,
 * where one of a prompt shares a step with its neighbours. The paper's weights. */
#define QUEUE_PROMPT_WEIGHT 1
#define QUEUE_OUTPUT_WEIGHT 2

struct engine_class {
    struct engine_class *next; /* in order of priority */
    struct engine_flow *flows;
    uint64_t since_ns; /* when it was last served, or began to wait */
    uint64_t floor;    /* what the flow served last had been served before */
    int32_t priority;
    int32_t n_waiting;
};

struct engine_flow {
    struct engine_flow *next; /* in its bucket */
    struct engine_flow *next_in_class;
    struct engine_class *in;
    struct infer_request *first, *last;
    uint64_t served;    /* weighted tokens */
    int32_t n_waiting;  /* its requests in the queue */
    int32_t n_requests; /* those and the running ones */
    uint32_t bucket;
    size_t n;
    char tenant[];
};

struct engine_queue {
    struct base_alloc alloc;
    struct infer_request *all; /* who waits, in no order */
    struct engine_class *classes;
    struct engine_flow *buckets[QUEUE_BUCKETS];
    uint64_t age_ns;   /* waiting so long is worth one step of priority */
    uint64_t n_tokens; /* of the prompts that wait */
    int32_t n;
    int32_t n_requests; /* in flows */
    int32_t n_idle;     /* flows without */
};

/* Steps of priority that waiting from then to now is worth. */
static inline int64_t queue_aged(uint64_t since_ns, uint64_t now, uint64_t age_ns)
{
    return now > since_ns ? (int64_t)((now - since_ns) / age_ns) : 0;
}

void queue_init(struct engine_queue *q, const struct base_alloc *a, uint64_t age_ns);
void queue_release(struct engine_queue *q);

/* How many requests of its flow wait before a new one. */
int32_t queue_waiting(const struct engine_queue *q, const struct infer_request *r);

/* Joins a new request to its flow and queues it. INFER_ERR_NO_MEMORY: nothing happened. */
infer_status queue_join(struct engine_queue *q, struct infer_request *r, uint64_t now);
/* A request of a flow waits again: where its age puts it. */
void queue_push(struct engine_queue *q, struct infer_request *r, uint64_t now);
void queue_remove(struct engine_queue *q, struct infer_request *r);
/* The request has ended, and waits no more. */
void queue_leave(struct engine_queue *q, struct infer_request *r);

/* Who comes next, and at which level: its priority or better. NULL: nobody that can begin. */
struct infer_request *queue_best(const struct engine_queue *q, uint64_t now, int64_t *level);
/* The best priority that waits, ages aside; INT64_MAX: nobody does. */
int64_t queue_priority(const struct engine_queue *q);
/* It was taken out to run, for so many weighted tokens to begin with. */
void queue_served(struct infer_request *r, uint64_t cost, uint64_t now);

#endif
