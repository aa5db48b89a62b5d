/* The index of the prefix cache: roots, and nodes by chained hashes. */
#include "cache/prefix.h"

#include "base/entropy.h"
#include "base/error.h"

#include <string.h>

static struct base_hash128 hash_of(const void *data, size_t size, const uint8_t *secret)
{
    return base_hash128(data, size, secret);
}

static infer_status alloc_index(struct cache_prefix *p, const struct base_alloc *a,
                                int32_t block_tokens)
{
    p->n_buckets = 16;
    while (p->n_buckets < p->n_nodes)
        p->n_buckets *= 2;
    p->nodes = base_new(a, (size_t)p->n_nodes, sizeof *p->nodes);
    p->tokens = base_new(a, (size_t)p->n_nodes, (size_t)block_tokens * sizeof *p->tokens);
    p->buckets = base_new(a, (size_t)p->n_buckets, sizeof *p->buckets);
    p->roots = base_new(a, (size_t)p->n_buckets, sizeof *p->roots);
    p->path = base_new(a, (size_t)p->n_nodes, sizeof *p->path);
    if (!p->nodes || !p->tokens || !p->buckets || !p->roots || !p->path)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < p->n_buckets; i++)
        p->buckets[i] = -1;
    for (int32_t i = 0; i < p->n_nodes; i++)
        p->nodes[i].chain = i + 1 < p->n_nodes ? i + 1 : -1;
    return base_entropy(p->secret, sizeof p->secret);
}

infer_status cache_prefix_create(struct cache_blocks *b)
{
    struct cache_prefix *p = base_new(&b->alloc, 1, sizeof *p);
    if (!p)
        return INFER_ERR_NO_MEMORY;
    b->prefix = p;
    p->oldest = p->newest = -1;
    p->free_node = b->n_spans ? 0 : -1;
    p->hash = hash_of;
    p->n_nodes = b->n_spans;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        p->n_groups += !cache_group_is_partial(&b->config.groups[g]);
    return alloc_index(p, &b->alloc, b->config.block_tokens);
}

void cache_prefix_destroy(struct cache_blocks *b)
{
    struct cache_prefix *p = b->prefix;
    if (!p)
        return;
    for (int32_t i = 0; p->roots && i < p->n_buckets; i++)
        while (p->roots[i]) {
            struct cache_root *next = p->roots[i]->next;
            base_free(&b->alloc, p->roots[i]);
            p->roots[i] = next;
        }
    base_free(&b->alloc, p->nodes);
    base_free(&b->alloc, p->tokens);
    base_free(&b->alloc, p->buckets);
    base_free(&b->alloc, p->roots);
    base_free(&b->alloc, p->path);
    base_free(&b->alloc, p);
    b->prefix = NULL;
}

/* -------------------------------------------------------------------- roots */

static int is_root(const struct cache_root *root, const struct cache_key *key)
{
    return root->n == key->n && root->adapter == key->adapter && root->numerics == key->numerics &&
           (!key->n || memcmp(root->name, key->name, key->n) == 0);
}

static struct base_hash128 key_hash(const struct cache_blocks *b, const struct cache_key *key)
{
    const uint8_t *secret = b->prefix->secret;
    struct {
        struct base_hash128 name;
        uint64_t adapter, numerics;
    } all = {base_hash128(key->n ? key->name : "", key->n, secret), key->adapter,
             (uint64_t)key->numerics};
    return base_hash128(&all, sizeof all, secret);
}

static struct cache_root *make_root(const struct cache_blocks *b, const struct cache_key *key)
{
    struct cache_root *root = base_new(&b->alloc, 1, sizeof *root + key->n + 1);
    if (!root)
        return NULL;
    root->refs = 1;
    root->adapter = key->adapter;
    root->numerics = key->numerics;
    root->hash = key_hash(b, key);
    root->n = key->n;
    if (key->n)
        memcpy(root->name, key->name, key->n);
    return root;
}

static struct cache_root **root_bucket(const struct cache_blocks *b, struct base_hash128 hash)
{
    return &b->prefix->roots[hash.low & (uint64_t)(b->prefix->n_buckets - 1)];
}

