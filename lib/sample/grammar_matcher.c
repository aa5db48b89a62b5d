/* Moving through a grammar, by bytes and by tokens. */
#include "sample/grammar_matcher.h"

#include "base/error.h"
#include "text/unicode.h"

#define FORCED_TEXT_MAX 4096

infer_status grammar_matcher_init(struct grammar_matcher *m, const struct base_alloc *a,
                                  struct infer_grammar *grammar,
                                  const struct text_tokenizer *tokenizer)
{
    struct text_token_tree *tree = NULL;
    *m = (struct grammar_matcher){.alloc = *a, .tokenizer = tokenizer};
    infer_status st = tokenizer ? text_tokenizer_tree(&tree, tokenizer) : INFER_OK;
    if (st == INFER_OK)
        st = grammar_machine_get(&m->machine, grammar, tree);
    if (st == INFER_OK) {
        m->grammar = grammar_retain(grammar);
        base_str_init(&m->text, &m->alloc, 0);
        if (tree && !(m->mask = base_new_raw(a, tree->n_words, sizeof *m->mask)))
            st = INFER_ERR_NO_MEMORY;
    }
    text_token_tree_release(&tree);
    if (st != INFER_OK)
        grammar_matcher_release(m);
    return st;
}

void grammar_matcher_release(struct grammar_matcher *m)
{
    if (m->machine)
        grammar_machine_put(m->machine);
    grammar_release(&m->grammar);
    base_str_release(&m->text);
    base_array_release(&m->alloc, &m->forced);
    base_array_release(&m->alloc, &m->marked_forced);
    base_free(&m->alloc, m->mask);
    m->mask = NULL;
    m->machine = NULL;
}

/* After `size` bytes, or DEAD. */
static uint32_t run(struct grammar_machine *machine, uint32_t state, const char *text, size_t size)
{
    for (size_t i = 0; i < size && state != GRAMMAR_DEAD; i++)
        state = grammar_machine_step(machine, state, (uint8_t)text[i]);
    return state;
}

/* Every use of a machine begins here, and with this text's state known. */
static infer_status lock(struct grammar_matcher *m)
{
    struct grammar_machine *machine = m->machine;
    pthread_mutex_lock(&machine->lock);
    infer_status st = grammar_machine_tidy(machine);
    if (st == INFER_OK && m->epoch != machine->epoch) {
        m->state = run(machine, machine->start, m->text.data, m->text.size);
        m->epoch = machine->epoch;
        st = machine->status;
    }
    if (st != INFER_OK)
        pthread_mutex_unlock(&machine->lock);
    return st;
}

static infer_status unlock(struct grammar_matcher *m)
{
    infer_status st = m->machine->status;
    pthread_mutex_unlock(&m->machine->lock);
    return st;
}

infer_status grammar_matcher_push(struct grammar_matcher *m, const char *text, size_t size)
{
    infer_status st = lock(m);
    if (st != INFER_OK)
        return st;
    uint64_t overflows = m->machine->overflows;
    uint32_t state = run(m->machine, m->state, text, size);
    overflows = m->machine->overflows - overflows;
    st = unlock(m);
    if (st != INFER_OK)
        return st;
    if (state == GRAMMAR_DEAD && overflows)
        return base_error(INFER_ERR_LIMIT,
                          "the grammar is too ambiguous: more than %d ways to read the text",
                          GRAMMAR_ITEMS_MAX);
    if (state == GRAMMAR_DEAD)
        return base_error(INFER_ERR_INVALID, "the text does not match the grammar");
    st = base_str_append(&m->text, text, size);
    if (st == INFER_OK)
        m->state = state;
    return st;
}

infer_status grammar_matcher_push_token(struct grammar_matcher *m, infer_token token)
{
    struct base_view piece = text_tokenizer_piece_view(m->tokenizer, token, 0);
    infer_status st = grammar_matcher_push(m, piece.data, piece.size);
    if (st == INFER_OK && m->n_forced < m->forced.size && m->forced.data[m->n_forced] == token)
        m->n_forced++;
    else if (st == INFER_OK)
        m->forced.size = m->n_forced = 0;
    return st;
}

