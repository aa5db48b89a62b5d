/* Building expressions in an arena. */
#include "sample/grammar_expr.h"

#include "base/error.h"

#include <string.h>

/* Front ends build in proportion to their text; this is for what they multiply. */
#define BUILDER_BYTES_MAX ((size_t)256 << 20)

static const struct grammar_expr never = {.kind = GRAMMAR_NEVER};
static const struct grammar_expr empty = {.kind = GRAMMAR_BYTES, .as.bytes = {"", 0}};

void grammar_builder_init(struct grammar_builder *b, const struct base_alloc *a)
{
    *b = (struct grammar_builder){.alloc = *a, .max_bytes = BUILDER_BYTES_MAX};
    base_arena_init(&b->arena, a);
}

void grammar_builder_release(struct grammar_builder *b)
{
    base_array_release(&b->alloc, &b->rules);
    base_arena_release(&b->arena);
}

void grammar_builder_fail(struct grammar_builder *b, infer_status status)
{
    if (b->status == INFER_OK)
        b->status = status;
}

static void *take(struct grammar_builder *b, size_t n, size_t size)
{
    if (b->status != INFER_OK)
        return NULL;
    if (b->arena.used_bytes > b->max_bytes) {
        b->status = base_error(INFER_ERR_LIMIT, "the grammar takes more than %zu MiB to build",
                               b->max_bytes >> 20);
        return NULL;
    }
    void *p = base_arena_new(&b->arena, n, size);
    if (!p)
        b->status = INFER_ERR_NO_MEMORY;
    return p;
}

static struct grammar_expr *new_expr(struct grammar_builder *b, int32_t kind)
{
    struct grammar_expr *e = take(b, 1, sizeof *e);
    if (e)
        e->kind = kind;
    return e;
}

uint32_t grammar_rule_new(struct grammar_builder *b, const char *name, size_t size)
{
    char *copy = take(b, size + 1, 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, name, size);
    struct grammar_rule rule = {.name = {copy, size}};
    if (base_array_push(&b->alloc, &b->rules, rule) != INFER_OK)
        b->status = INFER_ERR_NO_MEMORY;
    return b->rules.size ? (uint32_t)b->rules.size - 1 : 0;
}

void grammar_rule_set(struct grammar_builder *b, uint32_t rule, const struct grammar_expr *body)
{
    if (b->status == INFER_OK)
        b->rules.data[rule].body = body;
}

const struct grammar_expr *grammar_never(struct grammar_builder *b)
{
    BASE_UNUSED(b);
    return &never;
}

const struct grammar_expr *grammar_empty(struct grammar_builder *b)
{
    BASE_UNUSED(b);
    return &empty;
}

const struct grammar_expr *grammar_bytes(struct grammar_builder *b, const char *text, size_t size)
{
    struct grammar_expr *e = size ? new_expr(b, GRAMMAR_BYTES) : NULL;
    char *copy = e ? take(b, size, 1) : NULL;
    if (!copy)
        return &empty;
    memcpy(copy, text, size);
    e->as.bytes = (struct base_view){copy, size};
    return e;
}

const struct grammar_expr *grammar_text(struct grammar_builder *b, const char *text)
{
    return grammar_bytes(b, text, strlen(text));
}

const struct grammar_expr *grammar_chars(struct grammar_builder *b, const struct charset *set)
{
    struct grammar_expr *e = set->size ? new_expr(b, GRAMMAR_CHARS) : NULL;
    struct charset_range *ranges = e ? take(b, set->size, sizeof *ranges) : NULL;
    if (!ranges)
        return &never;
    memcpy(ranges, set->data, set->size * sizeof *ranges);
    e->n = (uint32_t)set->size;
    e->as.ranges = ranges;
    return e;
}

const struct grammar_expr *grammar_byte(struct grammar_builder *b, uint8_t lo, uint8_t hi)
{
    struct grammar_expr *e = new_expr(b, GRAMMAR_BYTE);
    if (!e)
        return &never;
    e->as.byte.lo = lo;
    e->as.byte.hi = hi;
    return e;
}

static const struct grammar_expr *new_list(struct grammar_builder *b, int32_t kind,
                                           const struct grammar_expr *const *items, size_t n)
{
    struct grammar_expr *e = new_expr(b, kind);
    const struct grammar_expr **copy = e ? take(b, n, sizeof *copy) : NULL;
    if (!copy)
        return &never;
    memcpy(copy, items, n * sizeof *copy);
    e->n = (uint32_t)n;
    e->as.items = copy;
    return e;
}

const struct grammar_expr *grammar_seq(struct grammar_builder *b,
                                       const struct grammar_expr *const *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (items[i]->kind == GRAMMAR_NEVER)
            return &never;
    if (n <= 1)
        return n ? items[0] : &empty;
    return new_list(b, GRAMMAR_SEQ, items, n);
}

const struct grammar_expr *grammar_alt(struct grammar_builder *b,
                                       const struct grammar_expr *const *items, size_t n)
{
    const struct grammar_expr *last = &never;
    size_t alive = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i]->kind == GRAMMAR_NEVER)
            continue;
        last = items[i];
        alive++;
    }
    return alive <= 1 ? last : new_list(b, GRAMMAR_ALT, items, n);
}

const struct grammar_expr *grammar_repeat(struct grammar_builder *b,
                                          const struct grammar_expr *body, uint32_t min,
                                          uint32_t max)
{
    if (min == 1 && max == 1)
        return body;
    if (max == 0 || (body->kind == GRAMMAR_NEVER && min == 0))
        return &empty;
    if (body->kind == GRAMMAR_NEVER || min > max)
        return &never;
    struct grammar_expr *e = new_expr(b, GRAMMAR_REPEAT);
    if (!e)
        return &never;
    e->as.repeat.body = body;
    e->as.repeat.min = min;
    e->as.repeat.max = max;
    return e;
}

const struct grammar_expr *grammar_call(struct grammar_builder *b, uint32_t rule)
{
    struct grammar_expr *e = new_expr(b, GRAMMAR_RULE);
    if (!e)
        return &never;
    e->n = rule;
    return e;
}

const struct grammar_expr *grammar_graph(struct grammar_builder *b, const struct grammar_arc *arcs,
                                         size_t n_arcs, const uint8_t *accepts, size_t n_states)
{
    struct grammar_expr *e = new_expr(b, GRAMMAR_GRAPH);
    struct grammar_arc *arcs_copy = e ? take(b, n_arcs, sizeof *arcs_copy) : NULL;
    uint8_t *accepts_copy = arcs_copy ? take(b, n_states, 1) : NULL;
    if (!accepts_copy)
        return &never;
    if (n_arcs)
        memcpy(arcs_copy, arcs, n_arcs * sizeof *arcs);
    memcpy(accepts_copy, accepts, n_states);
    e->n = (uint32_t)n_arcs;
    e->as.graph.arcs = arcs_copy;
    e->as.graph.accepts = accepts_copy;
    e->as.graph.n_states = (uint32_t)n_states;
    return e;
}

void grammar_list_add(struct grammar_builder *b, grammar_list *list,
                      const struct grammar_expr *item)
{
    if (b->status == INFER_OK && base_array_push(&b->alloc, list, item) != INFER_OK)
        b->status = INFER_ERR_NO_MEMORY;
}