struct cache_root *cache_root_find(const struct cache_blocks *b, const struct cache_key *key)
{
    struct cache_root *root = *root_bucket(b, key_hash(b, key));
    while (root && !is_root(root, key))
        root = root->next;
    return root;
}

infer_status cache_root_acquire(struct cache_blocks *b, const struct cache_key *key,
                                struct cache_root **out)
{
    *out = NULL;
    if (!b->prefix)
        return INFER_OK;
    struct cache_root *fresh = make_root(b, key);
    if (!fresh)
        return INFER_ERR_NO_MEMORY;
    pthread_mutex_lock(&b->lock);
    struct cache_root *root = cache_root_find(b, key);
    if (root) {
        root->refs++;
    } else {
        struct cache_root **bucket = root_bucket(b, fresh->hash);
        root = fresh;
        fresh->next = *bucket;
        *bucket = fresh;
    }
    pthread_mutex_unlock(&b->lock);
    if (root != fresh)
        base_free(&b->alloc, fresh);
    *out = root;
    return INFER_OK;
}

void cache_root_release(struct cache_blocks *b, struct cache_root **root_ptr)
{
    struct cache_root *root = *root_ptr;
    *root_ptr = NULL;
    if (!root)
        return;
    pthread_mutex_lock(&b->lock);
    cache_root_unref(b, root);
    pthread_mutex_unlock(&b->lock);
}

/* -------------------------------------------------------------------- nodes */

struct base_hash128 cache_prefix_hash(const struct cache_blocks *b, const struct cache_root *root,
                                      int32_t parent, const infer_token *tokens)
{
    const struct cache_prefix *p = b->prefix;
    struct {
        struct base_hash128 parent;
        infer_token tokens[CACHE_BLOCK_TOKENS_MAX];
    } link;
    size_t n = (size_t)b->config.block_tokens * sizeof *tokens;
    link.parent = parent < 0 ? root->hash : p->nodes[parent].hash;
    memcpy(link.tokens, tokens, n);
    return p->hash(&link, sizeof link.parent + n, p->secret);
}

static infer_token *tokens_of(const struct cache_blocks *b, int32_t node)
{
    return b->prefix->tokens + (size_t)node * (size_t)b->config.block_tokens;
}

int32_t cache_prefix_find(const struct cache_blocks *b, const struct cache_root *root,
                          int32_t parent, const infer_token *tokens, struct base_hash128 hash)
{
    const struct cache_prefix *p = b->prefix;
    int32_t i = *cache_prefix_bucket(p, hash);
    for (; i >= 0; i = p->nodes[i].chain) {
        const struct cache_node *node = &p->nodes[i];
        if (node->hash.low != hash.low || node->hash.high != hash.high)
            continue;
        if (node->parent == parent && (parent >= 0 || node->root == root) &&
            memcmp(tokens_of(b, i), tokens, (size_t)b->config.block_tokens * sizeof *tokens) == 0)
            return i;
    }
    return -1;
}

int32_t cache_prefix_insert(struct cache_blocks *b, struct cache_root *root, int32_t parent,
                            const infer_token *tokens, struct base_hash128 hash, const int32_t *ids)
{
    struct cache_prefix *p = b->prefix;
    /* There are as many as blocks, unless they have nothing but parts. */
    if (p->free_node < 0 && !cache_prefix_evict(b, 1))
        return -1;
    int32_t i = p->free_node, *bucket = cache_prefix_bucket(p, hash);
    struct cache_node *node = &p->nodes[i];
    p->free_node = node->chain;
    *node = (struct cache_node){
        .hash = hash,
        .parent = parent,
        .state = CACHE_NODE_LIVE,
        .refs = 1,
        .chain = *bucket,
        .older = -1,
        .newer = -1,
    };
    if (parent < 0) {
        node->root = root;
        root->refs++;
    }
    for (int32_t g = 0; g < b->config.n_groups; g++)
        node->ids[g] = cache_group_is_partial(&b->config.groups[g]) ? -1 : ids[g];
    memcpy(tokens_of(b, i), tokens, (size_t)b->config.block_tokens * sizeof *tokens);
    *bucket = i;
    p->n_cached++;
    return i;
}
