/* Two models whose answers differ, for tests that put one in the place of the other. */
#ifndef TESTS_API_MODEL_SWAP_H
#define TESTS_API_MODEL_SWAP_H

#include "support/engine.h"

#include <stdatomic.h>

#define SWAP_PROMPTS 3
#define SWAP_TOKENS  16

/* Of an allocator that counts, and refuses on demand; for any thread. */
struct swap_counter {
    _Atomic int64_t live; /* blocks */
    _Atomic int64_t n_calls, fail_at;
};

void *swap_alloc(size_t bytes, size_t alignment, void *user_data);
void swap_free(void *ptr, void *user_data);

/* Where they are, and what each says to each prompt. */
extern char swap_paths[2][512];
extern struct engine_answer swap_expected[2][SWAP_PROMPTS];

int swap_make_models(void **state);
int swap_drop_models(void **state);

/* A model whose memory, and that of all that hangs on it, is counted. */
infer_model *swap_load(int which, struct swap_counter *c);
/* A session whose own memory is not. */
infer_session *swap_open(infer_model *model, const infer_session_options *options);
/* Swaps, and leaves the new model to the session alone. */
void swap_now(infer_session *session, int which, struct swap_counter *c);

infer_request *swap_submit(infer_session *session, int prompt);
void swap_take(infer_request *request, int n_tokens);
int swap_same(const struct engine_answer *a, const struct engine_answer *b);
/* Takes what is left of a fresh request, which must be what that model says; destroys it. */
void swap_check(infer_request *request, int model, int prompt);

infer_session_stats swap_stats(const infer_session *session);
/* A worker may still be in the step that ended the last request of an older model; and it may be
 * the one that lets go of it. */
void swap_wait_for_one(const infer_session *session);
void swap_wait_until_gone(struct swap_counter *c);

#endif
