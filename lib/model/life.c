/* Evicting and restoring the weights of a model. */
#include "model/life.h"

#include "base/error.h"
#include "model/digest.h"
#include "model/encode.h"
#include "model/gpu/gpu.h"
#include "model/pack.h"
#include "model/source.h"

#include <stdio.h>
#include <string.h>

/* Added to the count of users: nobody enters any more. */
#define AWAY INT32_MIN

#define PAGE 4096

void model_life_init(struct model_life *life)
{
    pthread_mutex_init(&life->changing, NULL);
    pthread_mutex_init(&life->lock, NULL);
    pthread_cond_init(&life->idle, NULL);
}

void model_life_release(struct model_life *life)
{
    pthread_cond_destroy(&life->idle);
    pthread_mutex_destroy(&life->lock);
    pthread_mutex_destroy(&life->changing);
}

int model_enter(struct infer_model *m)
{
    int32_t n = atomic_load(&m->life.users);
    while (n >= 0)
        if (atomic_compare_exchange_weak(&m->life.users, &n, n + 1))
            return 1;
    return 0;
}

void model_leave(struct infer_model *m)
{
    if (atomic_fetch_sub(&m->life.users, 1) != AWAY + 1)
        return;
    pthread_mutex_lock(&m->life.lock); /* else it could begin to wait just now */
    pthread_cond_signal(&m->life.idle);
    pthread_mutex_unlock(&m->life.lock);
}

int model_is_evicted(const struct infer_model *m)
{
    return atomic_load(&m->life.users) < 0;
}

void model_watch(struct infer_model *m, struct model_watch *watch)
{
    pthread_mutex_lock(&m->life.lock);
    watch->next = m->life.watches;
    m->life.watches = watch;
    pthread_mutex_unlock(&m->life.lock);
}

void model_unwatch(struct infer_model *m, struct model_watch *watch)
{
    pthread_mutex_lock(&m->life.lock);
    struct model_watch **at = &m->life.watches;
    while (*at && *at != watch)
        at = &(*at)->next;
    if (*at)
        *at = watch->next;
    pthread_mutex_unlock(&m->life.lock);
}

/* To read what an eviction changes is no change of the model. */
static pthread_mutex_t *lock_of(const struct infer_model *m)
{
    return (pthread_mutex_t *)(uintptr_t)&m->life.lock;
}

uint64_t model_mapped_bytes(const struct infer_model *m)
{
    pthread_mutex_lock(lock_of(m));
    uint64_t bytes = gguf_mapped_bytes(m->file);
    pthread_mutex_unlock(lock_of(m));
    return bytes;
}

uint64_t model_private_bytes(const struct infer_model *m, uint64_t *packed)
{
    pthread_mutex_lock(lock_of(m));
    uint64_t bytes = sizeof *m + m->arena.used_bytes + m->bound.used_bytes +
                     gguf_memory_bytes(m->file) + model_vocab_memory_bytes(m->vocab);
    *packed = m->packed.bytes;
    pthread_mutex_unlock(lock_of(m));
    return bytes;
}

struct base_hash128 model_digest(struct infer_model *m)
{
    if (model_enter(m)) {
        struct base_hash128 digest = model_digest_of(m->file);
        model_leave(m);
        return digest;
    }
    pthread_mutex_lock(&m->life.lock);
    struct base_hash128 digest = m->life.digest; /* is there before the weights go */
    pthread_mutex_unlock(&m->life.lock);
    return digest;
}

const char *model_digest_text(struct infer_model *m)
{
    struct model_life *life = &m->life;
    pthread_mutex_lock(&life->lock);
    int is_made = life->digest_text[0] != 0;
    pthread_mutex_unlock(&life->lock);
    if (is_made)
        return life->digest_text;
    const struct base_hash128 digest = model_digest(m);
    pthread_mutex_lock(&life->lock);
    if (!life->digest_text[0]) /* others may read it from now on */
        snprintf(life->digest_text, sizeof life->digest_text, "%016llx%016llx",
                 (unsigned long long)digest.high, (unsigned long long)digest.low);
    pthread_mutex_unlock(&life->lock);
    return life->digest_text;
}

