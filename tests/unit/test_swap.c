/* The swap store below the engine: what is written comes back to the last bit or not at all, and
 * pages never get lost; and the choice between moving and computing. */
#include "prefix_sequence.h"

#include "cache/swap.h"
#include "engine/pace.h"
#include "engine/swap_cost.h"
#include "support/test_alloc.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static char folder[256];

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/infer-swap-XXXXXX", tmp ? tmp : "/tmp");
    return !mkdtemp(folder) || open_device(state);
}

static int remove_folder(void **state)
{
    return rmdir(folder) || close_device(state);
}

static int files(void)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static int32_t threaded;

static struct cache_swap *open_swap(struct cache_blocks *b, int in_file, int32_t n_pages)
{
    struct cache_swap *s = NULL;
    struct cache_swap_config c = {in_file ? folder : NULL, (uint64_t)n_pages * CACHE_SWAP_PAGE + 9,
                                  threaded};
    assert_ok(cache_swap_open(&s, b, &c));
    assert_int_equal(s->n_pages, n_pages);
    return s;
}

/* Every free page is in the list once; closes. */
static void close_swap(struct cache_swap *s, int32_t n_held)
{
    int32_t n = 0;
    for (int32_t page = s->free_page; page >= 0; page = s->next[page]) {
        assert_true(n++ < s->n_pages);
        assert_in_range(page, 0, s->n_pages - 1);
    }
    assert_int_equal(n, s->n_free);
    assert_int_equal(n + n_held, s->n_pages);
    cache_swap_close(&s);
    assert_null(s);
    cache_swap_close(&s);
}

/* Blocks larger than a page, smaller ones, and perhaps a state beside them. */
static struct cache_blocks *open_large(int32_t n_blocks, int kinds, int prefix)
{
    struct cache_blocks *b = NULL;
    struct cache_config c = config_of(n_blocks, kinds, prefix);
    c.groups[0].k_slot = c.groups[0].v_slot = 3000;
    if (kinds & STATE)
        c.groups[2].state_bytes = 70001;
    c.budget_bytes =
        cache_config_bytes(&c, (uint64_t)(n_blocks * BT), kinds & STATE ? (uint64_t)n_blocks : 0);
    assert_ok(cache_blocks_create(&b, &base_alloc_default, device, &c));
    return b;
}

static void fill(struct cache_blocks *b, uint64_t seed)
{
    uint8_t *bytes = malloc(b->memory.bytes);
    for (size_t i = 0; i < b->memory.bytes; i++)
        bytes[i] = (uint8_t)test_rand(&seed);
    assert_ok(device_buffer_upload(&b->memory, 0, bytes, b->memory.bytes));
    free(bytes);
}

static size_t block(const struct cache_table *t, int32_t g, int32_t k)
{
    return t->blocks->base[g] + (size_t)t->ids[g][k] * t->blocks->block_bytes[g];
}

/* All blocks of a table, one behind the other, from first[g] on. */
static uint8_t *copy(const struct cache_table *t, int32_t n_tokens, const int32_t *first)
{
    const struct cache_blocks *b = t->blocks;
    uint8_t *out = calloc(1, b->memory.bytes + 1), *at = out;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t n = cache_group_is_state(&b->config.groups[g]) ? 1 : BASE_DIV_UP(n_tokens, BT);
        for (int32_t k = first[g]; k < n; k++, at += b->block_bytes[g])
            assert_ok(device_buffer_download(at, &b->memory, block(t, g, k), b->block_bytes[g]));
    }
    return out;
}

/* Whoever gets a block may write into it, whether a thread still reads others or not. */
static void overwrite_all(struct cache_blocks *b)
{
    int32_t ids[CACHE_GROUPS_MAX][64];
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        assert_int_equal(cache_blocks_free(b, g), b->n_blocks[g]);
        assert_ok(cache_blocks_take(b, g, ids[g], b->n_blocks[g]));
        assert_int_equal(b->n_leaving[g], 0);
    }
    fill(b, 99);
    for (int32_t g = 0; g < b->config.n_groups; g++)
        cache_blocks_give(b, g, ids[g], b->n_blocks[g]);
}

