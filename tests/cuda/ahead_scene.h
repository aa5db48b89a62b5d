/* Scenes of tests/cuda/ahead.c: a session that is stepped by hand, and what happens before each
 * step. */
#ifndef TESTS_CUDA_AHEAD_SCENE_H
#define TESTS_CUDA_AHEAD_SCENE_H

#include "engine/session.h"
#include "model/arch_fixture.h"
#include "support/engine.h"

#define REQUESTS_MAX 8

struct scene {
    struct engine e;
    infer_request *requests[REQUESTS_MAX];
    struct engine_answer answers[REQUESTS_MAX];
    uint64_t now_ns;
    uint64_t n_steps, n_taken, n_preempted;
};

struct play {
    infer_session_options session;
    infer_kv_cache_options cache;
    void (*before)(struct scene *s, int step); /* each step, the first one is 0 */
};

/* What all scenes are of. */
struct stage {
    struct arch_fixture fixture;
    char folder[512];
    infer_device *device;
    infer_model *model;
    infer_token answer[20]; /* to the whole prompt */
    size_t n_to_end;        /* the token behind so many of them is the model's end token */
    char stop_string[8];    /* is said in the midst of them */
};
extern struct stage stage;

int stage_open(void **state);
int stage_close(void **state);
void stage_renew(void); /* another device in place of a lost one */

/* `off`: without steps that are launched early. */
void scene_open(struct scene *s, const struct play *p, int off);
void scene_close(struct scene *s);
void scene_make_ready(infer_session *session, int off);
void scene_run(struct scene *s, const struct play *p, int off);

/* Played without and with; the latter stays open for a look. */
void scene_play(const struct play *p, struct scene *with);

/* The first tokens of the fixture, by default the prompt and nothing that ends it. */
infer_request_options scene_options(size_t n_prompt, int64_t max_tokens);
void scene_submit_as(struct scene *s, int i, const infer_request_options *options);
void scene_submit(struct scene *s, int i, size_t n_prompt, int64_t max_tokens);

#endif
