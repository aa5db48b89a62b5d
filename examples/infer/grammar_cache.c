/* A few compiled grammars; the one unused for longest makes room. */
#include "grammar_cache.h"

#include <stdlib.h>
#include <string.h>

static void drop(struct grammar_entry *entry)
{
    infer_grammar_destroy(&entry->grammar);
    free(entry->text);
    *entry = (struct grammar_entry){0};
}

static int is_same(const struct grammar_entry *entry, const infer_grammar_options *options,
                   const char *text, size_t size)
{
    return entry->grammar && entry->kind == options->kind && entry->compact == options->compact &&
           entry->size == size && memcmp(entry->text, text, size) == 0;
}

infer_status grammar_cache_get(struct grammar_cache *cache, infer_grammar **out,
                               const infer_grammar_options *options, const char *text, size_t size)
{
    struct grammar_entry *oldest = &cache->entries[0];
    struct grammar_entry fresh = {.kind = options->kind, .compact = options->compact};
    infer_status status;
    cache->clock++;
    for (size_t i = 0; i < GRAMMAR_CACHE_MAX; i++) {
        struct grammar_entry *entry = &cache->entries[i];
        if (is_same(entry, options, text, size)) {
            entry->used = cache->clock;
            *out = entry->grammar;
            return INFER_OK;
        }
        if (entry->used < oldest->used)
            oldest = entry;
    }
    fresh.text = malloc(size + 1);
    if (!fresh.text)
        return INFER_ERR_NO_MEMORY;
    memcpy(fresh.text, text, size);
    fresh.size = size;
    fresh.used = cache->clock;
    status = infer_grammar_create(&fresh.grammar, options);
    if (status != INFER_OK) {
        free(fresh.text);
        return status;
    }
    drop(oldest);
    *oldest = fresh;
    *out = fresh.grammar;
    return INFER_OK;
}

void grammar_cache_free(struct grammar_cache *cache)
{
    for (size_t i = 0; i < GRAMMAR_CACHE_MAX; i++)
        drop(&cache->entries[i]);
}
