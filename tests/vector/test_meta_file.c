/* Metadata in a file: written from several parts, mapped, filtered, damaged. */
#include "disk.h"
#include "meta_cases.h"

#include "base/error.h"

#define ROWS 900

/* Rows in three parts, one of them without indexed fields, and what a file has of them. */
struct parts {
    struct case_rows rows;
    struct vector_meta *metas[3];
    uint64_t dead[3][(ROWS + 63) / 64];
    struct vector_meta_source sources[3];
    int32_t which[ROWS]; /* row i of the file is this one */
    int32_t n;
};

static void parts_init(struct parts *p, uint64_t seed)
{
    static const int32_t begins[4] = {0, 400, 450, ROWS};
    memset(p, 0, sizeof *p);
    case_rows_init(&p->rows, ROWS, &seed);
    for (int i = 0; i < 3; i++) {
        const int32_t begin = begins[i], n = begins[i + 1] - begin;
        assert_ok(vector_meta_create(&p->metas[i], &base_alloc_default, case_fields, i));
        case_rows_add(&p->rows, p->metas[i], begin, begin + n);
        p->sources[i] = (struct vector_meta_source){p->metas[i], i == 1 ? NULL : p->dead[i],
                                                    i == 2 ? n - 13 : n};
        for (int32_t row = 0; row < p->sources[i].n_rows; row++) {
            if (i != 1 && test_rand(&seed) % 4 == 0)
                p->dead[i][row / 64] |= UINT64_C(1) << (row % 64);
            else
                p->which[p->n++] = begin + row;
        }
    }
}

static void parts_release(struct parts *p)
{
    for (int i = 0; i < 3; i++)
        vector_meta_destroy(&p->metas[i]);
    case_rows_release(&p->rows);
}

static infer_status write_to(const char *path, const struct base_alloc *a,
                             const struct vector_meta_source *sources, int32_t n, int32_t n_fields)
{
    struct vector_file_writer *w = NULL;
    infer_status st = vector_file_create(&w, a, path, "test");
    if (st == INFER_OK)
        st = vector_meta_write(sources, n, a, case_fields, n_fields, w);
    if (st == INFER_OK)
        return vector_file_finish(&w);
    vector_file_abandon(&w);
    return st;
}

struct opened {
    struct vector_file *file;
    struct vector_meta *meta;
};

static infer_status open_at(struct opened *o, const struct base_alloc *a, const char *path)
{
    *o = (struct opened){0};
    infer_status st = vector_file_open(&o->file, a, path, "test", 0);
    return st == INFER_OK ? vector_meta_open(&o->meta, a, o->file) : st;
}

static void close_all(struct opened *o)
{
    vector_meta_destroy(&o->meta);
    vector_file_close(&o->file);
}

static void check_rows(const struct parts *p, const struct vector_meta *m)
{
    assert_int_equal(vector_meta_size(m), p->n);
    for (int32_t i = 0; i < p->n; i++) {
        const struct base_str *text = &p->rows.texts[p->which[i]];
        const char *json;
        size_t size;
        vector_meta_get(m, i, &json, &size);
        assert_int_equal(size, text->size);
        assert_true(size ? memcmp(json, text->data, size) == 0 : json == NULL);
    }
}

static void check_filters(const struct parts *p, const struct vector_meta *m, uint64_t seed, int n)
{
    for (int i = 0; i < n; i++) {
        struct base_str text;
        base_str_init(&text, &base_alloc_default, 0);
        case_filter(&text, &seed);
        case_check(&p->rows, m, &text, i % 4 ? p->n : p->n * (i % 7) / 7, p->which);
        base_str_release(&text);
    }
}

static void a_file_has_the_rows_that_live_and_their_index(void **state)
{
    const char *path = disk_path("a"), *again = disk_path("b");
    struct opened o, other;
    struct parts p;
    size_t size, other_size;
    BASE_UNUSED(state);
    parts_init(&p, 11);
    for (int32_t n_fields = 0; n_fields <= CASE_FIELDS; n_fields += CASE_FIELDS) {
        assert_ok(write_to(path, &base_alloc_default, p.sources, 3, n_fields));
        assert_ok(open_at(&o, &base_alloc_default, path));
        check_rows(&p, o.meta);
        check_filters(&p, o.meta, 12, 150);
        /* written once more from the file, it is the same */
        const struct vector_meta_source whole = {o.meta, NULL, p.n};
        assert_ok(write_to(again, &base_alloc_default, &whole, 1, n_fields));
        char *bytes = test_read(path, &size), *other_bytes = test_read(again, &other_size);
        assert_int_equal(size, other_size);
        assert_memory_equal(bytes, other_bytes, size);
        free(bytes);
        free(other_bytes);
        for (int32_t i = n_fields; i < CASE_FIELDS; i++)
            assert_ok(vector_meta_add_field(o.meta, case_fields[i]));
        check_filters(&p, o.meta, 13, 50);
        assert_ok(open_at(&other, &base_alloc_default, again));
        check_filters(&p, other.meta, 14, 50);
        assert_int_equal(vector_meta_add(o.meta, "{}", 2), INFER_ERR_UNSUPPORTED);
        close_all(&other);
        close_all(&o);
        unlink(path);
        unlink(again);
    }
    parts_release(&p);
}