/* Out, everything overwritten, back into other blocks. */
static void round_trip(int in_file, int32_t n_tokens, int kinds)
{
    struct cache_blocks *b = open_large(20, kinds, 0);
    struct cache_swap *s = open_swap(b, in_file, 64);
    struct cache_table t, other;
    struct cache_swapped w;
    assert_ok(cache_table_init(&t, b, 160));
    assert_ok(cache_table_init(&other, b, 160));
    assert_ok(cache_table_reserve(&t, n_tokens));
    fill(b, (uint64_t)n_tokens);
    cache_table_slide(&t, n_tokens);
    const int32_t n_passed = t.n_passed[1];
    assert_int_equal(n_passed > 0, kinds & WINDOW && n_tokens > 40);
    cache_swap_plan(&w, &t, n_tokens);
    assert_int_equal(w.n_tokens, n_tokens);
    assert_int_equal(w.n_shared + w.n_nodes + w.n_pages, 0);
    assert_int_equal(w.first[1], n_passed);
    uint8_t *before = copy(&t, n_tokens, w.first);
    assert_ok(cache_swap_out(s, &t, &w));
    assert_int_equal(w.n_pages, BASE_DIV_UP(w.bytes, CACHE_SWAP_PAGE));
    assert_int_equal(s->n_free, 64 - w.n_pages);
    assert_int_equal(files(), 0);
    cache_table_clear(&t);
    overwrite_all(b);
    assert_ok(cache_table_reserve(&other, 16)); /* takes the ids that it had */
    assert_ok(cache_table_leap(&t, n_tokens));
    assert_ok(cache_table_reserve(&t, n_tokens + 1));
    assert_int_equal(t.n_passed[1], n_passed);
    assert_ok(cache_swap_in(s, &t, 0, &w));
    uint8_t *after = copy(&t, n_tokens, w.first);
    assert_memory_equal(before, after, w.bytes);
    assert_int_equal(cache_swap_in_bytes(s, 0, &w), w.bytes);
    assert_int_equal(s->in_bytes, w.bytes);
    assert_int_equal(s->out_bytes, w.bytes);
    cache_swap_drop(s, &w);
    assert_int_equal(w.n_tokens + w.n_pages, 0);
    cache_swap_drop(s, &w);
    free(before);
    free(after);
    cache_table_release(&t);
    cache_table_release(&other);
    assert_int_equal(b->n_used, 0);
    close_swap(s, 0);
    cache_blocks_destroy(&b);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 15, 16, 17, 100, 144};
    for (int in_file = 0; in_file < 2; in_file++)
        for (size_t i = 0; i < BASE_COUNT(lengths); i++) {
            threaded = i % 2;
            round_trip(in_file, lengths[i], PLAIN | STATE);
            threaded = !threaded;
            round_trip(in_file, lengths[i], PLAIN | WINDOW | STATE);
        }
    threaded = 0;
}

/* Nodes that a thread still reads stay what they are, and leave in their order. */
static void test_beside(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(30);
    threaded = 1;
    struct cache_swap *s = open_swap(b, 1, 4);
    threaded = 0;
    struct cache_swapped w[2];
    static struct sequence one, two;
    open_sequence(&one, b, 0);
    write_tokens(&one, 90, 1);
    assert_true(begin(&one));
    compute(&one, 90);
    open_sequence(&two, b, 0);
    write_tokens(&two, 48, 1);
    write_tokens(&two, 108, 2);
    assert_true(begin(&two));
    compute(&two, 60);
    struct sequence *both[] = {&one, &two};
    for (int i = 1; i >= 0; i--) { /* who still reads the beginning does not keep it for others */
        cache_swap_plan(&w[i], &both[i]->table, both[i]->n_computed);
        assert_int_equal(w[i].n_shared, i ? 3 : 0);
        assert_ok(cache_swap_out(s, &both[i]->table, &w[i]));
        cache_table_clear(&both[i]->table);
    }
    overwrite_all(b);
    for (int i = 0; i < 2; i++) {
        int32_t length = both[i]->n_computed;
        both[i]->n_computed = 0;
        assert_true(begin(both[i]));
        assert_int_equal(both[i]->n_computed, i ? 48 : 0);
        assert_ok(cache_swap_in(s, &both[i]->table, both[i]->n_computed, &w[i]));
        both[i]->n_computed = length;
        check_content(both[i]);
        cache_table_keep(&both[i]->table, both[i], get_tokens, length);
        cache_swap_drop(s, &w[i]);
    }
    assert_int_equal(s->n_out, 2);
    const struct cache_table *tables[] = {&one.table, &two.table};
    cache_check(b, tables, 2);
    close_sequence(&one);
    close_sequence(&two);
    close_swap(s, 0);
    cache_blocks_destroy(&b);
}

