/* Compiled templates: making and releasing them, their table of names. */
#include "text/jinja_node.h"

#include "base/error.h"
#include "text/unicode.h"

jinja_symbol jinja_symbol_of(struct jinja_template *t, struct base_view name)
{
    jinja_symbol found = base_map_get(&t->symbols, name.data, name.size, -1);
    if (found >= 0)
        return found;
    struct {
        struct base_view *data;
        size_t size, capacity;
    } names = {t->names, t->n_names, t->names_capacity};
    infer_status st = base_array_push(&t->alloc, &names, name);
    t->names = names.data;
    t->names_capacity = names.capacity;
    if (st == INFER_OK)
        st = base_map_add(&t->symbols, name.data, name.size, (int32_t)t->n_names);
    if (st != INFER_OK)
        return st;
    return (jinja_symbol)t->n_names++;
}

/* A copy with "\n" for every kind of line end, and without the last one. */
static infer_status copy_source(struct jinja_template *t, const char *source, size_t size,
                                struct base_view *out)
{
    char *copy = base_arena_new(&t->arena, size + 1, 1);
    size_t n = 0;
    if (!copy)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < size; i++) {
        if (source[i] == '\r' && i + 1 < size && source[i + 1] == '\n')
            continue;
        copy[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n > 0 && copy[n - 1] == '\n')
        n--;
    *out = (struct base_view){copy, n};
    return INFER_OK;
}

static infer_status compile(struct jinja_template *t, const char *source, size_t size)
{
    static const char *const fixed[JINJA_SYMBOL_FIXED] = {"loop", "caller", "varargs", "kwargs"};
    jinja_tokens tokens = {0};
    struct base_view text;
    infer_status st = base_map_init(&t->symbols, &t->alloc, 64);
    for (size_t i = 0; st == INFER_OK && i < BASE_COUNT(fixed); i++) {
        jinja_symbol symbol = jinja_symbol_of(t, (struct base_view){fixed[i], strlen(fixed[i])});
        if (symbol < 0)
            st = symbol;
    }
    if (st == INFER_OK)
        st = copy_source(t, source, size, &text);
    if (st == INFER_OK)
        st = jinja_lex(&tokens, &t->alloc, text);
    if (st == INFER_OK)
        st = jinja_parse(t, &tokens);
    base_array_release(&t->alloc, &tokens);
    return st;
}

infer_status jinja_template_create(struct jinja_template **out, const struct base_alloc *a,
                                   const char *source, size_t size)
{
    if (size > JINJA_MAX_SOURCE_BYTES)
        return base_error(INFER_ERR_LIMIT, "a template of %zu bytes, more than %u", size,
                          JINJA_MAX_SOURCE_BYTES);
    size_t valid = text_utf8_valid_prefix(source, size);
    if (valid != size)
        return base_error(INFER_ERR_FORMAT, "the template is not UTF-8 at byte %zu", valid);
    struct jinja_template *t = base_new(a, 1, sizeof *t);
    if (!t)
        return INFER_ERR_NO_MEMORY;
    t->alloc = *a;
    base_arena_init(&t->arena, a);
    infer_status st = compile(t, source, size);
    if (st != INFER_OK)
        jinja_template_destroy(&t);
    else
        *out = t;
    return st;
}

void jinja_template_destroy(struct jinja_template **t)
{
    if (!t || !*t)
        return;
    struct base_alloc a = (*t)->alloc;
    base_map_release(&(*t)->symbols);
    base_free(&a, (*t)->names);
    base_arena_release(&(*t)->arena);
    base_free(&a, *t);
    *t = NULL;
}
