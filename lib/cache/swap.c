/* Sequences on their way into the swap store and out of it. */
#include "cache/swap.h"

#include "base/error.h"
#include "base/hash.h"

/* -------------------------------------------------------------------- pages */

/* All or none; a chain. */
static int take_pages(struct cache_swap *s, int32_t n, int32_t *first)
{
    pthread_mutex_lock(&s->lock);
    int there = n <= s->n_free;
    if (there) {
        int32_t last = *first = s->free_page;
        for (int32_t i = 1; i < n; i++)
            last = s->next[last];
        s->free_page = s->next[last];
        s->next[last] = -1;
        s->n_free -= n;
    }
    pthread_mutex_unlock(&s->lock);
    return there;
}

static void give_pages(struct cache_swap *s, int32_t first, int32_t n)
{
    int32_t last = first;
    while (s->next[last] >= 0)
        last = s->next[last];
    pthread_mutex_lock(&s->lock);
    s->next[last] = s->free_page;
    s->free_page = first;
    s->n_free += n;
    pthread_mutex_unlock(&s->lock);
}

/* A place in a sequence's stream. Under `moving`. */
struct stream {
    struct cache_swap *swap;
    int32_t page;
    size_t at;      /* in the page */
    uint64_t left;  /* bytes from here to the end */
    int32_t loaded; /* the page's bytes are in memory */
};

static uint8_t *page_data(const struct stream *t)
{
    const struct cache_swap *s = t->swap;
    return s->file.path ? s->memory : s->memory + (size_t)t->page * CACHE_SWAP_PAGE;
}

static uint64_t page_sum(const struct stream *t, size_t size)
{
    return base_hash64(page_data(t), size, (uint64_t)t->page);
}

static void advance(struct stream *t, size_t n)
{
    t->at += n;
    t->left -= n;
    if (t->at < CACHE_SWAP_PAGE)
        return;
    t->page = t->swap->next[t->page];
    t->at = 0;
    t->loaded = 0;
}

static infer_status save_page(const struct stream *t, size_t size)
{
    struct cache_swap *s = t->swap;
    s->sums[t->page] = page_sum(t, size);
    if (!s->file.path)
        return INFER_OK;
    s->file.at = (uint64_t)t->page * CACHE_SWAP_PAGE;
    return base_output_write(&s->file, s->memory, size);
}

static infer_status load_page(struct stream *t)
{
    struct cache_swap *s = t->swap;
    const size_t size = (size_t)BASE_MIN((uint64_t)CACHE_SWAP_PAGE, t->left + t->at);
    infer_status st = INFER_OK;
    if (s->file.path)
        st = base_output_read(&s->file, (uint64_t)t->page * CACHE_SWAP_PAGE, s->memory, size);
    if (st == INFER_OK && page_sum(t, size) != s->sums[t->page])
        st = base_error(INFER_ERR_FORMAT, "a page of the swap store is damaged");
    t->loaded = st == INFER_OK;
    return st;
}

/* ------------------------------------------------------------------- blocks */

/* Moves n bytes at this place of the block memory. */
typedef infer_status move_fn(struct stream *t, struct cache_blocks *b, size_t offset, size_t n);

static infer_status write_piece(struct stream *t, struct cache_blocks *b, size_t offset, size_t n)
{
    infer_status st = device_buffer_download(page_data(t) + t->at, &b->memory, offset, n);
    if (st == INFER_OK && (t->at + n == CACHE_SWAP_PAGE || n == t->left))
        st = save_page(t, t->at + n);
    return st;
}

static infer_status read_piece(struct stream *t, struct cache_blocks *b, size_t offset, size_t n)
{
    infer_status st = t->loaded ? INFER_OK : load_page(t);
    return st == INFER_OK ? device_buffer_upload(&b->memory, offset, page_data(t) + t->at, n) : st;
}

