/* Compiled grammars by their text: lines of a batch often carry the same schema, and a grammar's
 * masks are remembered with it. */
#ifndef INFER_GRAMMAR_CACHE_H
#define INFER_GRAMMAR_CACHE_H

#include <infer/infer.h>

#define GRAMMAR_CACHE_MAX 16

struct grammar_cache {
    struct grammar_entry {
        infer_grammar_kind kind;
        int32_t compact;
        char *text; /* what it was made of */
        size_t size;
        infer_grammar *grammar;
        uint64_t used; /* when it was last asked for */
    } entries[GRAMMAR_CACHE_MAX];
    uint64_t clock;
};

/* The grammar of these options, known again by kind, compact and `text`. Borrowed until the next
 * call; requests keep it. What does not compile is asked for anew each time. */
infer_status grammar_cache_get(struct grammar_cache *cache, infer_grammar **out,
                               const infer_grammar_options *options, const char *text, size_t size);
void grammar_cache_free(struct grammar_cache *cache);

#endif