/* What must follow and was not taken yet. */
static infer_status copy_forced(const struct grammar_matcher *from, text_tokens *out,
                                const struct base_alloc *a)
{
    const size_t n = from->forced.size - from->n_forced;
    out->size = 0;
    infer_status st = base_array_reserve(a, out, n);
    if (st != INFER_OK)
        return st;
    if (n)
        memcpy(out->data, from->forced.data + from->n_forced, n * sizeof *out->data);
    out->size = n;
    return INFER_OK;
}

infer_status grammar_matcher_copy(struct grammar_matcher *m, const struct grammar_matcher *from)
{
    infer_status st = copy_forced(from, &m->forced, &m->alloc);
    m->n_forced = 0;
    m->text.size = 0;
    if (st == INFER_OK)
        st = base_str_append(&m->text, from->text.size ? from->text.data : "", from->text.size);
    m->state = from->state;
    m->epoch = from->epoch;
    return st;
}

infer_status grammar_matcher_mark(struct grammar_matcher *m)
{
    infer_status st = copy_forced(m, &m->marked_forced, &m->alloc);
    if (st != INFER_OK)
        return st;
    m->marked_state = m->state;
    m->marked_epoch = m->epoch;
    m->marked_size = m->text.size;
    m->is_marked = 1;
    return INFER_OK;
}

void grammar_matcher_back(struct grammar_matcher *m)
{
    if (!m->is_marked)
        return;
    const text_tokens left = m->marked_forced;
    m->marked_forced = m->forced;
    m->forced = left;
    m->n_forced = 0;
    m->state = m->marked_state;
    m->epoch = m->marked_epoch; /* if that is over, the text says where this is */
    m->text.size = m->marked_size;
    m->is_marked = 0;
}

static int goes_on(struct grammar_machine *machine, uint32_t state)
{
    const struct grammar_set *set = &machine->sets.data[state];
    return set->n > (uint32_t)grammar_machine_accepts(machine, state);
}

infer_status grammar_matcher_look(struct grammar_matcher *m, int *accepts, int *more)
{
    infer_status st = lock(m);
    if (st != INFER_OK)
        return st;
    *accepts = grammar_machine_accepts(m->machine, m->state);
    *more = goes_on(m->machine, m->state);
    return unlock(m);
}

/* ------------------------------------------------------------------ forced */

/* The only class of bytes that may follow, if it is one byte, else -1. */
static int only_byte(struct grammar_machine *machine, uint32_t state, uint32_t *to)
{
    const struct infer_grammar *g = machine->grammar;
    int found = -1;
    for (int32_t c = 0; c < g->n_classes; c++) {
        uint32_t next = grammar_machine_step(machine, state, g->class_byte[c]);
        if (next == GRAMMAR_DEAD)
            continue;
        if (found >= 0 || g->class_size[c] != 1)
            return -1;
        found = g->class_byte[c];
        *to = next;
    }
    return found;
}

infer_status grammar_matcher_forced_text(struct grammar_matcher *m, size_t limit,
                                         struct base_str *out, int *complete)
{
    infer_status st = lock(m);
    if (st != INFER_OK)
        return st;
    uint32_t state = m->state;
    infer_status appended = INFER_OK;
    for (size_t n = 0; n < limit && appended == INFER_OK; n++) {
        int byte = -1;
        if (!grammar_machine_accepts(m->machine, state))
            byte = only_byte(m->machine, state, &state);
        if (byte < 0)
            break;
        appended = base_str_put(out, (char)byte);
    }
    *complete = grammar_machine_accepts(m->machine, state) && !goes_on(m->machine, state);
    st = unlock(m);
    return st == INFER_OK ? appended : st;
}

/* The text's own tokens. A vocabulary that puts a space in front of texts is asked for them
 * behind a line end; what does not come apart there gives none. */
