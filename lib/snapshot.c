/* Public: <infer/snapshot.h>. */
#include "engine/snapshot.h"

#include "base/file.h"
#include "handle.h"

#include <infer/snapshot.h>
#include <math.h>

static infer_status owner_of(struct snapshot_owner *out, const char *cache_namespace,
                             const infer_adapter *adapter, float scale,
                             const struct infer_model *model)
{
    if (!isfinite(scale))
        return base_error(INFER_ERR_INVALID, "adapter_scale is %g", (double)scale);
    if (adapter && adapter->model != model)
        return base_error(INFER_ERR_INVALID, "the adapter %s was loaded for another model",
                          adapter->path);
    *out = (struct snapshot_owner){.cache_namespace = cache_namespace,
                                   .adapter = (struct infer_adapter *)(uintptr_t)adapter,
                                   .adapter_scale = scale != 0 ? scale : 1};
    return INFER_OK;
}

static infer_status restore_owner(struct snapshot_owner *out, const infer_restore_options *options,
                                  const struct infer_model *model)
{
    infer_restore_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_restore_options");
    if (st == INFER_OK && o.reserved)
        st = base_error(INFER_ERR_INVALID, "infer_restore_options.reserved is %u, not 0",
                        (unsigned)o.reserved);
    if (st == INFER_OK)
        st = owner_of(out, o.cache_namespace, o.adapter, o.adapter_scale, model);
    if (st != INFER_OK)
        return st;
    out->grammar = (struct infer_grammar *)(uintptr_t)o.grammar; /* to count references */
    out->logits_fn = o.logits_fn;
    out->logits_user_data = o.logits_user_data;
    return INFER_OK;
}

infer_status infer_request_save(infer_request *request, const char *path)
{
    REQUIRE(request);
    REQUIRE(path);
    const struct snapshot_target to = {.path = path};
    return snapshot_save_request(request, &to);
}

infer_status infer_request_save_memory(infer_request *request, void *buffer, size_t *size)
{
    REQUIRE(request);
    REQUIRE(size);
    const struct snapshot_target to = {.buffer = buffer, .size = size};
    return snapshot_save_request(request, &to);
}

infer_status infer_session_restore_memory(infer_request **out, infer_session *session,
                                          const void *data, size_t size,
                                          const infer_restore_options *options)
{
    REQUIRE(out);
    REQUIRE(session);
    REQUIRE(data);
    struct snapshot_owner owner;
    struct infer_session *s = session_current(session);
    infer_status st = restore_owner(&owner, options, s->model);
    if (st == INFER_OK)
        st = snapshot_restore_request(out, s, data, size, &owner);
    session_done(s);
    return st;
}

infer_status infer_session_restore(infer_request **out, infer_session *session, const char *path,
                                   const infer_restore_options *options)
{
    REQUIRE(out);
    REQUIRE(session);
    REQUIRE(path);
    struct base_file file;
    infer_status st = base_file_map(&file, path);
    if (st != INFER_OK)
        return st;
    st = infer_session_restore_memory(out, session, file.data ? file.data : (const uint8_t *)"",
                                      file.size, options);
    if (st != INFER_OK)
        base_error_prefix(st, "%s", path);
    base_file_unmap(&file);
    return st;
}

/* ----------------------------------------------------------------- prefixes */

static infer_status save_prefix(infer_kv_cache *cache, const infer_kv_prefix *prefix,
                                const struct snapshot_target *to, size_t *n_saved)
{
    infer_kv_prefix p;
    struct snapshot_owner owner;
    size_t n = 0;
    infer_status st = base_options_copy(&p, sizeof p, prefix, "infer_kv_prefix");
    if (st != INFER_OK)
        return st;
    if (!p.tokens || !p.n_tokens || p.n_tokens > (size_t)cache->model->hp.n_context)
        return base_error(INFER_ERR_INVALID,
                          "the prefix has %zu tokens, expected 1 to the model's context of %d",
                          p.tokens ? p.n_tokens : 0, cache->model->hp.n_context);
    st = owner_of(&owner, p.cache_namespace, p.adapter, p.adapter_scale, cache->model);
    if (st == INFER_OK)
        st = snapshot_save_prefix(cache, &owner, p.tokens, p.n_tokens, to, &n);
    if (st == INFER_OK && n_saved)
        *n_saved = n;
    return st;
}

infer_status infer_kv_cache_save_prefix(infer_kv_cache *cache, const infer_kv_prefix *prefix,
                                        const char *path, size_t *n_saved)
{
    REQUIRE(cache);
    REQUIRE(prefix);
    REQUIRE(path);
    const struct snapshot_target to = {.path = path};
    return save_prefix(cache, prefix, &to, n_saved);
}

infer_status infer_kv_cache_save_prefix_memory(infer_kv_cache *cache, const infer_kv_prefix *prefix,
                                               void *buffer, size_t *size)
{
    REQUIRE(cache);
    REQUIRE(prefix);
    REQUIRE(size);
    const struct snapshot_target to = {.buffer = buffer, .size = size};
    return save_prefix(cache, prefix, &to, NULL);
}

infer_status infer_kv_cache_load_prefix_memory(infer_kv_cache *cache, const void *data, size_t size,
                                               const infer_restore_options *options,
                                               size_t *n_loaded)
{
    REQUIRE(cache);
    REQUIRE(data);
    struct snapshot_owner owner;
    size_t n = 0;
    infer_status st = restore_owner(&owner, options, cache->model);
    if (st == INFER_OK && (owner.grammar || owner.logits_fn))
        st = base_error(INFER_ERR_INVALID, "a prefix takes no grammar and no logits_fn");
    if (st == INFER_OK)
        st = snapshot_load_prefix(cache, &owner, data, size, &n);
    if (st == INFER_OK && n_loaded)
        *n_loaded = n;
    return st;
}

infer_status infer_kv_cache_load_prefix(infer_kv_cache *cache, const char *path,
                                        const infer_restore_options *options, size_t *n_loaded)
{
    REQUIRE(cache);
    REQUIRE(path);
    struct base_file file;
    infer_status st = base_file_map(&file, path);
    if (st != INFER_OK)
        return st;
    st = infer_kv_cache_load_prefix_memory(cache, file.data ? file.data : (const uint8_t *)"",
                                           file.size, options, n_loaded);
    if (st != INFER_OK)
        base_error_prefix(st, "%s", path);
    base_file_unmap(&file);
    return st;
}
