/* Exact search: rows are cut among the threads, each keeps the best of its own. */
#include "vector/flat_bytes.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define BLOCK VECTOR_BLOCK
#define GROUP_BYTES                                                                                \
    (16 << 20)              /* of what all threads keep for queries that are searched together     \
                             */
#define PART_WORK (1 << 19) /* elements compared below which a thread more does not pay */

struct search {
    const struct vector_view *view;
    const struct vector_flat *flat;
    struct flat_group group;
    struct vector_best *best; /* n of thread 0, n of thread 1 ... */
    uint8_t *room;            /* room_bytes a thread; for searches by bytes */
    size_t room_bytes;
    int64_t *n_compared; /* a thread */
    int32_t n_rows;      /* that exist */
    int32_t by_bytes;
};

/* ------------------------------------------------------------------- rows */

static uint64_t alive_bits(const struct search *s, int32_t word)
{
    const struct vector_flat *flat = s->flat;
    const int32_t rest = s->n_rows - word * BLOCK;
    uint64_t bits = rest >= BLOCK ? ~(uint64_t)0 : ((uint64_t)1 << rest) - 1;

    if (flat->allowed.bits) {
        const int32_t covered = flat->allowed.n - word * BLOCK;

        if (covered <= 0) {
            return 0;
        }
        bits &= flat->allowed.bits[word];
        bits &= covered >= BLOCK ? ~(uint64_t)0 : ((uint64_t)1 << covered) - 1;
    }
    if (flat->dead) {
        bits &= ~atomic_load_explicit(&flat->dead[word], memory_order_relaxed);
    }
    return bits;
}

static int32_t is_alive(const struct search *s, int32_t row)
{
    const _Atomic uint64_t *dead = s->flat->dead;

    return row >= 0 && row < s->n_rows &&
           !(dead && atomic_load_explicit(&dead[row / 64], memory_order_relaxed) >> row % 64 & 1);
}

/* Rows of block number `at`, of the list or by bits; how many of BLOCK. */
static int32_t block_rows(const struct search *s, int32_t at, int32_t *rows)
{
    int32_t n = 0;

    if (s->flat->rows) {
        const int32_t end = BASE_MIN(s->flat->n_list - at * BLOCK, BLOCK);

        for (int32_t i = 0; i < end; i++) {
            const int32_t row = s->flat->rows[at * BLOCK + i];

            rows[n] = row;
            n += is_alive(s, row);
        }
        return n;
    }
    for (uint64_t bits = alive_bits(s, at); bits; bits &= bits - 1) {
        rows[n++] = at * BLOCK + __builtin_ctzll(bits);
    }
    return n;
}

/* ---------------------------------------------------------------- threads */

static void compare_kept(const struct search *s, struct vector_best *best, const int32_t *rows,
                         int32_t n)
{
    struct vector_block block;
    float scores[BLOCK];

    vector_block_set(&block, s->view, rows, n);
    for (int32_t q = 0; q < s->group.n; q++) {
        float least;

        vector_block_score(&block, s->view, &s->group.queries[q], scores);
        least = vector_best_least(&best[q]);
        for (int32_t i = 0; i < n; i++) {
            if (scores[i] >= least) {
                vector_best_offer(&best[q], scores[i], rows[i]);
                least = vector_best_least(&best[q]);
            }
        }
    }
}

/* Blocks begin .. end - 1. Rows are put together as the kernels like them, and it is known which
 * come next: both matter where few of a block are wanted. */
static void search_part(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct search *s = arg;
    struct vector_best *best = s->best + (size_t)thread * (size_t)s->group.n;
    int32_t rows[3 * BLOCK], n = 0, at = begin, step = BLOCK;
    struct flat_bytes bytes;

    if (s->by_bytes) {
        flat_bytes_begin(&bytes, s->view, &s->group, best,
                         s->room + (size_t)thread * s->room_bytes);
        step = bytes.block;
    }
    for (;;) {
        int32_t now;

        while (at < end && n < 2 * step) {
            n += block_rows(s, at++, rows + n);
        }
        if (n == 0) {
            return;
        }
        now = BASE_MIN(n, step);
        n -= now;
        if (s->by_bytes) {
            flat_bytes_compare(&bytes, rows, now, n);
        } else {
            compare_kept(s, best, rows, now);
        }
        s->n_compared[thread] += now;
        memmove(rows, rows + now, (size_t)n * sizeof(*rows));
    }
}

/* -------------------------------------------------------- what it takes */

/* One allocation in pieces. */
struct pieces {
    uint8_t *base;
    size_t used;
};

static void *piece(struct pieces *p, size_t n, size_t size)
{
    void *at = p->base ? p->base + p->used : NULL;

    p->used += BASE_ALIGN_UP(n * size, (size_t)64);
    return at;
}

static int32_t k_of(const struct search *s, const struct vector_flat_query *query)
{
    const int32_t most = s->flat->rows ? s->flat->n_list : s->n_rows;

    return BASE_MIN(BASE_MAX(query->k, 0), BASE_MAX(most, 0));
}

