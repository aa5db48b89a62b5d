/* Names that grow beside readers: a chained hash table whose chains lead from new to old. */
#include "vector/names.h"

#include "base/error.h"
#include "base/hash.h"
#include "vector/chunks.h"

#include <stdatomic.h>
#include <string.h>

#define BLOCK_BYTES 16384
#define FIRST_HEADS 64
#define NAMES_MAX   (INT32_MAX - 1)
#define ENTRY_EXTRA 1 /* the length before the bytes */

struct entry {
    const uint8_t *text; /* length, then the bytes */
    uint32_t group, hash;
};

/* Replaced by one of twice the size when it is full; readers may still be in the one before. */
struct table {
    struct table *before;
    uint32_t mask;
    int32_t *next;           /* of each number, the next older one; -1: none */
    _Atomic int32_t heads[]; /* mask + 1 */
};

struct block {
    struct block *before;
    size_t size, used;
    uint8_t bytes[];
};

struct vector_names {
    struct base_alloc alloc;
    struct vector_chunks entries;
    struct block *blocks;
    _Atomic(struct table *) table;
    int32_t n;
    uint64_t bytes; /* of blocks and tables */
};

infer_status vector_chunks_reserve(struct vector_chunks *c, const struct base_alloc *a, int64_t n)
{
    for (int k = 0; c->room < n; k++) {
        const size_t size = (size_t)VECTOR_CHUNK_FIRST << k;
        if (c->chunk[k])
            continue;
        c->chunk[k] = base_new_pages(a, size * c->bytes);
        if (!c->chunk[k])
            return INFER_ERR_NO_MEMORY;
        memset(c->chunk[k], 0, size * c->bytes);
        c->room += (int64_t)size;
    }
    return INFER_OK;
}

void vector_chunks_release(struct vector_chunks *c, const struct base_alloc *a)
{
    for (int k = 0; k < VECTOR_CHUNKS; k++)
        base_free_pages(a, c->chunk[k], ((size_t)VECTOR_CHUNK_FIRST << k) * c->bytes);
    memset(c->chunk, 0, sizeof c->chunk);
    c->room = 0;
}

uint64_t vector_chunks_bytes(const struct vector_chunks *c)
{
    return (uint64_t)c->room * c->bytes;
}

