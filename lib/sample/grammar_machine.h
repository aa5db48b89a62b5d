/* A grammar at work: states, found as they are needed and kept.
 *
 * A state is the set of all stacks that the text so far allows, with what each waits for on top.
 * Stacks are shared: a set's members are (what, count, the set of stacks below), no two with the
 * same (what, count), and equal sets are one object with one number. So a state is a number, the
 * step by a byte and the set of allowed tokens are remembered under it, and grammars whose stacks
 * would multiply stay small (Tomita's graph-structured stack, interned).
 *
 * All functions but those named so are called under `lock`. */
#ifndef SAMPLE_GRAMMAR_MACHINE_H
#define SAMPLE_GRAMMAR_MACHINE_H

#include "sample/grammar.h"
#include "text/token_tree.h"

#define GRAMMAR_BOTTOM  0u /* the set that holds the empty stack alone */
#define GRAMMAR_DEAD    1u /* the state from which nothing goes on */
#define GRAMMAR_UNKNOWN UINT32_MAX
#define GRAMMAR_DIFFER  (UINT32_MAX - 1)

#define GRAMMAR_MASKS         128         /* sets of tokens kept */
#define GRAMMAR_DEPTH_MAX     1000        /* of stacks: deeper nesting is not allowed */
#define GRAMMAR_ITEMS_MAX     4096        /* of one set */
#define GRAMMAR_CACHE_BYTES   (48u << 20) /* then everything found is forgotten */
#define GRAMMAR_JOINED        256
#define GRAMMAR_CLOSED        512
#define GRAMMAR_BEHIND        256
#define GRAMMAR_IDLE_MACHINES 3

/* In a state `what` is a node whose bytes are waited for; below, a call that is running. */
#define GRAMMAR_END UINT32_MAX /* the end: nothing on the stack */
struct grammar_item {
    uint32_t what, count, below;
};

struct grammar_set {
    uint32_t first, n; /* items */
    uint32_t depth;
    uint32_t next;  /* block of steps by class, or UNKNOWN */
    uint32_t plain; /* the state that all plain characters lead to, DEAD, DIFFER or UNKNOWN */
    uint32_t word;  /* the same of ASCII letters and digits */
    uint16_t mask;  /* place among the masks, plus 1 */
    uint8_t free;   /* plain characters lead on for as long as a token can be: 1 yes, 2 no; the
                       same of words: 4, 8 */
    uint8_t is_state;
};

struct grammar_joined {
    uint32_t a, b, result;
};

struct grammar_closed {
    uint32_t node, stacks, state;
};

/* The node that all plain characters lead to from a node, or all of words. */
struct grammar_behind {
    uint32_t node, to;
    int32_t words;
};

struct grammar_machine {
    struct grammar_machine *link; /* the grammar's next */
    struct base_alloc alloc;
    struct infer_grammar *grammar;
    struct text_token_tree *tree; /* NULL: texts only, no tokens; a reference */
    pthread_mutex_t lock;
    uint32_t users; /* under the grammar's lock */

    uint32_t epoch; /* grows when everything is forgotten */
    infer_status status;
    BASE_ARRAY(struct grammar_item) items;
    BASE_ARRAY(struct grammar_set) sets;
    BASE_ARRAY(uint32_t) steps; /* n_classes for each block */
    uint32_t *slots;            /* sets by hash */
    size_t n_slots;
    uint32_t start;

    /* work space */
    BASE_ARRAY(struct grammar_item) out; /* of the state being made; sets on top while joining */
    BASE_ARRAY(uint64_t) todo;           /* node << 32 | stacks */
    BASE_ARRAY(uint64_t) seen;           /* hash table of these, n_seen used */
    size_t n_seen;

    int overflow;       /* the state being made has too many stacks: it counts as DEAD */
    uint64_t overflows; /* how often */
    struct grammar_joined joined[GRAMMAR_JOINED]; /* the last results of joining */
    struct grammar_closed closed[GRAMMAR_CLOSED]; /* and of single ways */
    struct grammar_behind behind[GRAMMAR_BEHIND];

    uint64_t *masks[GRAMMAR_MASKS + 1]; /* tree->n_words each, made when needed */
    uint32_t mask_owner[GRAMMAR_MASKS];
    uint32_t mask_count[GRAMMAR_MASKS]; /* tokens in each */
    uint32_t next_mask;
};

/* The grammar's machine for a vocabulary, made if there is none; tree may be NULL. Takes the
 * grammar's lock. */
infer_status grammar_machine_get(struct grammar_machine **out, struct infer_grammar *g,
                                 struct text_token_tree *tree);
/* Gives it back. Takes the grammar's lock. */
void grammar_machine_put(struct grammar_machine *m);
/* Of the grammar that ends. */
void grammar_machines_destroy(struct infer_grammar *g);
size_t grammar_machines_bytes(struct infer_grammar *g);

/* The state after a byte; DEAD also where more than GRAMMAR_ITEMS_MAX stacks would be possible,
 * which `overflows` counts. Failures stand in m->status; the state is DEAD then. */
uint32_t grammar_machine_step_class(struct grammar_machine *m, uint32_t state, uint32_t byte_class);
/* The state of one node on top of these stacks. */
uint32_t grammar_machine_close(struct grammar_machine *m, uint32_t node, uint32_t stacks);

/* Whether the text may end here. */
int grammar_machine_accepts(const struct grammar_machine *m, uint32_t state);

/* Forgets everything if it takes too much memory, or after a failure; states of earlier epochs
 * are then nothing any more. */
infer_status grammar_machine_tidy(struct grammar_machine *m);

static inline uint32_t grammar_machine_step(struct grammar_machine *m, uint32_t state, uint8_t byte)
{
    const uint32_t c = m->grammar->classes[byte];
    const uint32_t block = m->sets.data[state].next;
    if (block != GRAMMAR_UNKNOWN) {
        const uint32_t to = m->steps.data[block + c];
        if (to != GRAMMAR_UNKNOWN)
            return to;
    }
    return grammar_machine_step_class(m, state, c);
}

/* The tokens that may come next, as a set of the tree's width; borrowed until the next call. The
 * tree's end tokens are not in it. *n receives their number. */
const uint64_t *grammar_machine_mask(struct grammar_machine *m, uint32_t state, uint32_t *n);

#endif
