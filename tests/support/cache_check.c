/* The checker of KV caches. It counts from the tables up and calls nothing of the library. */
#include "support/cache_check.h"

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg(__VA_ARGS__);                                                                 \
    } while (0)

struct walk {
    const struct cache_blocks *b;
    const struct cache_prefix *p;
    const struct cache_table *const *tables;
    size_t n_tables;
    int32_t *owners[CACHE_GROUPS_MAX]; /* holders of each block but of nodes, parts included */
    int32_t *refs;                     /* of each node */
    int32_t *children;
    int32_t n_parts[CACHE_GROUPS_MAX], n_resting[CACHE_GROUPS_MAX]; /* of nodes; held by nobody */
    int32_t n_used;
};

static int is_state(const struct walk *w, int32_t g)
{
    return cache_group_is_state(&w->b->config.groups[g]);
}

static int is_partial(const struct walk *w, int32_t g)
{
    return cache_group_is_partial(&w->b->config.groups[g]);
}

static void count_table(struct walk *w, const struct cache_table *t)
{
    CHECK(t->n_nodes <= t->n_blocks, "%d nodes among %d blocks", t->n_nodes, t->n_blocks);
    for (int32_t k = 0; k < t->n_nodes; k++) {
        const struct cache_node *node = &w->p->nodes[t->nodes[k]];
        CHECK(node->state != CACHE_NODE_FREE, "a table holds the free node %d", t->nodes[k]);
        CHECK(node->parent == (k ? t->nodes[k - 1] : -1), "node %d is not block %d's", t->nodes[k],
              k);
        CHECK(k || node->root == t->root, "a table holds nodes of another root");
        w->refs[t->nodes[k]]++;
    }
    CHECK(t->n_reached <= t->n_blocks, "%d reached of %d", t->n_reached, t->n_blocks);
    for (int32_t g = 0; g < w->b->config.n_groups; g++) {
        int windowed = w->b->config.groups[g].window > 0;
        int32_t n = is_state(w, g) ? BASE_MIN(t->n_blocks, 1)
                    : windowed     ? t->n_reached
                                   : t->n_blocks;
        CHECK(!windowed || t->n_nodes <= n, "%d nodes, of which %d are reached", t->n_nodes, n);
        for (int32_t k = t->n_passed[g]; k < n; k++) {
            int of_node = !is_state(w, g) && k < t->n_nodes;
            CHECK(!of_node || t->ids[g][k] == w->p->nodes[t->nodes[k]].ids[g],
                  "block %d of a table is not its node's", k);
            if (windowed || !of_node)
                w->owners[g][t->ids[g][k]]++;
        }
        if (t->has_copies && t->copies[g] >= 0 && (is_partial(w, g) || t->copied_node < 0))
            w->owners[g][t->copies[g]]++;
    }
    if (t->has_copies && t->copied_node >= 0)
        w->refs[t->copied_node]++;
}

/* A pin holds its node, the nodes above it, and what is seen from behind it. */
static void count_pin(struct walk *w, int32_t node)
{
    const int32_t step = w->b->config.block_tokens;
    int32_t depth = 0;
    for (int32_t at = node; at >= 0; at = w->p->nodes[at].parent)
        depth++;
    for (int32_t at = node, k = depth; k-- > 0; at = w->p->nodes[at].parent) {
        w->refs[at]++;
        for (int32_t g = 0; g < w->b->config.n_groups; g++) {
            int32_t window = w->b->config.groups[g].window;
            int seen = is_state(w, g) ? k == depth - 1
                                      : window && (k + 1) * step - 1 >= depth * step - window + 1;
            if (seen)
                w->owners[g][w->p->nodes[at].ids[g]]++;
        }
    }
}

static void count_pins(struct walk *w)
{
    for (int32_t i = 0; i < w->p->n_nodes; i++)
        if (w->p->nodes[i].state != CACHE_NODE_FREE && w->p->nodes[i].pins > 0)
            count_pin(w, i);
}

static int in_bucket(const struct cache_prefix *p, int32_t i)
{
    int found = 0;
    int32_t at = p->buckets[p->nodes[i].hash.low & (uint64_t)(p->n_buckets - 1)];
    for (; at >= 0; at = p->nodes[at].chain)
        found += at == i;
    return found;
}

static const infer_token *tokens_of(const struct walk *w, int32_t i)
{
    return w->p->tokens + i * w->b->config.block_tokens;
}

static void check_hash(const struct walk *w, int32_t i)
{
    const struct cache_node *node = &w->p->nodes[i];
    struct {
        struct base_hash128 parent;
        infer_token tokens[CACHE_BLOCK_TOKENS_MAX];
    } link;
    size_t n = (size_t)w->b->config.block_tokens * sizeof(infer_token);
    link.parent = node->parent < 0 ? node->root->hash : w->p->nodes[node->parent].hash;
    memcpy(link.tokens, tokens_of(w, i), n);
    struct base_hash128 hash = w->p->hash(&link, sizeof link.parent + n, w->p->secret);
    CHECK(hash.low == node->hash.low && hash.high == node->hash.high, "node %d has a wrong hash",
          i);
}