/* Lays out what the group takes from p; with a base that is NULL it is only measured. */
static void lay_out(struct search *s, struct pieces *p, const struct vector_flat_query *queries,
                    int32_t n, int32_t n_threads)
{
    const size_t query_bytes = vector_query_bytes(&s->view->shape);
    const size_t count = (size_t)n;
    struct vector_query *ready = piece(p, count, sizeof(*ready));
    struct vector_best *best = piece(p, count * (size_t)n_threads, sizeof(*best));
    uint8_t *values = piece(p, count, query_bytes);

    s->n_compared = piece(p, (size_t)n_threads, sizeof(*s->n_compared));
    s->group.n = n;
    s->group.queries = ready;
    s->best = best;
    for (int32_t t = 0; t < n_threads; t++) {
        for (int32_t q = 0; q < n; q++) {
            const int32_t k = k_of(s, &queries[q]);
            struct vector_scored *list = piece(p, (size_t)k, sizeof(*list));

            if (p->base) {
                best[(size_t)t * count + (size_t)q] = (struct vector_best){list, k, 0};
            }
        }
    }
    if (s->by_bytes) {
        s->group.panels = piece(p, flat_panels(n), kern_vector_panel_bytes(s->view->shape.dims));
        s->group.bounds = piece(p, count, sizeof(*s->group.bounds));
        s->room_bytes = flat_bytes_room(s->view, n);
        s->room = piece(p, (size_t)n_threads, s->room_bytes);
    }
    if (p->base) {
        memset(s->n_compared, 0, (size_t)n_threads * sizeof(*s->n_compared));
        for (int32_t q = 0; q < n; q++) {
            vector_query_set(&ready[q], values + (size_t)q * query_bytes, s->view,
                             queries[q].query);
        }
    }
}

/* How many of n queries are searched together: as many as pay, and as keep little. */
static int32_t group_size(struct search *s, const struct vector_flat_query *queries, int32_t n,
                          int32_t n_threads)
{
    const int32_t most = s->by_bytes ? flat_bytes_most(s->view) : 64;
    int32_t size = BASE_DIV_UP(n, BASE_DIV_UP(n, most)); /* groups of one size */

    while (size > 1) {
        struct pieces p = {NULL, 0};

        lay_out(s, &p, queries, size, n_threads);
        if (p.used <= (size_t)GROUP_BYTES * (size_t)n_threads) {
            break;
        }
        size /= 2;
    }
    return size;
}

static void finish(const struct search *s, struct vector_flat_query *queries, int32_t n_threads)
{
    const int32_t n = s->group.n;
    int64_t compared = 0;

    for (int32_t t = 0; t < n_threads; t++) {
        compared += s->n_compared[t];
    }
    for (int32_t q = 0; q < n; q++) {
        struct vector_best *best = &s->best[q];

        for (int32_t t = 1; t < n_threads; t++) {
            const struct vector_best *other = &s->best[(size_t)t * (size_t)n + (size_t)q];

            for (int32_t i = 0; i < other->n; i++) {
                vector_best_offer(best, other->list[i].score, other->list[i].row);
            }
        }
        vector_best_sort(best);
        for (int32_t i = 0; i < best->n; i++) {
            const float score = best->list[i].score;

            queries[q].found[i] = (struct vector_found){
                best->list[i].row, score, vector_distance(s->view->shape.metric, score)};
        }
        queries[q].n_found = best->n;
        queries[q].n_compared = compared;
    }
}

static infer_status search_group(struct search *s, struct vector_flat_query *queries, int32_t n,
                                 int32_t n_threads)
{
    const int32_t rows = s->flat->rows ? s->flat->n_list : s->n_rows;
    const int32_t n_blocks = rows > 0 ? (rows - 1) / BLOCK + 1 : 0;
    const int64_t work = (int64_t)BLOCK * s->view->shape.dims * n;
    struct pieces p = {NULL, 0};
    uint8_t *room;
    size_t bytes;

    lay_out(s, &p, queries, n, n_threads);
    bytes = p.used;
    room = base_new_pages(s->flat->alloc, bytes);
    if (!room) {
        return INFER_ERR_NO_MEMORY;
    }
    p = (struct pieces){room, 0};
    lay_out(s, &p, queries, n, n_threads);
    if (s->by_bytes) {
        flat_group_pack(s->view, &s->group, s->room);
    }
    if (s->flat->pool) {
        base_pool_run(s->flat->pool, search_part, s, n_blocks,
                      (int32_t)BASE_MAX(PART_WORK / work, 1));
    } else {
        search_part(s, 0, n_blocks, 0);
    }
    finish(s, queries, n_threads);
    base_free_pages(s->flat->alloc, room, bytes);
    return INFER_OK;
}

infer_status vector_flat_search(const struct vector_view *view, const struct vector_flat *flat,
                                struct vector_flat_query *queries, int32_t n)
{
    const int32_t n_threads = flat->pool ? base_pool_threads(flat->pool) : 1;
    struct search s = {.view = view, .flat = flat, .n_rows = BASE_MIN(flat->n_rows, view->n)};

    for (int32_t done = 0; done < n;) {
        infer_status status;
        int32_t size;

        s.by_bytes = flat_bytes_pays(view, n - done);
        size = group_size(&s, queries + done, n - done, n_threads);
        status = search_group(&s, queries + done, size, n_threads);
        if (status) {
            return status;
        }
        done += size;
    }
    return INFER_OK;
}
