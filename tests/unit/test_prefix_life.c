/* A long random life of the prefix cache: begin, compute, fork, preempt, pin, clear, end, with all
 * structures walked after each act and all content compared. */
#include "prefix_sequence.h"

#define N_SEQUENCES 12
#define N_ACTS      30000

struct life {
    struct cache_blocks *b;
    struct sequence s[N_SEQUENCES];
    const struct cache_table *tables[N_SEQUENCES];
    int open[N_SEQUENCES];
    uint64_t random;
    int32_t n_blocks, n_now, kinds;
    int64_t n_resized, n_kept, n_busy;
    int64_t n_found, n_forks, n_refused, n_leaps, n_short;
};

static int32_t draw(struct life *l, int32_t n)
{
    return (int32_t)(test_rand(&l->random) % (uint32_t)n);
}

static void check_life(struct life *l)
{
    size_t n = 0;
    for (int32_t i = 0; i < N_SEQUENCES; i++)
        if (l->open[i])
            l->tables[n++] = &l->s[i].table;
    cache_check(l->b, l->tables, n);
}

/* As the engine: blocks of windows for a part of what is known, the rest when it is their turn. */
static int begin_near(struct life *l, struct sequence *s)
{
    s->n_computed = cache_table_find(&s->table, s, get_tokens, s->n - 1);
    if (draw(l, 2))
        cache_table_copy(&s->table);
    int32_t near = s->n_computed + 1 + draw(l, s->n - s->n_computed);
    if (cache_table_plan(&s->table, s->n, near) == INFER_OK)
        return 1;
    cache_table_clear(&s->table);
    s->n_computed = 0;
    return 0;
}

static void start(struct life *l, int32_t i)
{
    struct sequence *s = &l->s[i];
    open_sequence(s, l->b, draw(l, N_KEYS));
    l->open[i] = 1;
    int32_t length = 1 + draw(l, 80);
    write_tokens(s, length, draw(l, 3)); /* a text that others have too */
    for (int32_t n = draw(l, 20); n > 0; n--)
        s->tokens[s->n++] = draw(l, 2);
    if (!begin_near(l, s)) {
        l->n_refused++;
        return;
    }
    l->n_found += s->n_computed;
    cache_table_copy(&s->table);
    check_content(s);
}

static void advance(struct life *l, struct sequence *s)
{
    if (!s->table.n_blocks && !begin_near(l, s)) { /* it was preempted */
        l->n_refused++;
        return;
    }
    cache_table_copy(&s->table);
    check_content(s);
    if (draw(l, 4))
        cache_table_slide(&s->table, s->n_computed);
    if (s->n_computed < s->n) {
        int32_t n = 1 + draw(l, s->n - s->n_computed);
        int32_t end = cache_table_reach(&s->table, s->n_computed + n);
        l->n_short += end < s->n_computed + n;
        if (end > s->n_computed)
            compute(s, end - s->n_computed);
    } else if (s->n < 200) {
        s->tokens[s->n++] = draw(l, 2);
        if (cache_table_reserve(&s->table, s->n) == INFER_OK) {
            compute(s, 1);
            return;
        }
        cache_table_clear(&s->table);
        s->n_computed = 0;
        l->n_refused++;
    }
}

static void fork_one(struct life *l, int32_t from, int32_t i)
{
    struct sequence *s = &l->s[i], *a = &l->s[from];
    if (a->n_computed < 2)
        return;
    int32_t n = l->b->config.n_groups > 2 ? a->n_computed : 1 + draw(l, a->n_computed - 1);
    if (!cache_table_reaches(&a->table, n))
        return;
    if (l->b->config.n_groups > 2)
        cache_table_copy(&a->table); /* its state stands there when it was computed */
    open_sequence(s, l->b, a->tenant);
    memcpy(s->tokens, a->tokens, sizeof s->tokens);
    s->n = n + 1;
    l->open[i] = 1;
    l->n_forks++;
    if (cache_table_fork(&s->table, &a->table, n) != INFER_OK) {
        l->n_refused++;
        return;
    }
    s->n_computed = n;
    if (cache_table_reserve(&s->table, s->n) != INFER_OK) {
        cache_table_clear(&s->table);
        s->n_computed = 0;
    } else if (draw(l, 4)) { /* else it is let go, or goes on, with copies still owed */
        cache_table_copy(&s->table);
        check_content(s);
    } else if (draw(l, 2)) {
        cache_table_clear(&s->table);
        s->n_computed = 0;
    } else {
        compute(s, 1);
    }
}

/* As a snapshot is restored: what is not behind windows is put there. */
static void restore(struct life *l, int32_t i)
{
    struct sequence *s = &l->s[i];
    int32_t n;
    open_sequence(s, l->b, draw(l, N_KEYS));
    l->open[i] = 1;
    n = 2 + draw(l, 90);
    write_tokens(s, n, draw(l, 3));
    n = 1 + draw(l, s->n - 1);
    if (draw(l, 2))
        s->n_computed = cache_table_find(&s->table, s, get_tokens, n);
    if (s->n_computed >= n)
        return;
    if (cache_table_leap(&s->table, n) != INFER_OK ||
        cache_table_plan(&s->table, s->n, n + 1) != INFER_OK) {
        cache_table_clear(&s->table);
        s->n_computed = 0;
        l->n_refused++;
        return;
    }
    l->n_leaps++;
    compute(s, n - s->n_computed);
    check_content(s);
}