/* No two live nodes say the same. */
static void check_unique(const struct walk *w, int32_t i)
{
    const struct cache_prefix *p = w->p;
    size_t n = (size_t)w->b->config.block_tokens * sizeof(infer_token);
    int32_t at = p->nodes[i].chain;
    for (; at >= 0; at = p->nodes[at].chain)
        CHECK(p->nodes[at].parent != p->nodes[i].parent || p->nodes[at].root != p->nodes[i].root ||
                  memcmp(tokens_of(w, at), tokens_of(w, i), n) != 0,
              "nodes %d and %d are the same", i, at);
}

static void check_node(struct walk *w, int32_t i)
{
    const struct cache_node *node = &w->p->nodes[i];
    CHECK(node->refs == w->refs[i], "node %d is held %d times and counts %d", i, w->refs[i],
          node->refs);
    CHECK((node->parent < 0) == (node->root != NULL), "node %d has a wrong root", i);
    if (node->parent >= 0) {
        const struct cache_node *parent = &w->p->nodes[node->parent];
        CHECK(parent->state == node->state, "node %d and its parent differ in state", i);
        CHECK(parent->refs >= node->refs, "node %d is held and its parent is not", i);
        w->children[node->parent]++;
    }
    if (node->state == CACHE_NODE_LIVE) {
        CHECK(in_bucket(w->p, i) == 1, "node %d is not in the index once", i);
        check_hash(w, i);
        check_unique(w, i);
    } else {
        CHECK(node->refs > 0, "node %d is forgotten by all and still there", i);
    }
    for (int32_t g = 0; g < w->b->config.n_groups; g++)
        if (!is_partial(w, g)) {
            CHECK(!w->owners[g][node->ids[g]], "block %d of node %d has another owner",
                  node->ids[g], i);
            CHECK(w->b->refs[g][node->ids[g]] == 1, "block %d of node %d counts %d", node->ids[g],
                  i, w->b->refs[g][node->ids[g]]);
            w->owners[g][node->ids[g]] = -1;
            w->n_used += node->refs > 0;
        } else if (node->ids[g] >= 0) {
            CHECK(w->b->parts[g].owner[node->ids[g]] == i, "part %d of node %d is node %d's",
                  node->ids[g], i, w->b->parts[g].owner[node->ids[g]]);
            CHECK(node->refs || !w->owners[g][node->ids[g]] || w->b->config.groups[g].is_source,
                  "a part of node %d is held alone", i);
            w->n_parts[g]++;
            w->n_resting[g] += !w->owners[g][node->ids[g]];
        }
}

/* Parts know their nodes, and those that nobody holds are in the list. */
static void check_parts(const struct walk *w, int32_t g)
{
    const struct cache_parts *p = &w->b->parts[g];
    int32_t n = 0, n_owned = 0, before = -1;
    for (int32_t id = p->oldest; id >= 0; before = id, id = p->newer[id], n++) {
        CHECK(w->b->refs[g][id] == 0, "part %d is held and in the list", id);
        CHECK(p->owner[id] >= 0, "block %d is in the list and no part", id);
        CHECK(p->older[id] == before, "the list of parts is broken at %d", id);
    }
    CHECK(before == p->newest && n == p->n_idle, "the list has %d parts and counts %d", n,
          p->n_idle);
    CHECK(n == w->n_resting[g], "nobody holds %d parts, and %d are in the list", w->n_resting[g],
          n);
    for (int32_t id = 0; id < w->b->n_blocks[g]; id++)
        n_owned += p->owner[id] >= 0;
    CHECK(n_owned == w->n_parts[g], "nodes have %d parts, and %d say so", w->n_parts[g], n_owned);
}

/* Oldest first: a node comes only when all its children have. */
static void check_list(struct walk *w)
{
    int32_t n = 0, before = -1;
    for (int32_t i = w->p->oldest; i >= 0; before = i, i = w->p->nodes[i].newer, n++) {
        CHECK(w->p->nodes[i].refs == 0, "node %d is held and in the list", i);
        CHECK(w->p->nodes[i].older == before, "the list is broken at node %d", i);
        CHECK(w->children[i] == 0, "node %d would go before its children", i);
        if (w->p->nodes[i].parent >= 0)
            w->children[w->p->nodes[i].parent]--;
    }
    CHECK(before == w->p->newest, "the list does not end at its end");
    CHECK(n == w->p->n_idle, "the list has %d nodes and counts %d", n, w->p->n_idle);
}