static infer_status skip_piece(struct stream *t, struct cache_blocks *b, size_t offset, size_t n)
{
    (void)t, (void)b, (void)offset, (void)n;
    return INFER_OK;
}

static infer_status move_block(struct stream *t, struct cache_blocks *b, int32_t g, int32_t id,
                               move_fn *move)
{
    size_t offset = b->base[g] + (size_t)id * b->block_bytes[g], left = b->block_bytes[g];
    infer_status st = INFER_OK;
    while (left && st == INFER_OK) {
        size_t n = BASE_MIN(left, CACHE_SWAP_PAGE - t->at);
        st = move(t, b, offset, n);
        advance(t, n);
        offset += n;
        left -= n;
    }
    return st;
}

/* Of a group: blocks of its first n_tokens. */
static int32_t count(const struct cache_blocks *b, int32_t g, int32_t n_tokens)
{
    return cache_group_is_state(&b->config.groups[g])
               ? n_tokens > 0
               : BASE_DIV_UP(n_tokens, b->config.block_tokens);
}

/* The whole stream in its order; blocks that are found are passed over. */
static infer_status move_all(struct cache_swap *s, struct cache_table *table,
                             const struct cache_swapped *w, int32_t n_found, move_fn *move)
{
    struct cache_blocks *b = s->blocks;
    struct stream t = {.swap = s, .page = w->page, .left = w->bytes};
    infer_status st = INFER_OK;
    pthread_mutex_lock(&s->moving);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int is_state = cache_group_is_state(&b->config.groups[g]);
        for (int32_t k = w->first[g]; st == INFER_OK && k < count(b, g, w->n_tokens); k++)
            st = move_block(&t, b, g, table->ids[g][k],
                            !is_state && k < n_found / b->config.block_tokens ? skip_piece : move);
    }
    pthread_mutex_unlock(&s->moving);
    return st;
}

/* ------------------------------------------------------------- out and back */

/* Leading nodes of a table up to n: all of them, or those that others hold too. What was forgotten
 * is not found again. */
static int32_t count_nodes(const struct cache_table *table, int32_t n, int32_t min_refs)
{
    const struct cache_blocks *b = table->blocks;
    int32_t k = 0;
    for (n = BASE_MIN(n, table->n_nodes); k < n; k++) {
        const struct cache_node *node = &b->prefix->nodes[table->nodes[k]];
        if (node->state != CACHE_NODE_LIVE || node->refs < min_refs)
            break;
    }
    return k;
}

void cache_swap_plan(struct cache_swapped *out, const struct cache_table *table, int32_t n_tokens)
{
    struct cache_blocks *b = table->blocks;
    const int32_t full = n_tokens / b->config.block_tokens;
    *out = (struct cache_swapped){.n_tokens = n_tokens, .page = -1};
    pthread_mutex_lock(&b->lock);
    out->n_nodes = count_nodes(table, full, 1);
    if (!cache_has_parts(b)) /* else its beginning may be there, and not what to go on from */
        out->n_shared = count_nodes(table, full, 2);
    pthread_mutex_unlock(&b->lock);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t n = count(b, g, n_tokens);
        if (!cache_group_is_state(&b->config.groups[g]))
            out->first[g] = BASE_MIN(BASE_MAX(out->n_shared, table->n_passed[g]), n);
        out->bytes += (uint64_t)(n - out->first[g]) * b->block_bytes[g];
    }
}

infer_status cache_swap_out(struct cache_swap *s, struct cache_table *table,
                            struct cache_swapped *w)
{
    const uint64_t n = BASE_DIV_UP(w->bytes, (uint64_t)CACHE_SWAP_PAGE);
    if (!n || n > (uint64_t)s->n_pages || !take_pages(s, (int32_t)n, &w->page)) {
        s->n_full += n > 0;
        return INFER_ERR_LIMIT;
    }
    w->n_pages = (int32_t)n;
    cache_table_copy(table);
    infer_status st = move_all(s, table, w, 0, write_piece);
    if (st == INFER_OK) {
        s->n_out++;
        s->out_bytes += w->bytes;
        return INFER_OK;
    }
    s->n_failed++;
    give_pages(s, w->page, w->n_pages);
    w->n_pages = 0;
    return st;
}