static void no_rows_and_no_fields_make_a_file_too(void **state)
{
    const char *path = disk_path("a");
    struct opened o;
    BASE_UNUSED(state);
    for (int32_t n_fields = 0; n_fields < 2; n_fields++) {
        struct vector_filter *f = NULL;
        uint64_t bits = 7;
        int32_t n_set = -1;
        assert_ok(write_to(path, &base_alloc_default, NULL, 0, n_fields));
        assert_ok(open_at(&o, &base_alloc_default, path));
        assert_int_equal(vector_meta_size(o.meta), 0);
        assert_ok(vector_filter_parse(&f, &base_alloc_default, "{\"year\":1}", 10));
        assert_ok(vector_filter_rows(f, o.meta, 0, &bits, &n_set));
        assert_int_equal(n_set, 0);
        assert_int_equal(vector_filter_rows(f, o.meta, 1, &bits, &n_set), INFER_ERR_INVALID);
        vector_filter_destroy(&f);
        close_all(&o);
        unlink(path);
    }
}

/* Ends of texts are counted from the first of 1,024 rows on. */
static void texts_are_found_on_both_sides_of_a_block(void **state)
{
    static const int32_t counts[] = {1023, 1024, 1025, 2049};
    struct vector_meta *meta;
    struct vector_meta_source source = {0};
    int32_t n = 0;
    (void)state;
    assert_ok(vector_meta_create(&meta, &base_alloc_default, NULL, 0));
    for (size_t i = 0; i < BASE_COUNT(counts); i++) {
        struct opened o;
        for (; n < counts[i]; n++) {
            char text[32];
            const int size = snprintf(text, sizeof text, "{\"n\":%d}", n);
            assert_ok(vector_meta_add(meta, n % 7 ? text : NULL, n % 7 ? (size_t)size : 0));
        }
        source = (struct vector_meta_source){meta, NULL, n};
        assert_ok(write_to(disk_path("blocks"), &base_alloc_default, &source, 1, 0));
        assert_ok(open_at(&o, &base_alloc_default, disk_path("blocks")));
        assert_int_equal(vector_meta_size(o.meta), n);
        for (int32_t row = 0; row < n; row++) {
            const char *a, *b;
            size_t a_size, b_size;
            vector_meta_get(meta, row, &a, &a_size);
            vector_meta_get(o.meta, row, &b, &b_size);
            assert_int_equal(a_size, b_size);
            assert_true(!a_size || memcmp(a, b, a_size) == 0);
        }
        close_all(&o);
    }
    vector_meta_destroy(&meta);
    remove(disk_path("blocks"));
}

static void what_cannot_be_written_is_refused(void **state)
{
    const char *fields[65], *twice[] = {"a", "b", "a"};
    struct vector_meta *m = NULL;
    struct vector_file_writer *w = NULL;
    BASE_UNUSED(state);
    assert_ok(vector_meta_create(&m, &base_alloc_default, NULL, 0));
    assert_ok(vector_file_create(&w, &base_alloc_default, disk_path("a"), "test"));
    struct vector_meta_source source = {m, NULL, 1};
    for (int i = 0; i < 65; i++)
        fields[i] = "a";
    assert_int_equal(vector_meta_write(&source, 1, &base_alloc_default, fields, 1, w),
                     INFER_ERR_INVALID);
    source.n_rows = 0;
    assert_int_equal(vector_meta_write(&source, 1, &base_alloc_default, fields, 65, w),
                     INFER_ERR_LIMIT);
    assert_int_equal(vector_meta_write(&source, 1, &base_alloc_default, twice, 3, w),
                     INFER_ERR_INVALID);
    vector_file_abandon(&w);
    vector_meta_destroy(&m);
}