static void check_roots(const struct walk *w)
{
    size_t n_held = 0, n_refs = 0;
    for (size_t i = 0; i < w->n_tables; i++)
        n_held += w->tables[i]->root != NULL;
    for (int32_t i = 0; i < w->p->n_nodes; i++)
        n_held += w->p->nodes[i].state != CACHE_NODE_FREE && w->p->nodes[i].parent < 0;
    for (int32_t i = 0; i < w->p->n_buckets; i++)
        for (const struct cache_root *root = w->p->roots[i]; root; root = root->next) {
            CHECK(root->refs > 0, "a root that nobody holds is still there");
            n_refs += (size_t)root->refs;
        }
    CHECK(n_held == n_refs, "roots are held %zu times and count %zu", n_held, n_refs);
}

static void check_prefix(struct walk *w)
{
    int32_t n_live = 0, n_free = 0, n_nodes = 0, n_idle = 0;
    count_pins(w);
    for (int32_t i = 0; i < w->p->n_nodes; i++) {
        if (w->p->nodes[i].state == CACHE_NODE_FREE)
            continue;
        check_node(w, i);
        n_nodes++;
        n_live += w->p->nodes[i].state == CACHE_NODE_LIVE;
        n_idle += w->p->nodes[i].refs == 0;
    }
    for (int32_t i = w->p->free_node; i >= 0; i = w->p->nodes[i].chain, n_free++)
        CHECK(w->p->nodes[i].state == CACHE_NODE_FREE, "node %d is in use and free", i);
    CHECK(n_free + n_nodes == w->p->n_nodes, "%d nodes are lost", w->p->n_nodes - n_free - n_nodes);
    CHECK((uint64_t)n_live == w->p->n_cached, "%d nodes are live and %d count", n_live,
          (int)w->p->n_cached);
    CHECK(n_idle == w->p->n_idle, "%d nodes are held by nobody and %d in the list", n_idle,
          w->p->n_idle);
    check_list(w);
    check_roots(w);
}

static void check_blocks(struct walk *w, int32_t g)
{
    const struct cache_blocks *b = w->b;
    for (int32_t i = 0; i < b->n_free[g]; i++) {
        int32_t id = b->free_ids[g][i];
        CHECK(w->owners[g][id] == 0, "block %d of group %d is free and in use", id, g);
        CHECK(b->refs[g][id] == 0, "block %d of group %d is free and counts %d", id, g,
              b->refs[g][id]);
        w->owners[g][id] = -1;
    }
    for (int32_t id = 0; id < b->n_blocks[g]; id++) {
        if (b->parts[g].owner && b->parts[g].owner[id] >= 0 && !w->owners[g][id])
            continue; /* it rests */
        CHECK(w->owners[g][id], "block %d of group %d is lost", id, g);
        if (w->owners[g][id] < 0)
            continue;
        CHECK(b->refs[g][id] == w->owners[g][id], "block %d of group %d is held %d times, not %d",
              id, g, w->owners[g][id], b->refs[g][id]);
        w->n_used++;
    }
}

void cache_check(const struct cache_blocks *b, const struct cache_table *const *tables,
                 size_t n_tables)
{
    struct walk w = {.b = b, .p = b->prefix, .tables = tables, .n_tables = n_tables};
    for (int32_t g = 0; g < b->config.n_groups; g++)
        w.owners[g] = calloc((size_t)b->n_blocks[g] + 1, sizeof **w.owners);
    w.refs = calloc(b->prefix ? (size_t)b->prefix->n_nodes : 1, sizeof *w.refs);
    w.children = calloc(b->prefix ? (size_t)b->prefix->n_nodes : 1, sizeof *w.children);
    for (size_t i = 0; i < n_tables; i++)
        count_table(&w, tables[i]);
    if (b->prefix)
        check_prefix(&w);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        check_blocks(&w, g);
        if (b->parts[g].owner)
            check_parts(&w, g);
    }
    CHECK(w.n_used == b->n_used, "%d blocks are held and %d count", w.n_used, (int)b->n_used);
    for (int32_t g = 0; g < b->config.n_groups; g++)
        free(w.owners[g]);
    free(w.refs);
    free(w.children);
}

/* Bytes of a sequence of n blocks, and of a state where there is one. */
static uint64_t sequence_bytes(const struct cache_blocks *b, int32_t n)
{
    uint64_t bytes = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        const struct cache_group *group = &b->config.groups[g];
        int32_t held = group->window ? BASE_MIN(n, group->window / b->config.block_tokens + 2) : n;
        bytes += b->block_bytes[g] * (uint64_t)(cache_group_is_state(group) ? n > 0 : held);
    }
    return bytes;
}

uint64_t cache_check_budget(const struct cache_blocks *b, int32_t n_blocks)
{
    return 4 * sequence_bytes(b, n_blocks / 4) + sequence_bytes(b, n_blocks % 4);
}

int cache_check_grows(const struct cache_blocks *b)
{
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (!cache_group_is_partial(&b->config.groups[g]))
            return 1;
    return 0;
}
