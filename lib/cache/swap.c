/* The swap store: its pages, what lies on them, and the way back. */
#include "cache/swap.h"

#include "base/error.h"
#include "base/hash.h"

/* -------------------------------------------------------------------- pages */

/* All or none; a chain. */
int cache_swap_take(struct cache_swap *s, int32_t n, int32_t *first)
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
        s->unwritten[*first] = 0;
    }
    pthread_mutex_unlock(&s->lock);
    return there;
}

void cache_swap_give(struct cache_swap *s, int32_t first, int32_t n)
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

/* ------------------------------------------------------------------- streams */

static int is_state(const struct cache_blocks *b, int32_t g)
{
    return cache_group_is_state(&b->config.groups[g]);
}

/* Of a group: blocks of its first n_tokens. */
int32_t cache_swap_count(const struct cache_blocks *b, int32_t g, int32_t n_tokens)
{
    return is_state(b, g) ? n_tokens > 0 : BASE_DIV_UP(n_tokens, b->config.block_tokens);
}

struct cache_swap_stream cache_swap_stream(int32_t *const *ids, const int32_t *first,
                                           int32_t n_tokens, int32_t page)
{
    return (struct cache_swap_stream){.ids = ids,
                                      .first = first,
                                      .n_tokens = n_tokens,
                                      .place = {.block = INT32_MAX},
                                      .page = page};
}

int cache_swap_seek(const struct cache_blocks *b, const struct cache_swap_stream *t,
                    struct cache_swap_place *p)
{
    const int32_t n_groups = b->config.n_groups;
    if (p->block == INT32_MAX) {
        while (p->group < n_groups && !(is_state(b, p->group) && t->n_tokens))
            p->group++;
        if (p->group < n_groups)
            return 1;
        *p = (struct cache_swap_place){.block =
                                           BASE_DIV_UP(t->n_tokens, b->config.block_tokens) - 1};
    }
    for (; p->block >= 0; p->block--, p->group = 0)
        for (; p->group < n_groups; p->group++)
            if (!is_state(b, p->group) && p->block >= t->first[p->group])
                return 1;
    return 0;
}

uint8_t *cache_swap_data(const struct cache_swap *s, const struct cache_swap_piece *piece,
                         int32_t i, int32_t page)
{
    return piece->data ? piece->data + (size_t)i * CACHE_SWAP_PAGE
                       : s->memory + (size_t)page * CACHE_SWAP_PAGE;
}

void cache_swap_fill(struct cache_swap *s, struct cache_swap_piece *piece,
                     struct cache_swap_stream *t)
{
    struct cache_blocks *b = s->blocks;
    const size_t room = (size_t)s->piece_pages * CACHE_SWAP_PAGE;
    struct cache_swap_place *p = &t->place;
    piece->page = t->page;
    piece->bytes = 0;
    piece->n_ranges = 0;
    piece->needed = 0;
    while (piece->bytes < room && cache_swap_seek(b, t, p)) {
        const int state = is_state(b, p->group);
        const size_t size = b->block_bytes[p->group], at = piece->bytes % CACHE_SWAP_PAGE;
        const int32_t i = (int32_t)(piece->bytes / CACHE_SWAP_PAGE);
        const size_t n = BASE_MIN(size - p->at, CACHE_SWAP_PAGE - at);
        if (state || p->block >= t->n_found / b->config.block_tokens) {
            size_t id = (size_t)t->ids[p->group][state ? 0 : p->block];
            piece->ranges[piece->n_ranges++] =
                (struct device_range){b->base[p->group] + id * size + p->at,
                                      cache_swap_data(s, piece, i, t->page) + at, n};
            piece->needed |= (uint64_t)1 << i;
        }
        piece->bytes += n;
        p->at += n;
        if (p->at == size)
            *p = (struct cache_swap_place){p->group + 1, p->block, 0};
        if (at + n == CACHE_SWAP_PAGE)
            t->page = s->next[t->page];
    }
}

/* Brings the pages of a piece that are needed, and looks whether they are what was written. */
static infer_status load_piece(struct cache_swap *s, const struct cache_swap_piece *piece)
{
    infer_status st = INFER_OK;
    int32_t page = piece->page;
    for (int32_t i = 0; (size_t)i * CACHE_SWAP_PAGE < piece->bytes && st == INFER_OK; i++) {
        const size_t size = BASE_MIN(piece->bytes - (size_t)i * CACHE_SWAP_PAGE, CACHE_SWAP_PAGE);
        uint8_t *data = cache_swap_data(s, piece, i, page);
        if (piece->needed >> i & 1) {
            if (s->file.path)
                st = base_output_read(&s->file, (uint64_t)page * CACHE_SWAP_PAGE, data, size);
            if (st == INFER_OK && base_hash64(data, size, (uint64_t)page) != s->sums[page])
                st = base_error(INFER_ERR_FORMAT, "a page of the swap store is damaged");
        }
        page = s->next[page];
    }
    return st;
}

