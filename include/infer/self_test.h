/**
 * @file self_test.h
 * Whether a model, on its device, gives the same answer in every way that it can be computed.
 */
#ifndef INFER_SELF_TEST_H
#define INFER_SELF_TEST_H

#include <infer/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What is compared with one made-up request alone: the place of its result in the
 *  report. Later versions may have more. */
typedef int32_t infer_check;

enum {
    INFER_CHECK_FINITE = 0,      /**< its logits are numbers: the request itself */
    INFER_CHECK_REPEAT = 1,      /**< once more, in other memory */
    INFER_CHECK_CHUNKS = 2,      /**< its prompt in larger and smaller chunks, down to one token */
    INFER_CHECK_THREADS = 3,     /**< on one thread, and on two */
    INFER_CHECK_PREFIX = 4,      /**< half and all of its prompt found in the prefix cache */
    INFER_CHECK_FORK = 5,        /**< forked behind its prompt, and in the middle of its answer */
    INFER_CHECK_PREEMPTION = 6,  /**< interrupted by another one, and computed again */
    INFER_CHECK_SPECULATION = 7, /**< with drafted tokens, right ones and wrong ones */
    INFER_CHECK_BATCH = 8        /**< among others, many times over */
};

typedef int32_t infer_check_state;

enum {
    INFER_CHECK_SKIPPED = 0,
    INFER_CHECK_PASSED = 1, /**< every token the same, and every logit to the last bit */
    INFER_CHECK_FAILED = 2
};

typedef struct infer_check_result {
    const char *name;   /**< such as "batch"; static, as the next */
    const char *reason; /**< why it was skipped, else "" */
    infer_check_state state;
    int32_t n_compared; /**< tokens whose logits were compared */
    uint64_t time_ns;
    uint64_t reserved[2]; /**< 0 */
} infer_check_result;

typedef struct infer_self_test_options {
    size_t struct_size;
    const infer_allocator *allocator; /**< NULL: the model's; memory of KV caches and steps comes
                                           from its device, as that of sessions does */
    infer_progress_fn progress;       /**< called before each step, with the name of the check; may
                                           cancel; NULL: none */
    void *progress_user_data;
    uint64_t budget_bytes;   /**< all memory that it holds at once; 0: 1 GiB. The batch becomes
                                  smaller to fit, then checks are skipped */
    uint64_t time_limit_ns;  /**< checks not done by then are skipped; looked at before each step;
                                  0: none */
    int32_t n_prompt_tokens; /**< 0: 100, or what the context holds. More than a window shows what
                                  models with windows do behind it */
    int32_t n_tokens;        /**< of the answer; 0: 16 */
    int32_t max_batch;       /**< requests in one step, 2 to 256; 0: 64 */
    infer_kv_type kv_type;   /**< INFER_KV_DEFAULT: as KV caches whose options name none */
    uint64_t seed;           /**< which prompt is made up */
} infer_self_test_options;

/** Set struct_size first. */
typedef struct infer_self_test_report {
    size_t struct_size;
    int32_t n_passed, n_failed, n_skipped;
    int32_t n_checks;        /**< entries of `checks` */
    int32_t n_prompt_tokens; /**< of the request, as the next */
    int32_t n_tokens;
    int32_t batch;            /**< most requests that were in one step */
    infer_check first_failed; /**< -1: none */
    uint64_t peak_bytes;      /**< most memory held at once, about */
    infer_check_result checks[16];
} infer_self_test_report;

/**
 * Computes one made-up request alone, then in every way that must not change its answer, and
 * compares tokens and logits bit for bit: a promise of this library that depends on processor,
 * compiler and weights, checked where it counts. Sessions and caches are the test's own; those of
 * the host are not touched, and may run meanwhile. A model of some hundred million parameters takes
 * seconds. On a GPU its sessions have INFER_NUMERICS_INVARIANT.
 * @param report   receives what was found, also when a check failed or it was cancelled
 * @param options  NULL for all defaults
 * @return INFER_OK (nothing failed), INFER_ERR_INTERNAL (a check failed: infer_last_error() says
 *         which was the first one, at which token, and both numbers), INFER_ERR_INVALID (an option,
 *         or logits that are not finite: the weights are damaged), INFER_ERR_LIMIT (budget_bytes
 *         are too few for one request, or the context for the prompt), INFER_ERR_CANCELLED,
 *         INFER_ERR_BUSY (the weights are evicted), INFER_ERR_NO_MEMORY, INFER_ERR_UNSUPPORTED (an
 *         option)
 * Thread-safety: safe; the calling thread runs all steps. Since: 0.1
 */
INFER_API infer_status infer_model_self_test(infer_self_test_report *report, infer_model *model,
                                             const infer_self_test_options *options);

#ifdef __cplusplus
}
#endif

#endif
