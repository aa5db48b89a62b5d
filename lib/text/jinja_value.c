/* Values: making them, lists and dicts, names of their kinds. */
#include "text/jinja_internal.h"

#include "base/error.h"
#include "base/hash.h"

#define SMALL_DICT     8   /* entries that are searched without an index */
#define MAX_KEY_VALUES 256 /* scalars in one tuple used as a key */

void jinja_heap_init(struct jinja_heap *h, const struct base_alloc *a, size_t limit_bytes)
{
    *h = (struct jinja_heap){.limit_bytes = limit_bytes};
    base_arena_init(&h->arena, a);
}

void jinja_heap_release(struct jinja_heap *h)
{
    base_arena_release(&h->arena);
}

struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}

struct jinja_value jinja_bool(int value)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .boolean = value != 0};
}

struct jinja_value jinja_int(int64_t value)
{
    return (struct jinja_value){.kind = JINJA_INT, .integer = value};
}

struct jinja_value jinja_float(double value)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .real = value};
}

struct jinja_value jinja_string(const char *text, size_t size)
{
    return (struct jinja_value){.kind = JINJA_STRING, .text = {text, size}};
}

struct jinja_value jinja_text(struct base_view text, int flag)
{
    return (struct jinja_value){.kind = JINJA_STRING, .flag = (uint8_t)flag, .text = text};
}

struct jinja_value jinja_copy(struct jinja_render *r, const char *text, size_t size)
{
    char *copy = jinja_new(r, size, 1);
    if (!copy)
        return jinja_no_value();
    if (size)
        memcpy(copy, text, size);
    return jinja_string(copy, size);
}

struct jinja_value jinja_undefined(struct base_view name)
{
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .flag = JINJA_LACKS_VARIABLE, .text = name};
}

struct jinja_value jinja_lacking(struct jinja_value object, struct base_view name)
{
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .flag = JINJA_LACKS_MEMBER, .of = object.kind, .text = name};
}

struct jinja_value jinja_hint(const char *sentence)
{
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .flag = JINJA_LACKS_HINT, .text = jinja_view_of(sentence)};
}

static struct jinja_value new_list(struct jinja_heap *h, uint8_t kind, size_t n)
{
    struct jinja_list *list = jinja_heap_new(h, 1, sizeof *list);
    if (list && n) {
        list->items = jinja_heap_new(h, n, sizeof *list->items);
        list->capacity = n;
    }
    if (!list || (n && !list->items))
        return jinja_no_value();
    return (struct jinja_value){.kind = kind, .list = list};
}

struct jinja_value jinja_list(struct jinja_heap *h)
{
    return new_list(h, JINJA_LIST, 0);
}

/* A list, tuple, view or iterator with room for `n`; the caller fills items and size. */
struct jinja_value jinja_list_of(struct jinja_render *r, uint8_t kind, size_t n)
{
    return new_list(&r->heap, kind, n);
}

struct jinja_value jinja_pair(struct jinja_render *r, struct jinja_value a, struct jinja_value b)
{
    struct jinja_value pair = jinja_list_of(r, JINJA_TUPLE, 2);
    if (!jinja_failed(r)) {
        pair.list->items[0] = a;
        pair.list->items[1] = b;
        pair.list->size = 2;
    }
    return pair;
}

void jinja_list_push(struct jinja_heap *h, struct jinja_value list, struct jinja_value item)
{
    if (h->status != INFER_OK)
        return;
    struct jinja_list *l = list.list;
    if (l->size == l->capacity) {
        size_t wider = l->capacity ? l->capacity * 2 : 4;
        struct jinja_value *items = jinja_heap_new(h, wider, sizeof *items);
        if (!items)
            return;
        if (l->size)
            memcpy(items, l->items, l->size * sizeof *items);
        l->items = items;
        l->capacity = wider;
    }
    l->items[l->size++] = item;
}

struct jinja_value jinja_dict(struct jinja_heap *h)
{
    struct jinja_dict *d = jinja_heap_new(h, 1, sizeof *d);
    return d ? (struct jinja_value){.kind = JINJA_DICT, .dict = d} : jinja_no_value();
}

static int hash_value(struct jinja_value v, uint64_t *hash, int *budget)
{
    double real;
    int64_t integer;
    if (--*budget < 0)
        return 0;
    switch (v.kind) {
    case JINJA_LIST:
    case JINJA_DICT:
    case JINJA_MISSING:
        return 0;
    case JINJA_STRING:
        *hash = base_hash64(v.text.data, v.text.size, *hash);
        return 1;
    case JINJA_TUPLE:
        for (size_t i = 0; i < v.list->size; i++)
            if (!hash_value(v.list->items[i], hash, budget))
                return 0;
        *hash = base_hash64(&v.list->size, sizeof v.list->size, *hash);
        return 1;
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT: /* 1, 1.0 and true are one key */
        jinja_as_number(v, &real);
        if (v.kind != JINJA_FLOAT)
            jinja_as_int(v, &integer);
        else if (real >= -9.2e18 && real <= 9.2e18 && real == (double)(int64_t)real)
            integer = (int64_t)real;
        else
            memcpy(&integer, &real, sizeof integer);
        *hash = base_hash64(&integer, sizeof integer, *hash);
        return 1;
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        *hash = base_hash64(&v.kind, sizeof v.kind, *hash);
        return 1;
    default: /* by identity */
        *hash = base_hash64(&v.list, sizeof v.list, *hash);
        return 1;
    }
}