/* ------------------------------------------------------------------- evict */

static void drop_weights(struct infer_model *m)
{
    gguf_drop_data(m->file);
    base_arena_release(&m->bound);
    base_arena_init(&m->bound, &m->alloc);
    device_buffer_free(&m->packed);
    model_gpu_destroy(&m->gpu);
}

infer_status model_evict(struct infer_model *m)
{
    struct model_life *life = &m->life;
    if (!m->arch)
        return base_error(INFER_ERR_INVALID, "%s was loaded with vocabulary_only", m->path);
    pthread_mutex_lock(&life->changing);
    if (!model_is_evicted(m)) {
        struct base_hash128 digest = life->has_digest ? life->digest : model_digest_of(m->file);
        pthread_mutex_lock(&life->lock);
        life->digest = digest;
        life->has_digest = 1;
        atomic_fetch_add(&life->users, AWAY);
        while (atomic_load(&life->users) != AWAY)
            pthread_cond_wait(&life->idle, &life->lock);
        drop_weights(m);
        pthread_mutex_unlock(&life->lock);
    }
    pthread_mutex_unlock(&life->changing);
    return INFER_OK;
}

/* ----------------------------------------------------------------- restore */

/* What is on the way back; all of it goes where something fails. */
struct restoration {
    struct infer_model *model;
    const struct model_restore_config *config;
    struct gguf_file *file;
    struct base_arena arena; /* of `weights` */
    struct device_buffer packed;
    struct model_gpu *gpu;
    struct model_weights weights;
    struct model_layer *layers;
};

static infer_status report(const struct restoration *r, double fraction, const char *stage)
{
    const struct model_restore_config *c = r->config;
    if (c->progress && c->progress(fraction, stage, c->progress_user_data))
        return base_error(INFER_ERR_CANCELLED, "restoring was cancelled");
    return INFER_OK;
}

static infer_status check_digest(const struct restoration *r)
{
    struct base_hash128 now = model_digest_of(r->file), then = r->model->life.digest;
    if (now.low == then.low && now.high == then.high)
        return INFER_OK;
    return base_error(INFER_ERR_FORMAT,
                      "this is another model than the one that was loaded: load it anew");
}

/* The rows of the architecture's table, as at load; what else a layer says has not changed. */
static infer_status bind(struct restoration *r)
{
    struct infer_model *m = r->model;
    size_t n = (size_t)m->hp.n_layers;
    r->layers = base_new_raw(&m->alloc, n, sizeof *r->layers);
    if (!r->layers)
        return INFER_ERR_NO_MEMORY;
    memcpy(r->layers, m->weights.layers, n * sizeof *r->layers);
    for (size_t i = 0; i < n; i++)
        memset(r->layers[i].w, 0, sizeof r->layers[i].w);
    return model_weights_bind(&r->weights, &r->arena, m->arch, &m->hp, r->layers, r->file,
                              &m->device->kernels);
}

static infer_status report_placing(void *arg, double fraction)
{
    const struct restoration *r = arg;
    return report(r, 0.5 * fraction,
                  r->model->device->kind == DEVICE_CUDA ? "uploading" : "packing");
}

static infer_status place(struct restoration *r)
{
    struct infer_model *m = r->model;
    if (m->device->kind == DEVICE_CUDA)
        return model_gpu_create(&r->gpu, &(const struct model_gpu_config){.model = m,
                                                                          .weights = &r->weights,
                                                                          .file = r->file,
                                                                          .report = report_placing,
                                                                          .report_arg = r});
    return model_pack(&r->packed, &r->weights,
                      &(const struct model_pack_config){.device = m->device,
                                                        .arena = &r->arena,
                                                        .file = r->file,
                                                        .n_layers = m->hp.n_layers,
                                                        .floats = model_is_encoder(m),
                                                        .how = m->pack,
                                                        .report = report_placing,
                                                        .report_arg = r});
}

static void read_pages(const uint8_t *data, uint64_t bytes)
{
    const volatile uint8_t *at = data;
    for (uint64_t i = 0; i < bytes; i += PAGE)
        (void)at[i];
}