/* All give way, and the cache gets another size. Pins may be in the way. */
static void resize(struct life *l)
{
    int32_t n = l->n_blocks * (1 + draw(l, 4)) / 2;
    for (int32_t i = 0; i < N_SEQUENCES; i++)
        if (l->open[i]) {
            cache_table_clear(&l->s[i].table);
            l->s[i].n_computed = 0;
        }
    const struct cache_config c = config_of(n, l->kinds, 1);
    const int32_t n_kept = l->b->prefix ? (int32_t)l->b->prefix->n_cached : 0;
    infer_status st = cache_blocks_resize(l->b, c.budget_bytes);
    if (st != INFER_OK) {
        assert_int_equal(st, INFER_ERR_BUSY);
        assert_true(l->b->n_used > 0);
        l->n_busy++;
        return;
    }
    assert_int_equal(l->b->config.budget_bytes, c.budget_bytes);
    l->n_resized++;
    l->n_kept += (int32_t)l->b->prefix->n_cached;
    if (n >= l->n_now) /* nothing has to go */
        assert_int_equal(l->b->prefix->n_cached, n_kept);
    l->n_now = n;
}

static void act(struct life *l)
{
    int32_t i = draw(l, N_SEQUENCES), what = draw(l, 100);
    struct sequence *s = &l->s[i];
    if (!l->open[i]) {
        int32_t from = draw(l, N_SEQUENCES);
        if (what < 40 && l->open[from])
            fork_one(l, from, i);
        else if (what < 50)
            restore(l, i);
        else
            start(l, i);
    } else if (what < 75) {
        advance(l, s);
    } else if (what < 80) {
        cache_table_clear(&s->table); /* a preemption */
        s->n_computed = 0;
    } else if (what < 84) {
        cache_prefix_pin(l->b, &keys[s->tenant], s->tokens, (size_t)draw(l, s->n + 1));
    } else if (what < 90) {
        cache_prefix_unpin(l->b, &keys[s->tenant], s->tokens, (size_t)draw(l, s->n + 1));
    } else if (what < 91) {
        if (draw(l, 2))
            cache_prefix_clear(l->b);
        else
            resize(l);
    } else {
        close_sequence(s);
        l->open[i] = 0;
    }
}

static void live(uint64_t seed, int32_t n_blocks, int kinds, int weak)
{
    static struct life l;
    l = (struct life){.b = open_kinds(n_blocks, kinds),
                      .random = seed,
                      .n_blocks = n_blocks,
                      .n_now = n_blocks,
                      .kinds = kinds};
    if (weak)
        l.b->prefix->hash = weak_hash;
    for (int32_t i = 0; i < N_ACTS; i++) {
        act(&l);
        check_life(&l);
    }
    for (int32_t i = 0; i < N_SEQUENCES; i++)
        if (l.open[i])
            close_sequence(&l.s[i]);
    memset(l.open, 0, sizeof l.open);
    check_life(&l);
    print_message(
        "%d blocks, kinds %d: %d tokens found, %d forks, %d leaps, %d evicted, %d refused, "
        "%d cut short; resized %d times with %d nodes, %d times not\n",
        n_blocks, kinds, (int)l.n_found, (int)l.n_forks, (int)l.n_leaps,
        (int)l.b->prefix->n_evicted, (int)l.n_refused, (int)l.n_short, (int)l.n_resized,
        (int)l.n_kept, (int)l.n_busy);
    assert_true(l.n_found > 100 && l.n_forks > 100 && l.n_leaps > 50 && l.n_refused > 20);
    assert_true(l.b->prefix->n_evicted > 100);
    assert_true(l.n_short > 10 || !(kinds & WINDOW));
    cache_prefix_clear(l.b); /* the pins that are left */
    assert_int_equal(l.b->n_used, 0);
    assert_int_equal(l.b->n_free[0], l.b->n_blocks[0]);
    assert_true(l.n_resized > 50 && l.n_kept > 50);
    assert_ok(cache_blocks_resize(l.b, 0));
    assert_int_equal(l.b->memory.bytes + l.b->prefix->n_cached, 0);
    cache_check(l.b, NULL, 0);
    assert_ok(cache_blocks_resize(l.b, 1 << 20));
    cache_check(l.b, NULL, 0);
    cache_blocks_destroy(&l.b);
}

static void test_random_life(void **state)
{
    (void)state;
    live(1, 8, PLAIN, 0);
    live(2, 24, PLAIN, 0);
    live(3, 40, PLAIN, 0);
    live(4, 24, PLAIN, 1);
    live(5, 24, PLAIN | WINDOW, 0);
    live(6, 40, PLAIN | WINDOW, 1);
    live(7, 24, WINDOW, 0); /* windows alone */
    live(8, 40, PLAIN | STATE, 0);
    live(9, 40, PLAIN | WINDOW | STATE, 0);
    live(10, 40, WINDOW | STATE, 0);
    live(11, 40, PLAIN | STATE | SOURCE, 0);
    live(12, 24, WINDOW | STATE | SOURCE, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_life),
    };
    return cmocka_run_group_tests_name("prefix_life", tests, open_device, close_device);
}
