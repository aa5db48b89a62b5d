/* JSON trees: yajl finds the tokens and holds the grammar, this file builds the tree. */
#include "base/json.h"

#include "base/error.h"
#include "base/json_scan.h"
#include "base/map.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#define NUMBER_MAX   512 /* characters; a double needs 770 at most, and none is written so */
#define SMALL_OBJECT 16  /* members that are compared with each other rather than hashed */

/* What yajl allocated, so that all of it can be freed without yajl's help. */
struct block {
    struct block *next, *previous;
    size_t size;
    _Alignas(16) unsigned char bytes[];
};

/* A container that is open, with room for all that it will hold. */
struct frame {
    struct base_json *container;
    struct base_json_member *members; /* of an object, else NULL */
    struct base_json *items;          /* of an array */
    uint32_t capacity;
};

struct parser {
    struct base_arena *arena;
    struct block *blocks;
    jmp_buf no_memory;
    struct json_counts counts;
    size_t n_opened; /* containers so far: index into the counts */
    char *strings;   /* all decoded strings; none is longer than its text */
    size_t n_strings;
    struct base_json root;
    struct frame frames[BASE_JSON_MAX_DEPTH];
    size_t depth;
    struct base_view key;
    infer_status status; /* of a callback that refused: FORMAT or NO_MEMORY */
    char what[128];      /* its sentence without the place */
};

/* yajl does not check what its allocator returns: this one does not return. */
static void *yajl_new(void *ctx, size_t size)
{
    struct parser *p = ctx;
    struct block *b =
        size > SIZE_MAX / 4 ? NULL : base_new_raw(&p->arena->alloc, 1, sizeof(struct block) + size);
    if (!b)
        longjmp(p->no_memory, 1);
    *b = (struct block){.next = p->blocks, .size = size};
    if (p->blocks)
        p->blocks->previous = b;
    p->blocks = b;
    return b->bytes;
}

static struct block *block_of(void *ptr)
{
    return (struct block *)(void *)((unsigned char *)ptr - offsetof(struct block, bytes));
}

static void yajl_delete(void *ctx, void *ptr)
{
    struct parser *p = ctx;
    if (!ptr)
        return;
    struct block *b = block_of(ptr);
    if (b->next)
        b->next->previous = b->previous;
    if (b->previous)
        b->previous->next = b->next;
    else
        p->blocks = b->next;
    base_free(&p->arena->alloc, b);
}

static void *yajl_resize(void *ctx, void *ptr, size_t size)
{
    void *bigger = yajl_new(ctx, size);
    if (ptr) {
        memcpy(bigger, ptr, BASE_MIN(size, block_of(ptr)->size));
        yajl_delete(ctx, ptr);
    }
    return bigger;
}

static int refuse(struct parser *p, const char *what, struct base_view text)
{
    int shown = (int)BASE_MIN(text.size, (size_t)64);
    snprintf(p->what, sizeof p->what, "%s \"%.*s\"", what, shown, text.data);
    p->status = INFER_ERR_FORMAT;
    return 0;
}

static int refuse_memory(struct parser *p)
{
    p->status = INFER_ERR_NO_MEMORY;
    return 0;
}

/* The place of the value that comes next, or NULL. */
static struct base_json *new_value(struct parser *p, int32_t type)
{
    struct base_json *v = &p->root;
    if (p->depth) {
        struct frame *f = &p->frames[p->depth - 1];
        int is_object = f->container->type == BASE_JSON_OBJECT;
        uint32_t n = f->container->n;
        if (n == f->capacity) { /* impossible while yajl holds the grammar */
            refuse(p, "a comma is missing after", p->key);
            return NULL;
        }
        if (!n && is_object)
            f->members = base_arena_new(p->arena, f->capacity, sizeof *f->members);
        else if (!n)
            f->items = base_arena_new(p->arena, f->capacity, sizeof *f->items);
        if (!(is_object ? (void *)f->members : (void *)f->items)) {
            refuse_memory(p);
            return NULL;
        }
        f->container->n++;
        if (is_object)
            f->members[n].key = p->key;
        v = is_object ? &f->members[n].value : &f->items[n];
    }
    *v = (struct base_json){.type = type};
    return v;
}

static struct base_view keep_string(struct parser *p, const unsigned char *text, size_t size)
{
    struct base_view v = {p->strings + p->n_strings, size};
    if (size)
        memcpy(p->strings + p->n_strings, text, size);
    p->n_strings += size;
    return v;
}

static int on_null(void *ctx)
{
    return new_value(ctx, BASE_JSON_NULL) != NULL;
}

static int on_boolean(void *ctx, int value)
{
    return new_value(ctx, value ? BASE_JSON_TRUE : BASE_JSON_FALSE) != NULL;
}

static int read_integer(const char *text, size_t size, int64_t *out)
{
    int negative = text[0] == '-';
    int64_t v = 0;
    for (size_t i = (size_t)negative; i < size; i++) {
        int digit = text[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_sub_overflow(v, digit, &v))
            return 0; /* counted downwards, where there is one more */
    }
    if (!negative && v == INT64_MIN)
        return 0;
    *out = negative ? v : -v;
    return 1;
}