static infer_status read_all(struct cache_swap *s, struct cache_table *table, int32_t n_found,
                             const struct cache_swapped *w)
{
    struct cache_swap_stream t = cache_swap_stream(table->ids, w->first, w->n_tokens, w->page);
    infer_status st = INFER_OK;
    t.n_found = n_found;
    pthread_mutex_lock(&s->reading);
    do {
        cache_swap_fill(s, &s->in, &t);
        st = load_piece(s, &s->in);
        if (st == INFER_OK)
            st = device_buffer_put(&s->blocks->memory, s->in.ranges, s->in.n_ranges);
    } while (st == INFER_OK && s->in.bytes);
    pthread_mutex_unlock(&s->reading);
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
        if (node->state != CACHE_NODE_LIVE || node->refs - node->leaving < min_refs)
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
        int32_t n = cache_swap_count(b, g, n_tokens);
        if (!cache_group_is_state(&b->config.groups[g]))
            out->first[g] = BASE_MIN(BASE_MAX(out->n_shared, table->n_passed[g]), n);
        out->bytes += (uint64_t)(n - out->first[g]) * b->block_bytes[g];
    }
}

/* Until what is being written is not this chain; -1: until nothing is. */
static void wait_for(struct cache_swap *s, int32_t page)
{
    pthread_mutex_lock(&s->lock);
    while (s->busy && (page < 0 || s->job.page == page))
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void cache_swap_settle(struct cache_swap *s)
{
    if (s)
        wait_for(s, -1);
}

uint64_t cache_swap_in_bytes(const struct cache_swap *s, int32_t n_found,
                             const struct cache_swapped *w)
{
    const struct cache_blocks *b = s->blocks;
    uint64_t bytes = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int is_state = cache_group_is_state(&b->config.groups[g]);
        int32_t first = BASE_MAX(w->first[g], is_state ? 0 : n_found / b->config.block_tokens);
        bytes += (uint64_t)(cache_swap_count(b, g, w->n_tokens) - first) * b->block_bytes[g];
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
    wait_for(s, from->page);
    if (s->unwritten[from->page])
        return base_error(INFER_ERR_IO, "what was to be swapped in could not be written");
    cache_table_copy(table); /* of a state that is brought now */
    infer_status st = read_all(s, table, n_found, from);
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
    if (w->n_pages) {
        wait_for(s, w->page);
        cache_swap_give(s, w->page, w->n_pages);
    }
    *w = (struct cache_swapped){0};
}

/* --------------------------------------------------------------------- life */

/* Room for the ranges of a piece, and for its pages where they are in a file. */
static int make_piece(struct cache_swap *s, struct cache_swap_piece *piece, size_t n_ranges,
                      uint8_t *data)
{
    piece->ranges = base_new_raw(&s->alloc, n_ranges, sizeof *piece->ranges);
    piece->data = data;
    return !!piece->ranges;
}

static int make_pieces(struct cache_swap *s, int in_file)
{
    const struct cache_blocks *b = s->blocks;
    const size_t bytes = (size_t)s->piece_pages * CACHE_SWAP_PAGE;
    size_t least = bytes;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        least = BASE_MIN(least, b->block_bytes[g]);
    const size_t n = (size_t)s->piece_pages + bytes / least + 2; /* cut by pages and by blocks */
    return make_piece(s, &s->in, n, in_file ? s->memory : NULL) &&
           make_piece(s, &s->out[0], n, in_file ? s->memory + bytes : NULL) &&
           make_piece(s, &s->out[1], n, in_file ? s->memory + 2 * bytes : NULL);
}

static infer_status make(struct cache_swap *s, const struct cache_swap_config *config)
{
    const uint64_t n = BASE_MIN(config->bytes / CACHE_SWAP_PAGE, (uint64_t)INT32_MAX);
    const size_t piece = s->blocks->device->ops->piece_bytes;
    if (!n)
        return base_error(INFER_ERR_LIMIT, "swap_bytes is %llu, expected at least %zu",
                          (unsigned long long)config->bytes, CACHE_SWAP_PAGE);
    s->n_pages = (int32_t)n;
    s->n_free = s->n_pages;
    s->piece_pages = (int32_t)BASE_MIN(BASE_MAX(piece / CACHE_SWAP_PAGE, (size_t)1), (size_t)64);
    s->next = base_new_raw(&s->alloc, (size_t)n, sizeof *s->next);
    s->sums = base_new_raw(&s->alloc, (size_t)n, sizeof *s->sums);
    s->unwritten = base_new(&s->alloc, (size_t)n, sizeof *s->unwritten);
    s->memory = base_new_raw(&s->alloc, config->folder ? 3 * (size_t)s->piece_pages : (size_t)n,
                             CACHE_SWAP_PAGE);
    if (!s->next || !s->sums || !s->unwritten || !s->memory || !make_pieces(s, !!config->folder))
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < s->n_pages; i++) /* page 0 is taken first */
        s->next[i] = i + 1 < s->n_pages ? i + 1 : -1;
    infer_status st = INFER_OK;
    if (config->folder)
        st = base_output_open_unnamed(&s->file, &s->alloc, config->folder);
    return st == INFER_OK && (config->thread || piece) ? cache_swap_thread(s) : st;
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
    pthread_mutex_init(&s->reading, NULL);
    pthread_cond_init(&s->changed, NULL);
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
    if (s->has_thread) {
        pthread_mutex_lock(&s->lock);
        s->closing = 1;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    base_output_close(&s->file);
    base_free(&alloc, s->in.ranges);
    base_free(&alloc, s->out[0].ranges);
    base_free(&alloc, s->out[1].ranges);
    base_free(&alloc, s->unwritten);
    base_free(&alloc, s->memory);
    base_free(&alloc, s->sums);
    base_free(&alloc, s->next);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->reading);
    pthread_mutex_destroy(&s->lock);
    base_free(&alloc, s);
}
