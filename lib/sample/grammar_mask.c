/* Which tokens may come next.
 *
 * Where a string goes on, nearly every token may: the states after any plain character are the
 * same one, and the sets of plain tokens by length are ready, so only the others are walked. Where
 * few tokens may, the walk leaps over all the rest. Sets are kept under their state's number. */
#include "sample/grammar_machine.h"

#include <string.h>

/* ------------------------------------------------------- plain characters */

/* Second bytes by lead byte, and how many bytes 80..BF follow them. */
static const struct {
    uint8_t lead_lo, lead_hi, lo, hi, tail;
} sequences[] = {
    {0xC2, 0xDF, 0x80, 0xBF, 0}, {0xE0, 0xE0, 0xA0, 0xBF, 1}, {0xE1, 0xEC, 0x80, 0xBF, 1},
    {0xED, 0xED, 0x80, 0x9F, 1}, {0xEE, 0xEF, 0x80, 0xBF, 1}, {0xF0, 0xF0, 0x90, 0xBF, 2},
    {0xF1, 0xF3, 0x80, 0xBF, 2}, {0xF4, 0xF4, 0x80, 0x8F, 2},
};

/* The one state that bytes lo..hi and `tail` more lead to, or DIFFER. */
static uint32_t through(struct grammar_machine *m, uint32_t state, uint8_t lo, uint8_t hi, int tail)
{
    uint32_t result = GRAMMAR_UNKNOWN, last = GRAMMAR_UNKNOWN;
    for (int c = m->grammar->classes[lo]; c <= m->grammar->classes[hi]; c++) {
        uint32_t to = grammar_machine_step(m, state, m->grammar->class_byte[c]);
        if (to == last)
            continue;
        last = to;
        if (tail && to != GRAMMAR_DEAD)
            to = through(m, to, 0x80, 0xBF, tail - 1);
        if (result == GRAMMAR_UNKNOWN)
            result = to;
        if (to != result || to == GRAMMAR_DIFFER)
            return GRAMMAR_DIFFER;
    }
    return result;
}

/* The one state that all of these ranges lead to, or DIFFER. */
static uint32_t through_all(struct grammar_machine *m, uint32_t state, const uint8_t (*ranges)[2],
                            size_t n)
{
    uint32_t result = through(m, state, ranges[0][0], ranges[0][1], 0);
    for (size_t i = 1; i < n && result != GRAMMAR_DIFFER; i++)
        if (through(m, state, ranges[i][0], ranges[i][1], 0) != result)
            result = GRAMMAR_DIFFER;
    return result;
}

static uint32_t find_word(struct grammar_machine *m, uint32_t state)
{
    static const uint8_t ascii[][2] = {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}};
    return through_all(m, state, ascii, BASE_COUNT(ascii));
}

static uint32_t find_plain(struct grammar_machine *m, uint32_t state)
{
    static const uint8_t ascii[][2] = {{' ', '!'}, {'#', '['}, {']', '~'}};
    uint32_t result = through_all(m, state, ascii, BASE_COUNT(ascii));
    for (size_t i = 0; i < BASE_COUNT(sequences) && result != GRAMMAR_DIFFER; i++) {
        uint8_t first = m->grammar->classes[sequences[i].lead_lo];
        uint8_t end = m->grammar->classes[sequences[i].lead_hi];
        uint32_t last = GRAMMAR_UNKNOWN;
        for (int c = first; c <= end; c++) {
            uint32_t to = grammar_machine_step(m, state, m->grammar->class_byte[c]);
            if (to == last)
                continue;
            last = to;
            if (to != GRAMMAR_DEAD)
                to = through(m, to, sequences[i].lo, sequences[i].hi, sequences[i].tail);
            if (to != result)
                return GRAMMAR_DIFFER;
        }
    }
    return result;
}

/* The same question to one node of the grammar alone, whatever stands below it: the one node that
 * bytes of ranges[0], then ranges[1] and so on lead to, or DIFFER. */
static uint32_t node_through(const struct infer_grammar *g, uint32_t at, const uint8_t (*ranges)[2],
                             int n)
{
    const struct grammar_node *node = &g->nodes[at];
    const struct grammar_edge *e = g->edges + node->edges;
    uint32_t result = GRAMMAR_UNKNOWN;
    int next = ranges[0][0]; /* the first byte that no edge has taken yet */
    if (node->n_calls)
        return GRAMMAR_DIFFER;
    for (uint32_t i = 0; i < node->n_edges && e[i].lo <= ranges[0][1]; i++) {
        if (e[i].hi < ranges[0][0])
            continue;
        uint32_t to = n > 1 ? node_through(g, e[i].target, ranges + 1, n - 1) : e[i].target;
        int is_first = result == GRAMMAR_UNKNOWN;
        if (is_first ? e[i].lo > next : e[i].lo != next || to != result)
            return GRAMMAR_DIFFER;
        result = to;
        next = e[i].hi + 1;
    }
    return next > ranges[0][1] ? result : GRAMMAR_DIFFER;
}