/* digits * 10^exponent, where digits and the power are doubles exactly, so that one rounding is the
 * right one (Clinger 1990, "How to read floating point numbers accurately"). */
static int scale_exactly(const char *digits, size_t n, long exponent, double *out)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    int64_t value = 0;
    if (n > 16 || exponent < -22 || exponent > 22)
        return 0;
    for (size_t i = digits[0] == '-'; i < n; i++)
        value = value * 10 + (digits[i] - '0');
    if (value > (INT64_C(1) << 53))
        return 0;
    double v = digits[0] == '-' ? -(double)value : (double)value;
    *out = exponent < 0 ? v / powers[-exponent] : v * powers[exponent];
    return 1;
}

/* strtod() follows the host's locale for the decimal point: "12.5e1" is given to it as
 * "125e0". The text follows the grammar of JSON. */
static int read_real(const char *text, size_t size, double *out)
{
    char plain[NUMBER_MAX + 32];
    size_t n = 0, i = 0;
    long fraction = 0, exponent = 0;
    plain[0] = 0;
    if (size > NUMBER_MAX)
        return 0;
    for (int after_point = 0; i < size && text[i] != 'e' && text[i] != 'E'; i++) {
        if (text[i] == '.') {
            after_point = 1;
        } else {
            fraction += after_point;
            plain[n++] = text[i];
        }
    }
    if (i < size) {
        int negative = text[++i] == '-';
        i += text[i] == '-' || text[i] == '+';
        for (; i < size; i++)
            exponent = BASE_MIN(exponent * 10 + (text[i] - '0'), 1000000L);
        exponent = negative ? -exponent : exponent;
    }
    if (scale_exactly(plain, n, exponent - fraction, out))
        return 1;
    snprintf(plain + n, sizeof plain - n, "e%ld", exponent - fraction);
    *out = strtod(plain, NULL);
    return isfinite(*out);
}

int base_json_number(struct base_json *out, const char *text, size_t size)
{
    *out = (struct base_json){.type = BASE_JSON_INT};
    if (read_integer(text, size, &out->as.integer))
        return 1;
    out->type = BASE_JSON_REAL;
    return read_real(text, size, &out->as.real);
}

static int on_number(void *ctx, const char *text, size_t size)
{
    struct parser *p = ctx;
    struct base_json *v = new_value(p, BASE_JSON_INT);
    if (!v)
        return 0;
    if (base_json_number(v, text, size))
        return 1;
    return refuse(p, "a number beyond the range of a double:", (struct base_view){text, size});
}

static int on_string(void *ctx, const unsigned char *text, size_t size)
{
    struct base_json *v = new_value(ctx, BASE_JSON_STRING);
    if (v)
        v->as.text = keep_string(ctx, text, size);
    return v != NULL;
}

static int on_key(void *ctx, const unsigned char *text, size_t size)
{
    struct parser *p = ctx;
    p->key = keep_string(p, text, size);
    return 1;
}

static int open_container(struct parser *p, int32_t type)
{
    struct base_json *v = new_value(p, type);
    if (!v)
        return 0;
    p->frames[p->depth++] =
        (struct frame){.container = v, .capacity = p->counts.commas[p->n_opened++] + 1};
    return 1;
}

static int on_object(void *ctx)
{
    return open_container(ctx, BASE_JSON_OBJECT);
}

static int on_array(void *ctx)
{
    return open_container(ctx, BASE_JSON_ARRAY);
}