int vector_names_compare(struct base_view a, struct base_view b)
{
    const size_t n = BASE_MIN(a.size, b.size);
    const int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static uint32_t hash_of(uint32_t group, struct base_view name)
{
    const uint64_t h = base_hash64(name.data, name.size, group);
    return (uint32_t)(h ^ h >> 32);
}

/* ------------------------------------------------------------------ the table */

static void link_name(struct table *t, int32_t number, uint32_t hash)
{
    _Atomic int32_t *head = &t->heads[hash & t->mask];
    t->next[number] = atomic_load_explicit(head, memory_order_relaxed);
    atomic_store_explicit(head, number, memory_order_release);
}

static size_t table_bytes(uint32_t n_heads)
{
    return sizeof(struct table) + n_heads * sizeof(_Atomic int32_t);
}

static infer_status make_table(struct vector_names *names, uint32_t n_heads)
{
    struct table *old = atomic_load_explicit(&names->table, memory_order_relaxed);
    const size_t bytes = table_bytes(n_heads);
    struct table *t = base_new_pages(&names->alloc, bytes);
    int32_t *next = t ? base_new_pages(&names->alloc, n_heads * sizeof *next) : NULL;
    if (!next) {
        base_free_pages(&names->alloc, t, bytes);
        return INFER_ERR_NO_MEMORY;
    }
    t->before = old;
    t->mask = n_heads - 1;
    t->next = next;
    for (uint32_t i = 0; i < n_heads; i++)
        atomic_init(&t->heads[i], -1);
    for (int32_t i = 0; i < names->n; i++)
        link_name(t, i, ((const struct entry *)vector_chunks_at(&names->entries, i))->hash);
    names->bytes += bytes + n_heads * sizeof *next;
    atomic_store_explicit(&names->table, t, memory_order_release);
    return INFER_OK;
}

/* -------------------------------------------------------------------- names */

infer_status vector_names_create(struct vector_names **out, const struct base_alloc *a)
{
    struct vector_names *names = base_new(a, 1, sizeof *names);
    if (!names)
        return INFER_ERR_NO_MEMORY;
    names->alloc = *a;
    names->entries.bytes = sizeof(struct entry);
    infer_status st = make_table(names, FIRST_HEADS);
    if (st != INFER_OK)
        vector_names_destroy(&names);
    else
        *out = names;
    return st;
}

void vector_names_destroy(struct vector_names **names)
{
    struct vector_names *n = *names;
    if (!n)
        return;
    for (struct block *b = n->blocks, *before; b; b = before) {
        before = b->before;
        base_free(&n->alloc, b);
    }
    for (struct table *t = atomic_load(&n->table), *before; t; t = before) {
        before = t->before;
        base_free_pages(&n->alloc, t->next, (t->mask + 1) * sizeof *t->next);
        base_free_pages(&n->alloc, t, table_bytes(t->mask + 1));
    }
    vector_chunks_release(&n->entries, &n->alloc);
    base_free(&n->alloc, n);
    *names = NULL;
}

infer_status vector_names_reserve(struct vector_names *names, int32_t n, size_t bytes)
{
    if (n > NAMES_MAX - names->n)
        return base_error(INFER_ERR_LIMIT, "a part of the index has %d names, %d more are too many",
                          names->n, n);
    infer_status st = vector_chunks_reserve(&names->entries, &names->alloc, (int64_t)names->n + n);
    if (st != INFER_OK)
        return st;
    uint64_t n_heads =
        (uint64_t)atomic_load_explicit(&names->table, memory_order_relaxed)->mask + 1;
    const uint64_t had = n_heads;
    while (n_heads < (uint64_t)names->n + (uint64_t)n)
        n_heads *= 2;
    if (n_heads > had)
        st = make_table(names, (uint32_t)n_heads);
    const size_t needed = bytes + (size_t)n * ENTRY_EXTRA;
    if (st != INFER_OK || (names->blocks && names->blocks->size - names->blocks->used >= needed))
        return st;
    const size_t size = BASE_MAX(needed, (size_t)BLOCK_BYTES);
    struct block *b = base_new_raw(&names->alloc, 1, sizeof *b + size);
    if (!b)
        return INFER_ERR_NO_MEMORY;
    *b = (struct block){.before = names->blocks, .size = size};
    names->blocks = b;
    names->bytes += sizeof *b + size;
    return INFER_OK;
}

int32_t vector_names_add(struct vector_names *names, uint32_t group, struct base_view name)
{
    struct block *b = names->blocks;
    uint8_t *text = b->bytes + b->used;
    const int32_t number = names->n++;
    struct entry *e = vector_chunks_at(&names->entries, number);
    b->used += name.size + ENTRY_EXTRA;
    text[0] = (uint8_t)name.size;
    if (name.size)
        memcpy(text + 1, name.data, name.size);
    *e = (struct entry){text, group, hash_of(group, name)};
    link_name(atomic_load_explicit(&names->table, memory_order_relaxed), number, e->hash);
    return number;
}

int32_t vector_names_find(const struct vector_names *names, uint32_t group, struct base_view name,
                          int32_t below)
{
    const uint32_t hash = hash_of(group, name);
    const struct table *t = atomic_load_explicit(&names->table, memory_order_acquire);
    int32_t i = atomic_load_explicit(&t->heads[hash & t->mask], memory_order_acquire);
    for (; i >= 0; i = t->next[i]) {
        const struct entry *e = vector_chunks_at(&names->entries, i);
        if (i < below && e->hash == hash && e->group == group && e->text[0] == name.size &&
            memcmp(e->text + 1, name.data, name.size) == 0)
            return i;
    }
    return -1;
}

struct base_view vector_names_get(const struct vector_names *names, int32_t number)
{
    const struct entry *e = vector_chunks_at(&names->entries, number);
    return (struct base_view){(const char *)e->text + 1, e->text[0]};
}

uint32_t vector_names_group(const struct vector_names *names, int32_t number)
{
    return ((const struct entry *)vector_chunks_at(&names->entries, number))->group;
}

uint64_t vector_names_bytes(const struct vector_names *names)
{
    return sizeof *names + names->bytes + vector_chunks_bytes(&names->entries);
}