static infer_status encode(struct grammar_matcher *m, const struct base_str *text)
{
    const struct text_vocab *v = text_tokenizer_vocab(m->tokenizer);
    struct base_str all;
    infer_status st;
    int prefixed = v->add_space_prefix != 0;
    base_str_init(&all, &m->alloc, 0);
    st = prefixed ? base_str_put(&all, '\n') : INFER_OK;
    if (st == INFER_OK)
        st = base_str_append(&all, text->data, text->size);
    if (st == INFER_OK)
        st = text_tokenizer_encode(m->tokenizer, &m->alloc, all.data, all.size, 0, &m->forced);
    size_t skip = 0, behind = text->size;
    while (st == INFER_OK && prefixed && skip < m->forced.size) {
        struct base_view piece = text_tokenizer_piece_view(m->tokenizer, m->forced.data[skip++], 0);
        if (piece.size && piece.data[piece.size - 1] == '\n')
            break;
    }
    /* Only tokens that are this very text count. */
    size_t at = 0;
    for (size_t i = skip; st == INFER_OK && i < m->forced.size; i++) {
        struct base_view piece = text_tokenizer_piece_view(m->tokenizer, m->forced.data[i], 0);
        if (!piece.size || piece.size > behind - at ||
            memcmp(text->data + at, piece.data, piece.size) != 0)
            break;
        at += piece.size;
    }
    if (st != INFER_OK || at != behind)
        m->forced.size = 0;
    else if (skip) {
        memmove(m->forced.data, m->forced.data + skip,
                (m->forced.size - skip) * sizeof *m->forced.data);
        m->forced.size -= skip;
    }
    base_str_release(&all);
    return st;
}

/* Fills the queue when it has run out. The last token waits: what follows may become one with
 * it, as in the vocabulary's own texts. */
static infer_status find_forced(struct grammar_matcher *m)
{
    if (m->n_forced < m->forced.size)
        return INFER_OK;
    struct base_str text;
    int complete = 0;
    m->forced.size = m->n_forced = 0;
    base_str_init(&text, &m->alloc, 0);
    infer_status st = grammar_matcher_forced_text(m, FORCED_TEXT_MAX, &text, &complete);
    if (text.size && !complete) /* half a character waits for its other half */
        text.size = text_utf8_valid_prefix(text.data, text.size);
    if (st == INFER_OK && text.size > (complete ? 0 : 1)) {
        st = encode(m, &text);
        if (m->forced.size && !complete)
            m->forced.size--;
    }
    base_str_release(&text);
    return st;
}

infer_status grammar_matcher_forced(struct grammar_matcher *m, infer_token *token)
{
    infer_status st = find_forced(m);
    if (st == INFER_OK)
        *token = m->n_forced < m->forced.size ? m->forced.data[m->n_forced] : -1;
    return st;
}

infer_status grammar_matcher_replay(struct grammar_matcher *m, infer_token token)
{
    infer_status st = find_forced(m);
    return st == INFER_OK ? grammar_matcher_push_token(m, token) : st;
}

/* -------------------------------------------------------------------- mask */

size_t grammar_matcher_tokens(const struct grammar_matcher *m)
{
    return m->machine->tree->n_tokens;
}

infer_status grammar_matcher_mask(struct grammar_matcher *m, const uint64_t **out, size_t *n)
{
    const struct text_token_tree *tree = m->machine->tree;
    infer_token forced;
    infer_status st = grammar_matcher_forced(m, &forced);
    if (st != INFER_OK)
        return st;
    *out = m->mask;
    *n = 1;
    if (forced >= 0) {
        memset(m->mask, 0, tree->n_words * sizeof *m->mask);
        text_token_set_add(m->mask, forced);
        return INFER_OK;
    }
    st = lock(m);
    if (st != INFER_OK)
        return st;
    uint32_t count = 0;
    const uint64_t *mask = grammar_machine_mask(m->machine, m->state, &count);
    if (mask)
        memcpy(m->mask, mask, tree->n_words * sizeof *mask);
    int accepts = !m->no_ends && grammar_machine_accepts(m->machine, m->state);
    st = unlock(m);
    for (size_t i = 0; accepts && i < tree->n_words; i++) {
        m->mask[i] |= tree->ends[i];
        count += (uint32_t)__builtin_popcountll(tree->ends[i]);
    }
    if (st == INFER_OK && !count)
        st = base_error(INFER_ERR_LIMIT,
                        "the vocabulary has no token for what the grammar asks next, after %zu "
                        "bytes of text",
                        m->text.size);
    *n = count;
    return st;
}