/* Blocks of a device with memory of its own. */
static void test_gpu(void **state)
{
    (void)state;
    struct infer_device *cpu = device;
    assert_ok(device_create(&device, &(struct device_config){.index = 1}));
    for (int in_file = 0; in_file < 2; in_file++) {
        round_trip(in_file, 100, 0);
        round_trip(in_file, 100, 3);
    }
    device_release(&device);
    device = cpu;
}

/* Blocks that others hold stay out of it; those that are found are not read; without the
 * beginning it is no use. */
static void test_shared(void **state)
{
    (void)state;
    struct cache_blocks *b = open_cache(30);
    struct cache_swap *s = open_swap(b, 1, 4);
    struct cache_swapped w;
    static struct sequence one, two;
    open_sequence(&one, b, 0);
    write_tokens(&one, 40, 1);
    assert_true(begin(&one));
    compute(&one, 40);
    open_sequence(&two, b, 0);
    write_tokens(&two, 32, 1); /* as the first one */
    write_tokens(&two, 90, 2);
    assert_true(begin(&two));
    assert_int_equal(two.n_computed, 32);
    compute(&two, 55);
    const size_t bytes = b->block_bytes[0] + b->block_bytes[1];
    cache_swap_plan(&w, &two.table, two.n_computed);
    assert_int_equal(w.n_shared, 2);
    assert_int_equal(w.n_nodes, 5);
    assert_int_equal(w.bytes, bytes * 4);
    assert_ok(cache_swap_out(s, &two.table, &w));
    cache_table_clear(&two.table);

    two.n_computed = 0;
    assert_true(begin(&two)); /* all full blocks are still there */
    assert_int_equal(two.n_computed, 80);
    memset(slot(&two, 0, 0, 80), 0, 16);
    assert_int_equal(cache_swap_in_bytes(s, 80, &w), bytes);
    assert_ok(cache_swap_in(s, &two.table, 80, &w));
    assert_int_equal(s->in_bytes, bytes);
    two.n_computed = 87;
    check_content(&two);
    cache_table_clear(&two.table);

    int32_t ids[30], n = cache_blocks_free(b, 0); /* evicts what only the second one had */
    assert_ok(cache_blocks_take(b, 0, ids, n));
    cache_blocks_give(b, 0, ids, n);
    assert_true(begin(&two));
    assert_int_equal(two.n_computed, 32);
    assert_ok(cache_swap_in(s, &two.table, 32, &w));
    two.n_computed = 87;
    check_content(&two);
    cache_table_keep(&two.table, &two, get_tokens, 87);
    assert_int_equal(two.table.n_nodes, 5);
    const struct cache_table *tables[] = {&one.table, &two.table};
    cache_check(b, tables, 2);

    assert_int_equal(cache_swap_in(s, &two.table, 16, &w), INFER_ERR_NOT_FOUND);
    assert_int_equal(s->n_lost, 1);
    cache_prefix_clear(b); /* what is forgotten is not found again */
    cache_swap_drop(s, &w);
    cache_swap_plan(&w, &two.table, 87);
    assert_int_equal(w.n_shared + w.n_nodes, 0);
    assert_int_equal(w.bytes, bytes * 6);
    cache_swap_drop(s, &w);
    close_sequence(&one);
    close_sequence(&two);
    close_swap(s, 0);
    cache_blocks_destroy(&b);
}

/* --------------------------------------------------------------- what goes wrong */

