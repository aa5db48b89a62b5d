/* Saving and loading prefixes. */
#include "engine/snapshot.h"

#include "model/lora.h"

static struct cache_key key_of(const struct snapshot_owner *o, int32_t numerics)
{
    return (struct cache_key){.name = o->cache_namespace,
                              .n = o->cache_namespace ? strlen(o->cache_namespace) : 0,
                              .adapter =
                                  o->adapter ? model_lora_key(o->adapter, o->adapter_scale) : 0,
                              .numerics = numerics};
}

static infer_status check_cache(const struct infer_kv_cache *kv)
{
    if (!kv->blocks->config.prefix)
        return base_error(INFER_ERR_INVALID, "this KV cache was made without a prefix cache");
    return INFER_OK;
}

/* Sessions of all numerics have their own blocks of the same tokens: the deepest ones. */
static infer_status hold(struct cache_held *out, struct infer_kv_cache *kv,
                         const struct snapshot_owner *owner, const infer_token *tokens, size_t n,
                         struct cache_snapshot_head *head)
{
    struct cache_key key = key_of(owner, 0);
    infer_status st = cache_held_prefix(out, kv->blocks, &key, tokens, n);
    head->adapter = key.adapter;
    for (key.numerics = 1; key.numerics <= INFER_NUMERICS_INVARIANT && st == INFER_OK;
         key.numerics++) {
        struct cache_held other = {0};
        st = cache_held_prefix(&other, kv->blocks, &key, tokens, n);
        if (st == INFER_OK && other.n_tokens > out->n_tokens) {
            struct cache_held less = *out;
            *out = other;
            other = less;
            head->numerics = key.numerics;
        }
        cache_held_release(&other);
    }
    if (st == INFER_OK && !out->n_tokens)
        st = base_error(INFER_ERR_NOT_FOUND, "nothing of this prefix is cached");
    return st;
}

infer_status snapshot_save_prefix(struct infer_kv_cache *kv, const struct snapshot_owner *owner,
                                  const infer_token *tokens, size_t n,
                                  const struct snapshot_target *to, size_t *n_saved)
{
    struct cache_snapshot_head head;
    struct cache_held held = {0};
    struct base_str body, list;
    infer_status st = check_cache(kv);
    if (st != INFER_OK)
        return st;
    base_str_init(&body, &kv->alloc, 0);
    base_str_init(&list, &kv->alloc, 0);
    snapshot_head(&head, kv, CACHE_SNAPSHOT_PREFIX);
    kv_cache_enter(kv);
    st = hold(&held, kv, owner, tokens, n, &head);
    if (st == INFER_OK)
        st = cache_snapshot_put_groups(&body, kv->blocks);
    if (st == INFER_OK)
        st = cache_put_tokens(&list, tokens, (size_t)held.n_tokens);
    if (st == INFER_OK)
        st = cache_snapshot_put(&body, CACHE_SNAPSHOT_TOKENS, list.data, list.size);
    if (st == INFER_OK)
        st = snapshot_write(to, &head, &body, &held);
    if (st == INFER_OK)
        *n_saved = (size_t)held.n_tokens;
    cache_held_release(&held);
    kv_cache_exit(kv);
    base_str_release(&list);
    base_str_release(&body);
    return st;
}

/* ------------------------------------------------------------------ loading */

static infer_status get_tokens(const struct infer_kv_cache *kv, struct cache_snapshot *s,
                               infer_token **out)
{
    struct cache_snapshot_section section;
    struct cache_cursor c;
    const int32_t n = s->head.n_tokens, n_vocab = kv->model->hp.n_vocab;
    infer_status st = cache_snapshot_next(s, CACHE_SNAPSHOT_TOKENS, &section, &c);
    if (st != INFER_OK)
        return st;
    if (n < 1 || n % s->head.block_tokens || c.size != (uint64_t)n * 4)
        return base_error(INFER_ERR_FORMAT,
                          "the snapshot says it has %d tokens and has %zu bytes "
                          "of them",
                          n, c.size);
    infer_token *tokens = base_new_raw(&kv->alloc, (size_t)n, sizeof *tokens);
    if (!tokens)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        tokens[i] = (infer_token)cache_get_u32(&c);
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            st = base_error(INFER_ERR_FORMAT,
                            "token %d of the snapshot is %d, the vocabulary has ids 0 to %d", i,
                            tokens[i], n_vocab - 1);
    }
    if (st != INFER_OK)
        base_free(&kv->alloc, tokens);
    else
        *out = tokens;
    return st;
}

static void copy_tokens(const void *sequence, int32_t first, int32_t n, infer_token *out)
{
    memcpy(out, (const infer_token *)sequence + first, (size_t)n * sizeof *out);
}

/* What is there already stays; of the rest as much as there are blocks for: all or nothing where
 * windows and states are those of the end. */
static infer_status load(struct cache_table *t, const struct cache_snapshot *s,
                         const infer_token *tokens, int32_t *n_loaded)
{
    const struct cache_blocks *b = t->blocks;
    const int32_t step = b->config.block_tokens, n = s->head.n_tokens;
    int32_t found = cache_table_find(t, tokens, copy_tokens, n), want = n;
    const int parts = s->head.gaps || cache_has_state(b);
    while (want > found && cache_table_leap(t, want) != INFER_OK)
        want = parts ? found : found + (want - found) / 2 / step * step;
    *n_loaded = want;
    if (want == found)
        return INFER_OK;
    cache_table_copy(t);
    infer_status st = snapshot_load_blocks(*s, t, found / step, want / step, n);
    if (st == INFER_OK) {
        cache_table_keep(t, tokens, copy_tokens, want);
        cache_table_checkpoint(t, want, 0);
    }
    return st;
}

infer_status snapshot_load_prefix(struct infer_kv_cache *kv, const struct snapshot_owner *owner,
                                  const void *data, size_t size, size_t *n_loaded)
{
    struct cache_snapshot s;
    struct cache_table table = {0};
    infer_token *tokens = NULL;
    int32_t n = 0;
    struct cache_key key = key_of(owner, 0);
    infer_status st = check_cache(kv);
    if (st == INFER_OK)
        st = snapshot_open(&s, kv, CACHE_SNAPSHOT_PREFIX, data, size, key.adapter);
    if (st == INFER_OK)
        st = get_tokens(kv, &s, &tokens);
    if (st == INFER_OK)
        st = snapshot_check_blocks(s, kv->blocks, s.head.n_tokens);
    kv_cache_enter(kv);
    if (st == INFER_OK)
        st = cache_table_init(&table, kv->blocks, s.head.n_tokens);
    if (st == INFER_OK) {
        key.numerics = s.head.numerics;
        st = cache_table_share(&table, &key);
    }
    if (st == INFER_OK)
        st = load(&table, &s, tokens, &n);
    cache_table_release(&table);
    kv_cache_exit(kv);
    base_free(&kv->alloc, tokens);
    if (st == INFER_OK)
        *n_loaded = (size_t)n;
    return st;
}