int jinja_hashable(struct jinja_value v)
{
    int budget = MAX_KEY_VALUES;
    uint64_t hash = 0;
    return hash_value(v, &hash, &budget);
}

/* Differs by dict, so that keys cannot be aimed at one slot. */
static int hash_in(const struct jinja_dict *d, struct jinja_value key, uint64_t *hash)
{
    int budget = MAX_KEY_VALUES;
    *hash = (uint64_t)(uintptr_t)d * 0x9e3779b97f4a7c15u;
    return hash_value(key, hash, &budget);
}

static struct jinja_entry *find_entry(const struct jinja_dict *d, struct jinja_value key,
                                      uint64_t hash)
{
    if (!d->index) {
        for (size_t i = 0; i < d->size; i++)
            if (d->entries[i].hash == hash && jinja_same_key(d->entries[i].key, key))
                return &d->entries[i];
        return NULL;
    }
    size_t mask = d->n_index - 1;
    for (size_t i = (size_t)hash & mask; d->index[i]; i = (i + 1) & mask) {
        struct jinja_entry *e = &d->entries[d->index[i] - 1];
        if (e->hash == hash && jinja_same_key(e->key, key))
            return e;
    }
    return NULL;
}

static void index_entry(struct jinja_dict *d, size_t number)
{
    size_t mask = d->n_index - 1;
    size_t i = (size_t)d->entries[number].hash & mask;
    while (d->index[i])
        i = (i + 1) & mask;
    d->index[i] = (uint32_t)number + 1;
}

/* Doubles the entries; past a few, the index has twice as many slots. */
static int dict_grow(struct jinja_heap *h, struct jinja_dict *d)
{
    size_t wider = d->capacity ? d->capacity * 2 : 4;
    if (wider > UINT32_MAX / 4) {
        h->status = base_error(INFER_ERR_LIMIT, "a dict of more than %zu keys", d->size);
        return 0;
    }
    struct jinja_entry *entries = jinja_heap_new(h, wider, sizeof *entries);
    uint32_t *index = wider > SMALL_DICT ? jinja_heap_new(h, wider * 2, sizeof *index) : NULL;
    if (!entries || (wider > SMALL_DICT && !index))
        return 0;
    if (d->size)
        memcpy(entries, d->entries, d->size * sizeof *entries);
    d->entries = entries;
    d->capacity = wider;
    d->index = index;
    d->n_index = index ? wider * 2 : 0;
    for (size_t i = 0; index && i < d->size; i++)
        index_entry(d, i);
    return 1;
}

void jinja_dict_set(struct jinja_heap *h, struct jinja_value dict, struct jinja_value key,
                    struct jinja_value value)
{
    uint64_t hash;
    struct jinja_dict *d = dict.dict;
    if (h->status != INFER_OK)
        return;
    if (!hash_in(d, key, &hash)) {
        h->status = base_error(INFER_ERR_INVALID, "a value of type '%s' cannot be a dict's key",
                               jinja_type_name(key.kind));
        return;
    }
    struct jinja_entry *e = find_entry(d, key, hash);
    if (e) {
        e->value = value;
        return;
    }
    if (d->size == d->capacity && !dict_grow(h, d))
        return;
    d->entries[d->size++] = (struct jinja_entry){key, value, hash};
    if (d->index)
        index_entry(d, d->size - 1);
}

void jinja_put(struct jinja_render *r, struct jinja_value dict, struct jinja_value key,
               struct jinja_value value)
{
    if (jinja_failed(r))
        return;
    if (!jinja_hashable(key))
        jinja_fail(r, INFER_ERR_INVALID, "unhashable type: '%s'", jinja_type_name(key.kind));
    jinja_dict_set(&r->heap, dict, key, value);
}

const struct jinja_value *jinja_dict_find(const struct jinja_dict *d, struct jinja_value key)
{
    uint64_t hash;
    if (!hash_in(d, key, &hash))
        return NULL;
    const struct jinja_entry *e = find_entry(d, key, hash);
    return e ? &e->value : NULL;
}

const struct jinja_value *jinja_dict_get(const struct jinja_dict *d, const char *key, size_t size)
{
    return jinja_dict_find(d, jinja_string(key, size));
}

const char *jinja_type_name(uint8_t kind)
{
    static const char *const names[] = {
        [JINJA_MISSING] = "nothing", [JINJA_UNDEFINED] = "Undefined",
        [JINJA_NONE] = "NoneType",   [JINJA_BOOL] = "bool",
        [JINJA_INT] = "int",         [JINJA_FLOAT] = "float",
        [JINJA_STRING] = "str",      [JINJA_LIST] = "list",
        [JINJA_TUPLE] = "tuple",     [JINJA_DICT] = "dict",
        [JINJA_VIEW] = "dict view",  [JINJA_ITERATOR] = "generator",
        [JINJA_RANGE] = "range",     [JINJA_NAMESPACE] = "Namespace",
        [JINJA_MACRO] = "Macro",     [JINJA_FUNCTION] = "function",
        [JINJA_METHOD] = "method",   [JINJA_LOOP] = "LoopContext",
        [JINJA_CYCLER] = "Cycler",   [JINJA_JOINER] = "Joiner",
    };
    return kind < BASE_COUNT(names) ? names[kind] : "?";
}