/* What was packed has been read. */
static void read_in_place(const struct model_weight *w)
{
    if (!w->data || w->packed)
        return;
    for (int32_t i = 0; i < w->n_matrices; i++)
        read_pages(w->matrices ? w->matrices[i] : w->data, (uint64_t)w->n * w->row_bytes);
}

static infer_status read_weights(const struct restoration *r)
{
    int32_t n_layers = r->model->hp.n_layers;
    infer_status st = INFER_OK;
    for (size_t i = 0; i < MODEL_LAYER_FIRST; i++)
        read_in_place(&r->weights.global[i]);
    for (int32_t i = 0; i < n_layers && st == INFER_OK; i++) {
        for (size_t k = 0; k < BASE_COUNT(r->layers[i].w); k++)
            read_in_place(&r->layers[i].w[k]);
        st = report(r, 0.5 + 0.5 * (double)i / (double)n_layers, "reading");
    }
    return st;
}

/* Pointers alone: shapes and types are the same, and may be read meanwhile. */
static void point_to(struct model_weight *w, const struct model_weight *from)
{
    w->data = from->data;
    w->matrices = from->matrices;
    w->scales = from->scales;
    w->packed = from->packed;
}

static infer_status put_back(struct restoration *r)
{
    struct infer_model *m = r->model;
    infer_status st = gguf_take_data(m->file, r->file);
    if (st != INFER_OK)
        return st;
    for (size_t i = 0; i < MODEL_LAYER_FIRST; i++)
        point_to(&m->weights.global[i], &r->weights.global[i]);
    for (int32_t i = 0; i < m->hp.n_layers; i++)
        for (size_t k = 0; k < BASE_COUNT(r->layers[i].w); k++)
            point_to(&m->weights.layers[i].w[k], &r->layers[i].w[k]);
    m->packed = r->packed;
    r->packed = (struct device_buffer){0};
    m->gpu = r->gpu;
    r->gpu = NULL;
    m->bound = r->arena;
    base_arena_init(&r->arena, &m->alloc);
    return INFER_OK;
}

/* What came of a name of the hub is opened again, not the name: it may mean other files now. */
static infer_status bring_back(struct restoration *r)
{
    struct infer_model *m = r->model;
    const char *path = gguf_path(m->file);
    const struct model_source_options source = {.verify_files = m->verify_files,
                                                .keep_f8 = !m->device->pool};
    infer_status st = report(r, 0, "opening");
    if (st == INFER_OK)
        st = model_source_open(&r->file, &m->alloc, path, &source);
    if (st != INFER_OK)
        return st; /* names the path */
    st = check_digest(r);
    if (st == INFER_OK)
        st = bind(r);
    if (st == INFER_OK)
        st = place(r);
    if (st == INFER_OK)
        st = r->config->read_weights && !r->gpu ? read_weights(r) : INFER_OK;
    if (st == INFER_OK)
        st = report(r, 1, "ready");
    if (st == INFER_OK) {
        pthread_mutex_lock(&m->life.lock);
        st = put_back(r);
        pthread_mutex_unlock(&m->life.lock);
    }
    return st == INFER_OK || st == INFER_ERR_NO_MEMORY ? st : base_error_prefix(st, "%s", path);
}

static void tell_watches(struct infer_model *m)
{
    pthread_mutex_lock(&m->life.lock);
    for (struct model_watch *w = m->life.watches; w; w = w->next)
        w->restored(w->data);
    pthread_mutex_unlock(&m->life.lock);
}

infer_status model_restore(struct infer_model *m, const struct model_restore_config *config)
{
    infer_status st = INFER_OK;
    pthread_mutex_lock(&m->life.changing);
    if (model_is_evicted(m)) {
        struct restoration r = {.model = m, .config = config};
        base_arena_init(&r.arena, &m->alloc);
        st = bring_back(&r);
        base_free(&m->alloc, r.layers);
        base_arena_release(&r.arena);
        device_buffer_free(&r.packed);
        model_gpu_destroy(&r.gpu);
        gguf_close(&r.file);
        if (st == INFER_OK) {
            atomic_store(&m->life.users, 0);
            tell_watches(m);
        }
    }
    pthread_mutex_unlock(&m->life.changing);
    return st;
}