static void a_refused_allocation_leaves_nothing(void **state)
{
    const char *path = disk_path("a");
    struct test_alloc t;
    struct opened o;
    struct parts p;
    BASE_UNUSED(state);
    parts_init(&p, 17);
    for (size_t fail_at = 1;; fail_at++) {
        test_alloc_init(&t);
        t.fail_at = fail_at;
        infer_status st = write_to(path, &t.alloc, p.sources, 3, 3);
        assert_int_equal(t.live_blocks, 0);
        if (t.n_calls < fail_at) {
            assert_ok(st);
            break;
        }
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_int_equal(disk_count(disk_folder), 0);
    }
    for (size_t fail_at = 1;; fail_at++) {
        test_alloc_init(&t);
        t.fail_at = fail_at;
        infer_status st = open_at(&o, &t.alloc, path);
        close_all(&o);
        assert_int_equal(t.live_blocks, 0);
        if (t.n_calls < fail_at) {
            assert_ok(st);
            break;
        }
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
    }
    unlink(path);
    parts_release(&p);
}

static uint64_t damaged_word(uint64_t word, uint64_t *seed)
{
    static const uint64_t values[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 32, 65};
    uint32_t kind = test_rand(seed) % (BASE_COUNT(values) + 4);
    if (kind < BASE_COUNT(values))
        return values[kind];
    return kind % 2 ? word + (kind - BASE_COUNT(values)) - 2
                    : word ^ (1ull << test_rand(seed) % 64);
}

/* Where the first mistake is, whatever it is: opening, or a filter that comes by. */
static infer_status use(const char *path, struct vector_filter *const *filters, int n)
{
    uint64_t bits[(ROWS + 63) / 64];
    struct opened o;
    infer_status st = open_at(&o, &base_alloc_default, path);
    for (int i = 0; i < n && st == INFER_OK; i++) {
        int32_t n_rows = vector_meta_size(o.meta), n_set;
        st = vector_filter_rows(filters[i], o.meta, BASE_MIN(n_rows, ROWS), bits, &n_set);
        vector_filter_most(filters[i], o.meta, n_rows);
    }
    for (int32_t i = 0; o.meta && i < vector_meta_size(o.meta); i++) {
        const char *json;
        size_t size, sum = 0;
        vector_meta_get(o.meta, i, &json, &size);
        for (size_t j = 0; j < size; j++)
            sum += (uint8_t)json[j]; /* a sanitizer, or the kernel, sees a place that is none */
        assert_true(sum <= size * 255);
    }
    close_all(&o);
    return st;
}

static void patch(const char *path, size_t at, const uint64_t *word)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(word, sizeof *word, 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

/* Checksums are compared only when all is verified: numbers are checked where they are used. */
static void damage_gives_format_or_an_answer(void **state)
{
    enum { FILTERS = 12 };
    const char *path = disk_path("a");
    struct vector_filter *filters[FILTERS];
    uint64_t seed = 23;
    int n_refused = 0;
    struct parts p;
    size_t size;
    BASE_UNUSED(state);
    parts_init(&p, 19);
    p.sources[0].n_rows = 60;
    assert_ok(write_to(path, &base_alloc_default, p.sources, 1, CASE_FIELDS));
    char *bytes = test_read(path, &size);
    for (int i = 0; i < FILTERS; i++) {
        struct base_str text;
        base_str_init(&text, &base_alloc_default, 0);
        case_filter(&text, &seed);
        assert_ok(vector_filter_parse(&filters[i], &base_alloc_default, text.data, text.size));
        base_str_release(&text);
    }
    uint64_t table;
    memcpy(&table, bytes + 64, sizeof table);
    for (int i = 0; i < 3000; i++) {
        const size_t at = 128 + 8 * (test_rand(&seed) % (((size_t)table - 128) / 8));
        uint64_t old, word;
        memcpy(&old, bytes + at, 8);
        word = damaged_word(old, &seed);
        patch(path, at, &word);
        infer_status st = use(path, filters, FILTERS);
        assert_true(st == INFER_OK || st == INFER_ERR_FORMAT);
        n_refused += st != INFER_OK;
        patch(path, at, &old);
    }
    assert_in_range(n_refused, 500, 2900);
    for (int i = 0; i < FILTERS; i++)
        vector_filter_destroy(&filters[i]);
    free(bytes);
    unlink(path);
    parts_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_has_the_rows_that_live_and_their_index),
        cmocka_unit_test(no_rows_and_no_fields_make_a_file_too),
        cmocka_unit_test(texts_are_found_on_both_sides_of_a_block),
        cmocka_unit_test(what_cannot_be_written_is_refused),
        cmocka_unit_test(a_refused_allocation_leaves_nothing),
        cmocka_unit_test(damage_gives_format_or_an_answer),
    };
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