static uint32_t node_behind(const struct infer_grammar *g, uint32_t node, int words)
{
    static const uint8_t plain[][2] = {{' ', '!'}, {'#', '['}, {']', '~'}};
    static const uint8_t word[][2] = {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}};
    const uint8_t(*ascii)[2] = words ? word : plain;
    uint32_t result = node_through(g, node, ascii, 1);
    for (int i = 1; i < 3 && result != GRAMMAR_DIFFER; i++)
        if (node_through(g, node, ascii + i, 1) != result)
            return GRAMMAR_DIFFER;
    for (size_t i = 0; !words && i < BASE_COUNT(sequences) && result != GRAMMAR_DIFFER; i++) {
        const uint8_t ranges[][2] = {{sequences[i].lead_lo, sequences[i].lead_hi},
                                     {sequences[i].lo, sequences[i].hi},
                                     {0x80, 0xBF},
                                     {0x80, 0xBF}};
        if (node_through(g, node, ranges, 2 + sequences[i].tail) != result)
            return GRAMMAR_DIFFER;
    }
    return result;
}

/* Counted strings have a state for each character, all with the same node on top. */
static uint32_t find_by_node(struct grammar_machine *m, uint32_t state, int words)
{
    const struct grammar_set *set = &m->sets.data[state];
    if (set->n - (uint32_t)grammar_machine_accepts(m, state) != 1)
        return GRAMMAR_DIFFER;
    const struct grammar_item item = m->items.data[set->first];
    struct grammar_behind *known = &m->behind[(item.what * 2 + (uint32_t)words) % GRAMMAR_BEHIND];
    if (known->node != item.what || known->words != words)
        *known =
            (struct grammar_behind){item.what, node_behind(m->grammar, item.what, words), words};
    if (known->to == GRAMMAR_DIFFER)
        return GRAMMAR_DIFFER;
    return grammar_machine_close(m, known->to, item.below);
}

/* The state behind any plain character, or any of words. */
static uint32_t behind_any(struct grammar_machine *m, uint32_t state, int words)
{
    const struct grammar_set *set = &m->sets.data[state];
    uint32_t to = words ? set->word : set->plain;
    if (to != GRAMMAR_UNKNOWN)
        return to;
    to = find_by_node(m, state, words);
    if (to == GRAMMAR_DIFFER)
        to = words ? find_word(m, state) : find_plain(m, state);
    if (words)
        m->sets.data[state].word = to;
    else
        m->sets.data[state].plain = to;
    return to;
}

/* How many such characters may follow whatever they are, at most TEXT_PLAIN_MAX; *state moves
 * behind them. */
static size_t run_of(struct grammar_machine *m, uint32_t *state, int words)
{
    for (size_t n = 0; n < TEXT_PLAIN_MAX; n++) {
        uint32_t to = behind_any(m, *state, words);
        if (to == GRAMMAR_DEAD || to == GRAMMAR_DIFFER)
            return n;
        if (to == *state)
            return TEXT_PLAIN_MAX;
        *state = to;
    }
    return TEXT_PLAIN_MAX;
}

static int is_free(struct grammar_machine *m, uint32_t state, int words)
{
    const uint8_t yes = words ? 4 : 1, no = words ? 8 : 2;
    if (!(m->sets.data[state].free & (yes | no))) {
        uint32_t end = state;
        uint8_t free = run_of(m, &end, words) == TEXT_PLAIN_MAX ? yes : no;
        m->sets.data[state].free |= free;
    }
    return (m->sets.data[state].free & yes) != 0;
}

/* ------------------------------------------------------------------- walks */

/* Adds the tokens of some of a tree's roots that may follow. */
static void walk_roots(struct grammar_machine *m, uint32_t state,
                       const struct text_token_node *data, size_t first, size_t end, uint64_t *mask)
{
    uint32_t states[256];
    states[0] = state;
    for (size_t i = first; i < end;) {
        const struct text_token_node node = data[i];
        uint32_t to = grammar_machine_step(m, states[node.depth], node.byte);
        if (to == GRAMMAR_DEAD) {
            i = node.end;
            continue;
        }
        if (node.token >= 0)
            text_token_set_add(mask, node.token);
        if (node.depth < 255)
            states[node.depth + 1] = to;
        i++;
    }
}

static void walk(struct grammar_machine *m, uint32_t state, const struct text_token_nodes *nodes,
                 uint64_t *mask)
{
    walk_roots(m, state, nodes->data, 0, nodes->size, mask);
}

static void remove_all(uint64_t *mask, const struct text_token_node *data, size_t from, size_t end)
{
    for (size_t i = from; i < end; i++)
        if (data[i].token >= 0)
            text_token_set_remove(mask, data[i].token);
}

