/* What the fuzz targets of grammars do with one that compiled: follow the start of a text through
 * it and look at each place. */
#ifndef TESTS_FUZZ_GRAMMAR_FOLLOW_H
#define TESTS_FUZZ_GRAMMAR_FOLLOW_H

#include "fuzz.h"
#include "support/test_alloc.h"

#include "base/error.h"
#include "sample/grammar_matcher.h"
#include "sample/grammar_read.h"

#define FOLLOW_BYTES 64

/* Every step leads on or nowhere; where it leads on, the text can become whole: no dead ends,
 * unless stacks grew too high. */
static inline void grammar_follow_bytes(struct grammar_matcher *m, uint32_t choice)
{
    struct base_str forced;
    int accepts = 0, more = 0, complete = 0;
    for (int n = 0; n < FOLLOW_BYTES; n++) {
        uint8_t alive[256];
        uint32_t n_alive = 0;
        fuzz_check(grammar_matcher_look(m, &accepts, &more) == INFER_OK);
        for (int byte = 0; byte < 256; byte++)
            if (grammar_machine_step(m->machine, m->state, (uint8_t)byte) != GRAMMAR_DEAD)
                alive[n_alive++] = (uint8_t)byte;
        fuzz_check(n_alive > 0 || !more || m->machine->overflows ||
                   m->machine->sets.data[m->state].depth + 2 >= GRAMMAR_DEPTH_MAX);
        fuzz_check(n_alive == 0 || more);
        if (!n_alive)
            break;
        choice = choice * 1664525u + 1013904223u;
        fuzz_check(grammar_matcher_push(m, (const char *)&alive[(choice >> 8) % n_alive], 1) ==
                   INFER_OK);
    }
    base_str_init(&forced, &m->alloc, 0);
    fuzz_check(grammar_matcher_forced_text(m, 32, &forced, &complete) == INFER_OK);
    fuzz_check(grammar_matcher_push(m, forced.data ? forced.data : "", forced.size) == INFER_OK);
    base_str_release(&forced);
}

static inline void grammar_follow(struct infer_grammar *g, const struct base_alloc *a,
                                  uint32_t choice)
{
    struct grammar_matcher m;
    fuzz_check(g->n_nodes > 0);
    fuzz_check(grammar_matcher_init(&m, a, g, NULL) == INFER_OK);
    grammar_follow_bytes(&m, choice);
    grammar_matcher_release(&m);
}

/* Compiles what `read` left in the builder, and follows it. */
static inline void grammar_finish(struct grammar_builder *b, infer_status st, uint32_t root,
                                  const struct test_alloc *t, uint32_t choice)
{
    struct infer_grammar *g = NULL;
    if (st == INFER_OK)
        st = grammar_compile(&g, b, root);
    fuzz_check(st <= INFER_OK && st != INFER_ERR_INTERNAL && st != INFER_ERR_NO_MEMORY);
    fuzz_check((st == INFER_OK) == (g != NULL));
    fuzz_check(st == INFER_OK || base_error_text()[0]);
    grammar_builder_release(b);
    if (g)
        grammar_follow(g, &t->alloc, choice);
    grammar_release(&g);
    fuzz_check(t->live_blocks == 0);
}

#endif