static void test_full(void **state)
{
    (void)state;
    struct cache_blocks *b = open_large(12, PLAIN | STATE, 0);
    struct cache_swap *s = open_swap(b, 0, 9);
    struct cache_table t;
    struct cache_swapped w[3];
    assert_ok(cache_table_init(&t, b, 160));
    assert_ok(cache_table_reserve(&t, 20));
    fill(b, 5);
    for (int i = 0; i < 3; i++)
        cache_swap_plan(&w[i], &t, 20);
    assert_int_equal(BASE_DIV_UP(w[0].bytes, CACHE_SWAP_PAGE), 7);
    assert_ok(cache_swap_out(s, &t, &w[0]));
    assert_int_equal(cache_swap_out(s, &t, &w[1]), INFER_ERR_LIMIT);
    assert_int_equal(s->n_full, 1);
    assert_int_equal(s->n_free, 2);
    cache_swap_drop(s, &w[0]);
    assert_ok(cache_swap_out(s, &t, &w[1]));
    assert_ok(cache_swap_in(s, &t, 0, &w[1]));
    assert_ok(cache_table_reserve(&t, 160));
    cache_swap_plan(&w[2], &t, 160); /* more than all of it */
    assert_int_equal(cache_swap_out(s, &t, &w[2]), INFER_ERR_LIMIT);
    assert_int_equal(w[2].n_pages, 0);
    assert_int_equal(s->n_full, 2);
    cache_table_release(&t);
    close_swap(s, 7); /* a store may go before those that wait in it */
    cache_blocks_destroy(&b);
}

/* A byte of any page, also of the last one's few. */
static void test_damage(void **state)
{
    (void)state;
    struct cache_blocks *b = open_large(12, PLAIN | STATE, 0);
    struct cache_table t;
    assert_ok(cache_table_init(&t, b, 160));
    assert_ok(cache_table_reserve(&t, 40));
    fill(b, 5);
    for (int in_file = 0; in_file < 2; in_file++) {
        struct cache_swap *s = open_swap(b, in_file, 40);
        struct cache_swapped w;
        uint64_t seed = 3, n = 0;
        cache_swap_plan(&w, &t, 40);
        assert_ok(cache_swap_out(s, &t, &w));
        assert_true(w.bytes > 3 * CACHE_SWAP_PAGE);
        for (uint64_t at = 0; at < w.bytes; at += 1 + test_rand(&seed) % 40000, n++) {
            uint8_t byte, bad;
            uint8_t *there = s->memory + at;
            if (in_file)
                assert_int_equal(pread(s->file.fd, &byte, 1, (off_t)at), 1);
            else
                byte = *there;
            bad = byte ^ (uint8_t)(1u << n % 8);
            if (in_file)
                assert_int_equal(pwrite(s->file.fd, &bad, 1, (off_t)at), 1);
            else
                *there = bad;
            assert_int_equal(cache_swap_in(s, &t, 0, &w), INFER_ERR_FORMAT);
            if (in_file)
                assert_int_equal(pwrite(s->file.fd, &byte, 1, (off_t)at), 1);
            else
                *there = byte;
        }
        assert_int_equal(s->n_damaged, n);
        assert_ok(cache_swap_in(s, &t, 0, &w));
        if (in_file) {
            assert_int_equal(ftruncate(s->file.fd, (off_t)w.bytes - 1), 0);
            assert_int_equal(cache_swap_in(s, &t, 0, &w), INFER_ERR_IO);
            assert_int_equal(s->n_failed, 1);
        }
        cache_swap_drop(s, &w);
        close_swap(s, 0);
    }
    cache_table_release(&t);
    cache_blocks_destroy(&b);
}

/* A disk that fills up in the middle of a page, and then has room again. */
static void test_disk_full(void **state)
{
    (void)state;
    struct rlimit old, small;
    struct cache_blocks *b = open_large(12, PLAIN | STATE, 0);
    struct cache_swap *s = open_swap(b, 1, 40);
    struct cache_table t;
    struct cache_swapped w;
    assert_ok(cache_table_init(&t, b, 160));
    assert_ok(cache_table_reserve(&t, 40));
    fill(b, 5);
    cache_swap_plan(&w, &t, 40);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    for (rlim_t room = 0; room < 3 * CACHE_SWAP_PAGE; room += 50000) {
        small.rlim_cur = room;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        infer_status st = cache_swap_out(s, &t, &w);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(st, INFER_ERR_IO);
        assert_non_null(strstr(base_error_text(), folder));
        assert_int_equal(w.n_pages, 0);
        assert_int_equal(s->n_free, 40);
    }
    assert_int_equal(s->n_failed, 4);
    assert_int_equal(s->n_out, 0);
    assert_ok(cache_swap_out(s, &t, &w));
    assert_ok(cache_swap_in(s, &t, 0, &w));
    cache_swap_drop(s, &w);
    cache_table_release(&t);
    close_swap(s, 0);
    cache_blocks_destroy(&b);
}