/* As walk(), but beginning with all of the tree's tokens and removing: for states from which most
 * ways lead to where any character may follow. */
static void walk_removing(struct grammar_machine *m, uint32_t state,
                          const struct text_token_nodes *nodes, uint64_t *mask)
{
    const struct text_token_node *data = nodes->data;
    uint32_t states[256];
    states[0] = state;
    for (size_t i = 0; i < nodes->size;) {
        const struct text_token_node node = data[i];
        uint32_t to = grammar_machine_step(m, states[node.depth], node.byte);
        if (to == GRAMMAR_DEAD)
            remove_all(mask, data, i, node.end);
        if (to == GRAMMAR_DEAD || is_free(m, to, 0)) {
            i = node.end;
            continue;
        }
        if (node.depth < 255)
            states[node.depth + 1] = to;
        i++;
    }
}

static int mostly_free(struct grammar_machine *m, uint32_t state)
{
    int n = 0;
    for (uint8_t letter = 'a'; letter <= 'z'; letter++)
        n += is_free(m, grammar_machine_step(m, state, letter), 0);
    return n > 13;
}

static void add_set(uint64_t *mask, const uint64_t *set, size_t n_words)
{
    for (size_t i = 0; i < n_words; i++)
        mask[i] |= set[i];
}

/* A character and a word: where any word may follow the character, all of them at once. */
static void fill_joined(struct grammar_machine *m, uint32_t state, uint64_t *mask)
{
    const struct text_token_node *data = m->tree->joined.data;
    const uint64_t *set = m->tree->behind;
    const size_t n_words = m->tree->n_words;
    for (size_t i = 0; i < m->tree->joined.size; i = data[i].end, set += n_words) {
        uint32_t to = grammar_machine_step(m, state, data[i].byte);
        if (to == GRAMMAR_DEAD)
            continue;
        if (is_free(m, to, 1))
            add_set(mask, set, n_words);
        else
            walk_roots(m, state, data, i, data[i].end, mask);
    }
}

/* Plain tokens, where not every one may follow. */
static void fill_plain(struct grammar_machine *m, uint32_t state, size_t run, uint64_t *mask)
{
    const struct text_token_tree *tree = m->tree;
    if (run == 0 && mostly_free(m, state)) {
        add_set(mask, text_token_tree_upto(tree, 0, TEXT_PLAIN_MAX), tree->n_words);
        walk_removing(m, state, &tree->words, mask);
        walk_removing(m, state, &tree->joined, mask);
        walk_removing(m, state, &tree->plain, mask);
        return;
    }
    uint32_t behind = state;
    run = run_of(m, &behind, 1);
    add_set(mask, text_token_tree_upto(tree, 1, run), tree->n_words);
    if (run < TEXT_PLAIN_MAX && behind_any(m, behind, 1) != GRAMMAR_DEAD)
        walk(m, state, &tree->words, mask);
    fill_joined(m, state, mask);
    walk(m, state, &tree->plain, mask);
}

static void fill(struct grammar_machine *m, uint32_t state, uint64_t *mask)
{
    const struct text_token_tree *tree = m->tree;
    uint32_t behind = state;
    size_t run = run_of(m, &behind, 0);
    memcpy(mask, text_token_tree_upto(tree, 0, run), tree->n_words * sizeof *mask);
    if (run < TEXT_PLAIN_MAX && behind_any(m, behind, 0) != GRAMMAR_DEAD)
        fill_plain(m, state, run, mask);
    walk(m, state, &tree->other, mask);
    for (size_t i = 0; i < tree->twins.size; i++)
        if (text_token_set_has(mask, tree->twins.data[i].of))
            text_token_set_add(mask, tree->twins.data[i].token);
}

const uint64_t *grammar_machine_mask(struct grammar_machine *m, uint32_t state, uint32_t *n)
{
    uint32_t place = m->sets.data[state].mask;
    if (!place) {
        place = m->next_mask;
        m->next_mask = (place + 1) % GRAMMAR_MASKS;
        if (!m->masks[place])
            m->masks[place] = base_new_raw(&m->alloc, m->tree->n_words, sizeof(uint64_t));
        if (!m->masks[place]) {
            m->status = INFER_ERR_NO_MEMORY;
            return NULL;
        }
        if (m->mask_owner[place] != GRAMMAR_UNKNOWN)
            m->sets.data[m->mask_owner[place]].mask = 0;
        m->mask_owner[place] = GRAMMAR_UNKNOWN;
        fill(m, state, m->masks[place]);
        if (m->status != INFER_OK)
            return NULL;
        m->mask_count[place] = 0;
        for (size_t i = 0; i < m->tree->n_words; i++)
            m->mask_count[place] += (uint32_t)__builtin_popcountll(m->masks[place][i]);
        m->mask_owner[place] = state;
        m->sets.data[state].mask = (uint16_t)(++place);
    }
    *n = m->mask_count[place - 1];
    return m->masks[place - 1];
}
