/* Weights that go and come back: a model that is evicted keeps its tokenizer, its metadata and
 * every shape, and gives back the pages and copies of its weights.
 *
 * Whoever reads weights does so between model_enter() and model_leave(). */
#ifndef MODEL_LIFE_H
#define MODEL_LIFE_H

#include "base/hash.h"

#include <infer/device.h>
#include <pthread.h>
#include <stdatomic.h>

struct infer_model;

/* Called when the weights are back, on the thread that restored them. */
struct model_watch {
    struct model_watch *next;
    void (*restored)(void *data);
    void *data;
};

struct model_life {
    _Atomic int32_t users;    /* who reads weights; below 0: they are away, or wanted away */
    pthread_mutex_t changing; /* one eviction or restoration at a time */
    pthread_mutex_t lock;     /* guards what follows, and what the model has allocated */
    pthread_cond_t idle;
    struct model_watch *watches;
    struct base_hash128 digest;
    int32_t has_digest;
    char digest_text[33]; /* in hex; "": not made yet, else it stays */
};

void model_life_init(struct model_life *life);
void model_life_release(struct model_life *life);

/* 1: the weights are there until model_leave(). 0: they are not. Waits for nobody. */
int model_enter(struct infer_model *model);
void model_leave(struct infer_model *model);
int model_is_evicted(const struct infer_model *model);

/* `watch` stays the caller's. Neither is called under a lock that `restored` takes. */
void model_watch(struct infer_model *model, struct model_watch *watch);
void model_unwatch(struct infer_model *model, struct model_watch *watch);

/* Waits until nobody reads weights. INFER_OK also where they are away already. */
infer_status model_evict(struct infer_model *model);

struct model_restore_config {
    infer_progress_fn progress;
    void *progress_user_data;
    int32_t read_weights; /* every page, now */
};

/* From where the model was loaded. On an error it stays evicted: NOT_FOUND, IO, FORMAT (it is
 * another model now), CANCELLED, NO_MEMORY and as model_load(). INFER_OK also where nothing is
 * away. */
infer_status model_restore(struct infer_model *model, const struct model_restore_config *config);

/* Bytes of the files that are mapped. */
uint64_t model_mapped_bytes(const struct infer_model *model);

#endif