static void test_open(void **state)
{
    (void)state;
    struct test_alloc t;
    struct cache_blocks *b = NULL;
    struct cache_swap *s = NULL;
    struct cache_config config = config_of(4, PLAIN | STATE, 0);
    test_alloc_init(&t);
    assert_ok(cache_blocks_create(&b, &t.alloc, device, &config));
    size_t live = t.live_blocks;
    struct cache_swap_config c = {"/no/such/folder", 1 << 20, 0};
    assert_int_equal(cache_swap_open(&s, b, &c), INFER_ERR_IO);
    assert_non_null(strstr(base_error_text(), "/no/such/folder"));
    c.bytes = CACHE_SWAP_PAGE - 1;
    assert_int_equal(cache_swap_open(&s, b, &c), INFER_ERR_LIMIT);
    c = (struct cache_swap_config){folder, 1 << 20, 0};
    for (size_t n = 1; !s; n++) {
        t.n_calls = 0;
        t.fail_at = n;
        infer_status st = cache_swap_open(&s, b, &c);
        assert_true(st == (s ? INFER_OK : INFER_ERR_NO_MEMORY) && n < 14);
        assert_true(s || t.live_blocks == live);
    }
    assert_true(t.n_calls >= 5);
    t.fail_at = 0;
    cache_swap_close(&s);
    assert_int_equal(t.live_blocks, live);
    cache_blocks_destroy(&b);
    assert_int_equal(t.live_blocks, 0);
    assert_int_equal(files(), 0);
}

/* Sequences go and come in any order. */
static void test_many(void **state)
{
    (void)state;
    enum { N = 12 };
    struct cache_blocks *b = open_large(40, PLAIN | STATE, 0);
    struct cache_swap *s = open_swap(b, 1, 60);
    struct cache_table t[N];
    struct cache_swapped w[N] = {{0}};
    uint8_t *before[N] = {NULL};
    uint64_t seed = 8;
    int n_out = 0, n_full = 0;
    for (int i = 0; i < N; i++)
        assert_ok(cache_table_init(&t[i], b, 160));
    for (int round = 0; round < 400; round++) {
        int i = (int)(test_rand(&seed) % N);
        int32_t n = 1 + (int32_t)(test_rand(&seed) % 60);
        if (w[i].n_pages && test_rand(&seed) % 5 == 0) {
            cache_swap_drop(s, &w[i]); /* cancelled */
            free(before[i]);
        } else if (w[i].n_pages && cache_table_reserve(&t[i], w[i].n_tokens) == INFER_OK) {
            assert_ok(cache_swap_in(s, &t[i], 0, &w[i]));
            uint8_t *after = copy(&t[i], w[i].n_tokens, w[i].first);
            assert_memory_equal(before[i], after, w[i].bytes);
            free(after);
            free(before[i]);
            cache_swap_drop(s, &w[i]);
            cache_table_clear(&t[i]);
        } else if (!w[i].n_pages && cache_table_reserve(&t[i], n) == INFER_OK) {
            for (int32_t g = 0; g < 3; g++)
                assert_ok(device_buffer_fill(&b->memory, block(&t[i], g, 0),
                                             (uint8_t)test_rand(&seed), b->block_bytes[g]));
            cache_swap_plan(&w[i], &t[i], n);
            before[i] = copy(&t[i], n, w[i].first);
            if (cache_swap_out(s, &t[i], &w[i]) == INFER_OK) {
                n_out++;
            } else {
                n_full++;
                free(before[i]);
            }
            cache_table_clear(&t[i]);
        }
    }
    assert_true(n_out > 50 && n_full > 5);
    assert_int_equal(s->n_full, n_full);
    for (int i = 0; i < N; i++) {
        if (w[i].n_pages)
            free(before[i]);
        cache_swap_drop(s, &w[i]);
        cache_table_release(&t[i]);
    }
    close_swap(s, 0);
    cache_blocks_destroy(&b);
}

/* ---------------------------------------------------------------------- the choice */