uint64_t cache_swap_in_bytes(const struct cache_swap *s, int32_t n_found,
                             const struct cache_swapped *w)
{
    const struct cache_blocks *b = s->blocks;
    uint64_t bytes = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int is_state = cache_group_is_state(&b->config.groups[g]);
        int32_t first = BASE_MAX(w->first[g], is_state ? 0 : n_found / b->config.block_tokens);
        bytes += (uint64_t)(count(b, g, w->n_tokens) - first) * b->block_bytes[g];
    }
    return bytes;
}

infer_status cache_swap_in(struct cache_swap *s, struct cache_table *table, int32_t n_found,
                           const struct cache_swapped *from)
{
    if (n_found / s->blocks->config.block_tokens < from->n_shared) {
        s->n_lost++;
        return INFER_ERR_NOT_FOUND;
    }
    cache_table_copy(table); /* of a state that is brought now */
    infer_status st = move_all(s, table, from, n_found, read_piece);
    if (st == INFER_OK) {
        s->n_in++;
        s->in_bytes += cache_swap_in_bytes(s, n_found, from);
    } else {
        *(st == INFER_ERR_FORMAT ? &s->n_damaged : &s->n_failed) += 1;
    }
    return st;
}

void cache_swap_drop(struct cache_swap *s, struct cache_swapped *w)
{
    if (w->n_pages)
        give_pages(s, w->page, w->n_pages);
    *w = (struct cache_swapped){0};
}

/* --------------------------------------------------------------------- life */

static infer_status make(struct cache_swap *s, const struct cache_swap_config *config)
{
    const uint64_t n = BASE_MIN(config->bytes / CACHE_SWAP_PAGE, (uint64_t)INT32_MAX);
    if (!n)
        return base_error(INFER_ERR_LIMIT, "swap_bytes is %llu, expected at least %zu",
                          (unsigned long long)config->bytes, CACHE_SWAP_PAGE);
    s->n_pages = (int32_t)n;
    s->n_free = s->n_pages;
    s->next = base_new_raw(&s->alloc, (size_t)n, sizeof *s->next);
    s->sums = base_new_raw(&s->alloc, (size_t)n, sizeof *s->sums);
    s->memory = base_new_raw(&s->alloc, config->folder ? 1 : (size_t)n, CACHE_SWAP_PAGE);
    if (!s->next || !s->sums || !s->memory)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < s->n_pages; i++) /* page 0 is taken first */
        s->next[i] = i + 1 < s->n_pages ? i + 1 : -1;
    return config->folder ? base_output_open_unnamed(&s->file, &s->alloc, config->folder)
                          : INFER_OK;
}

infer_status cache_swap_open(struct cache_swap **out, struct cache_blocks *blocks,
                             const struct cache_swap_config *config)
{
    struct cache_swap *s = base_new(&blocks->alloc, 1, sizeof *s);
    if (!s)
        return INFER_ERR_NO_MEMORY;
    s->blocks = blocks;
    s->alloc = blocks->alloc;
    s->file.fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->moving, NULL);
    infer_status st = make(s, config);
    if (st != INFER_OK)
        cache_swap_close(&s);
    else
        *out = s;
    return st;
}

void cache_swap_close(struct cache_swap **swap)
{
    struct cache_swap *s = *swap;
    *swap = NULL;
    if (!s)
        return;
    struct base_alloc alloc = s->alloc;
    base_output_close(&s->file);
    base_free(&alloc, s->memory);
    base_free(&alloc, s->sums);
    base_free(&alloc, s->next);
    pthread_mutex_destroy(&s->moving);
    pthread_mutex_destroy(&s->lock);
    base_free(&alloc, s);
}