static int keys_are_equal(struct base_view a, struct base_view b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

static int check_small_object(struct parser *p, const struct frame *f)
{
    for (uint32_t i = 1; i < f->container->n; i++)
        for (uint32_t j = 0; j < i; j++)
            if (keys_are_equal(f->members[i].key, f->members[j].key))
                return refuse(p, "duplicate key", f->members[i].key);
    return 1;
}

static int check_big_object(struct parser *p, const struct frame *f)
{
    struct base_map seen;
    int ok = 1;
    if (base_map_init(&seen, &p->arena->alloc, f->container->n) != INFER_OK)
        return refuse_memory(p);
    for (uint32_t i = 0; i < f->container->n && ok; i++) {
        struct base_view key = f->members[i].key;
        infer_status st = base_map_add(&seen, key.data, key.size, 0);
        if (st == INFER_AGAIN)
            ok = refuse(p, "duplicate key", key);
        else if (st != INFER_OK)
            ok = refuse_memory(p);
    }
    base_map_release(&seen);
    return ok;
}

static int on_object_end(void *ctx)
{
    struct parser *p = ctx;
    struct frame *f = &p->frames[--p->depth];
    f->container->as.member = f->members;
    return f->container->n <= SMALL_OBJECT ? check_small_object(p, f) : check_big_object(p, f);
}

static int on_array_end(void *ctx)
{
    struct parser *p = ctx;
    struct frame *f = &p->frames[--p->depth];
    f->container->as.items = f->items;
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_object,
    .yajl_map_key = on_key,
    .yajl_end_map = on_object_end,
    .yajl_start_array = on_array,
    .yajl_end_array = on_array_end,
};

/* "lexical error: invalid char in json text.\n" without what a sentence of ours lacks. */
static infer_status syntax_error(yajl_handle h, const char *text, size_t size, size_t at)
{
    char what[128];
    snprintf(what, sizeof what, "%s", (const char *)yajl_get_error(h, 0, NULL, 0));
    size_t n = strlen(what);
    while (n && (what[n - 1] == '\n' || what[n - 1] == '.' || what[n - 1] == ' '))
        what[--n] = 0;
    return json_error_at(INFER_ERR_FORMAT, text, size, at, what);
}

static infer_status parse_tokens(struct parser *p, const char *text, size_t size)
{
    const yajl_alloc_funcs memory = {yajl_new, yajl_resize, yajl_delete, p};
    if (setjmp(p->no_memory))
        return INFER_ERR_NO_MEMORY;
    yajl_handle h = yajl_alloc(&callbacks, (yajl_alloc_funcs *)&memory, p);
    yajl_status st = yajl_parse(h, (const unsigned char *)text, size);
    if (st == yajl_status_error)
        return syntax_error(h, text, size, yajl_get_bytes_consumed(h));
    size_t at = st == yajl_status_ok ? size : yajl_get_bytes_consumed(h);
    if (st == yajl_status_ok)
        st = yajl_complete_parse(h);
    if (st == yajl_status_error)
        return syntax_error(h, text, size, at);
    if (st == yajl_status_ok || p->status == INFER_ERR_NO_MEMORY)
        return p->status;
    return json_error_at(p->status, text, size, at, p->what);
}

infer_status base_json_parse(const struct base_json **out, struct base_arena *arena,
                             const char *text, size_t size)
{
    const struct base_alloc *a = &arena->alloc;
    infer_status st = INFER_ERR_NO_MEMORY;
    struct parser *p = base_new(a, 1, sizeof *p);
    struct base_json *root = base_arena_new(arena, 1, sizeof *root);
    if (!p || !root)
        goto done;
    p->arena = arena;
    if (!size)
        text = ""; /* an empty file has no bytes to point at */
    if ((st = json_scan(&p->counts, a, text, size)) != INFER_OK)
        goto done;
    st = INFER_ERR_NO_MEMORY;
    if (!(p->strings = base_arena_new(arena, size, 1)))
        goto done;
    st = parse_tokens(p, text, size);
    *root = p->root;
    if (st == INFER_OK)
        *out = root;
done:
    while (p && p->blocks)
        yajl_delete(p, p->blocks->bytes);
    if (p)
        base_free(a, p->counts.commas);
    base_free(a, p);
    return st;
}

const struct base_json *base_json_get(const struct base_json *v, const char *key)
{
    if (!base_json_is(v, BASE_JSON_OBJECT))
        return NULL;
    struct base_view wanted = {key, strlen(key)};
    for (uint32_t i = 0; i < v->n; i++)
        if (keys_are_equal(v->as.member[i].key, wanted))
            return &v->as.member[i].value;
    return NULL;
}

const struct base_json *base_json_path(const struct base_json *v, const char *path)
{
    char key[128];
    for (;;) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof key)
            return NULL;
        memcpy(key, path, n);
        key[n] = 0;
        v = base_json_get(v, key);
        if (!v || !path[n])
            return v;
        path += n + 1;
    }
}

const struct base_json *base_json_at(const struct base_json *v, size_t i)
{
    return base_json_is(v, BASE_JSON_ARRAY) && i < v->n ? &v->as.items[i] : NULL;
}

int base_json_is(const struct base_json *v, int32_t type)
{
    return v && v->type == type;
}

int base_json_i64(const struct base_json *v, int64_t *out)
{
    if (base_json_is(v, BASE_JSON_INT)) {
        *out = v->as.integer;
        return 1;
    }
    /* 2^63 as a double is the first that does not fit. */
    if (!base_json_is(v, BASE_JSON_REAL) || v->as.real != floor(v->as.real) ||
        v->as.real < -0x1p63 || v->as.real >= 0x1p63)
        return 0;
    *out = (int64_t)v->as.real;
    return 1;
}

int base_json_f64(const struct base_json *v, double *out)
{
    if (base_json_is(v, BASE_JSON_INT))
        *out = (double)v->as.integer;
    else if (base_json_is(v, BASE_JSON_REAL))
        *out = v->as.real;
    else
        return 0;
    return 1;
}

int base_json_bool(const struct base_json *v, int32_t *out)
{
    if (!base_json_is(v, BASE_JSON_TRUE) && !base_json_is(v, BASE_JSON_FALSE))
        return 0;
    *out = v->type == BASE_JSON_TRUE;
    return 1;
}

int base_json_string(const struct base_json *v, struct base_view *out)
{
    if (!base_json_is(v, BASE_JSON_STRING))
        return 0;
    *out = v->as.text;
    return 1;
}