static void test_choice(void **state)
{
    (void)state;
    struct swap_cost c = {0};
    struct swap_loss l = {.n_tokens = 100, .bytes = 1000000};
    assert_int_equal(swap_cost_pays(&c, &l), 0); /* what computing takes is not known */
    l.token_ns = 20000;
    assert_int_equal(swap_cost_pays(&c, &l), 1); /* what moving takes is not known: tried */
    swap_cost_wrote(&c, 1000000, 900000);
    assert_int_equal(swap_cost_pays(&c, &l), 1); /* 0.9 ms out and as much back, or 2 ms */
    swap_cost_read(&c, 1000000, 1200000);
    assert_int_equal(swap_cost_pays(&c, &l), 0); /* 2.1 ms */
    l.n_tokens = 110;
    assert_int_equal(swap_cost_pays(&c, &l), 1); /* 2.2 ms to compute */

    /* What is found again need not be computed: nor read, but it was written. */
    c = (struct swap_cost){.write_ns = 0.5, .read_ns = 0.5, .survival = 0.5};
    l = (struct swap_loss){.n_tokens = 100, .n_left = 80, .bytes = 1000000, .token_ns = 12000};
    assert_int_equal(swap_cost_pays(&c, &l), 0); /* 0.5 + 0.6 * 0.5 = 0.8 ms, or 0.72 */
    l.n_left = 0;
    assert_int_equal(swap_cost_pays(&c, &l), 1); /* 1 ms or 1.2 */
    l.n_left = 100;
    c.survival = 1;
    assert_int_equal(swap_cost_pays(&c, &l), 0);
    l.bytes = 0; /* others hold it */
    c = (struct swap_cost){0};
    assert_int_equal(swap_cost_pays(&c, &l), 0);
}

/* Averages follow, and a disk that was slow for once is tried again. */
static void test_learning(void **state)
{
    (void)state;
    struct swap_cost c = {0};
    struct swap_loss l = {.n_tokens = 100, .bytes = 1000000, .token_ns = 20000};
    swap_cost_wrote(&c, 1000, 10000);
    int n = 0;
    while (!swap_cost_pays(&c, &l))
        assert_true(++n < 1000);
    assert_in_range(n, 80, 140); /* from 20 to 2 ns a byte */
    for (int i = 0; i < 40; i++) {
        swap_cost_wrote(&c, 1 << 20, 2 << 20);
        swap_cost_read(&c, 1 << 20, 3 << 20);
        swap_cost_found(&c, 3, 4);
    }
    assert_true(c.write_ns > 1.99 && c.write_ns < 2.01);
    assert_true(c.read_ns > 2.99 && c.read_ns < 3.01);
    assert_true(c.survival > 0.74 && c.survival < 0.76);
    swap_cost_found(&c, 0, 0);
    swap_cost_wrote(&c, 0, 5);
    assert_true(c.write_ns < 2.01 && c.survival > 0.74);
}

/* A token's cost is that of large steps, however many small ones came since. */
static void test_token_cost(void **state)
{
    (void)state;
    struct engine_pace p = {0};
    assert_true(pace_token_ns(&p) == 0);
    pace_learn(&p, 2, 10000);
    assert_true(pace_token_ns(&p) == 5000);
    pace_learn(&p, 256, 256000);
    assert_true(pace_token_ns(&p) == 1000);
    for (int i = 0; i < 1000; i++)
        pace_learn(&p, 3, 9000);
    assert_true(pace_token_ns(&p) == 1000);
    for (int i = 0; i < 20; i++)
        pace_learn(&p, 256, 512000);
    assert_true(pace_token_ns(&p) > 1980 && pace_token_ns(&p) <= 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_gpu),
        cmocka_unit_test(test_beside),     cmocka_unit_test(test_shared),
        cmocka_unit_test(test_full),       cmocka_unit_test(test_damage),
        cmocka_unit_test(test_disk_full),  cmocka_unit_test(test_open),
        cmocka_unit_test(test_many),       cmocka_unit_test(test_choice),
        cmocka_unit_test(test_learning),   cmocka_unit_test(test_token_cost),
    };
    if (device_count() < 2) { /* an emulated one has it in tests/cuda */
        print_message("skipped: no GPU for test_gpu\n");
        cmocka_set_skip_filter("test_gpu");
    }
    return cmocka_run_group_tests_name("swap", tests, make_folder, remove_folder);
}
