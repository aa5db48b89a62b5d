/* Unigram vocabularies: the best path through a word, kept for words that come again. */
#include "text/unigram.h"

#include "base/error.h"
#include "text/pieces.h"
#include "text/spm.h"
#include "text/unicode.h"

#include <float.h>

#define MAX_SCORE   1e12f /* sums over any text stay finite */
#define UNK_PENALTY 10.0f /* below the worst token, as in SentencePiece */

static infer_status add_token(struct text_unigram *u, const struct text_vocab *vocab, size_t i)
{
    struct base_view text = vocab->tokens[i];
    float score = vocab->scores[i];
    if (!(score <= MAX_SCORE && score >= -MAX_SCORE))
        return base_error(INFER_ERR_FORMAT, "the score of token %zu is no number of use", i);
    u->unk_score = BASE_MIN(u->unk_score, score);
    if (text_spm_crosses_space(text))
        u->splits_at_space = 0;
    return text_trie_add(&u->trie, 0, text, (infer_token)i);
}

static infer_status add_tokens(struct text_unigram *u, const struct text_vocab *vocab)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < vocab->n_tokens && st == INFER_OK; i++) {
        int32_t type = text_vocab_type(vocab, i);
        if (type == TEXT_TOKEN_NORMAL) {
            st = add_token(u, vocab, i);
        } else if (type == TEXT_TOKEN_BYTE) {
            int byte = text_vocab_byte(vocab->tokens[i]);
            if (u->bytes[byte] < 0)
                u->bytes[byte] = (infer_token)i;
        }
    }
    return st;
}

infer_status text_unigram_init(struct text_unigram *u, const struct base_alloc *a,
                               const struct text_vocab *vocab)
{
    *u = (struct text_unigram){.scores = vocab->scores,
                               .unk = vocab->unk,
                               .float_scores = vocab->float_scores,
                               .has_all_bytes = 1,
                               .splits_at_space = 1};
    if (!vocab->scores)
        return base_error(INFER_ERR_FORMAT, "a unigram vocabulary needs scores");
    for (size_t b = 0; b < BASE_COUNT(u->bytes); b++)
        u->bytes[b] = -1;
    infer_status st = text_trie_init(&u->trie, a, 4 * vocab->n_tokens);
    if (st == INFER_OK)
        st = add_tokens(u, vocab);
    for (size_t b = 0; b < BASE_COUNT(u->bytes); b++)
        u->has_all_bytes = u->has_all_bytes && u->bytes[b] >= 0;
    u->first_byte = u->last_byte = u->bytes[0];
    for (size_t b = 0; b < BASE_COUNT(u->bytes); b++) {
        u->first_byte = BASE_MIN(u->first_byte, u->bytes[b]);
        u->last_byte = BASE_MAX(u->last_byte, u->bytes[b]);
    }
    u->unk_score -= UNK_PENALTY;
    if (st == INFER_OK && vocab->unk < 0 && !u->has_all_bytes)
        st = base_error(INFER_ERR_FORMAT,
                        "a unigram vocabulary needs an unknown token or all bytes");
    if (st != INFER_OK)
        text_unigram_release(u);
    return st;
}

void text_unigram_release(struct text_unigram *u)
{
    text_trie_release(&u->trie);
}

size_t text_unigram_bytes(const struct text_unigram *u)
{
    return text_trie_bytes(&u->trie);
}

static size_t char_length(uint8_t lead)
{
    return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* The sum of doubles, or a float as SentencePiece keeps it. */
static double rounded(const struct text_unigram *u, double score)
{
    return u->float_scores ? (double)(float)score : score;
}

/* Keeps the better way, and by how much it is better than the next one. Scores are compared as
 * they are and kept rounded, which decides where two ways are equal but for the order of their
 * tokens: SentencePiece does the same. */
static void offer(const struct text_unigram *u, struct text_cell *cell, double score, size_t from,
                  infer_token token)
{
    if (score > cell->score) {
        cell->gap = score - cell->score;
        cell->score = rounded(u, score);
        cell->from = (uint32_t)from;
        cell->token = token;
    } else if (cell->score - score < cell->gap) {
        cell->gap = cell->score - score;
    }
}

/* Fills cells[i] with the best way to the place i of the word, on top of the score of what
 * stands before it; gives back how close the closest decision was. */
static double find_paths(const struct text_unigram *u, struct text_cell *cells, double before,
                         const uint8_t *p, size_t size)
{
    double closest = DBL_MAX;
    cells[0] = (struct text_cell){before, DBL_MAX, 0, -1};
    for (size_t i = 1; i <= size; i++)
        cells[i] = (struct text_cell){-DBL_MAX, DBL_MAX, 0, -1};
    for (size_t i = 0, n; i < size; i += n) {
        n = BASE_MIN(char_length(p[i]), size - i);
        int whole_char = 0;
        double so_far = cells[i].score;
        size_t at = i;
        struct text_trie_edge edge = u->trie.first[0][p[at++]];
        for (;;) {
            if (edge.token >= 0) {
                offer(u, &cells[at], so_far + (double)u->scores[edge.token], i, edge.token);
                whole_char |= at == i + n;
            }
            if (!edge.node || at == size)
                break;
            edge = text_trie_step(&u->trie, edge.node, p[at++]);
        }
        if (!whole_char)
            offer(u, &cells[i + n], rounded(u, so_far + (double)u->unk_score), i, u->unk);
        closest = BASE_MIN(closest, cells[i + n].gap);
    }
    return closest;
}

/* An unknown character: its bytes, or the unknown token, one for a run of them. */
static infer_status put_unknown(const struct text_unigram *u, struct text_call *c, const uint8_t *p,
                                size_t n)
{
    if (!u->has_all_bytes) {
        if (c->out->size > c->start && c->out->data[c->out->size - 1] == u->unk)
            return INFER_OK;
        return base_array_push(c->a, c->out, u->unk);
    }
    for (size_t i = 0; i < n; i++)
        if (base_array_push(c->a, c->out, u->bytes[p[i]]) != INFER_OK)
            return INFER_ERR_NO_MEMORY;
    return INFER_OK;
}

static infer_status put_path(const struct text_unigram *u, struct text_call *c,
                             struct text_cell *cells, const uint8_t *p, size_t size)
{
    /* The path leads backwards: turn its links around. */
    size_t next = size;
    for (size_t i = size; i > 0;) {
        size_t from = cells[i].from;
        cells[i].from = (uint32_t)next;
        next = i;
        i = from;
    }
    infer_status st = INFER_OK;
    for (size_t from = 0, to = next; from < size && st == INFER_OK;) {
        infer_token token = cells[to].token;
        st = token == u->unk ? put_unknown(u, c, p + from, to - from)
                             : base_array_push(c->a, c->out, token);
        from = to;
        to = cells[to].from;
    }
    return st;
}

/* Sums of floats are rounded, by more the more text stands before: whether a decision would
 * have been the same behind the sum `before`. */
static int is_certain(const struct text_unigram *u, double gap, double before, size_t size)
{
    double largest = (before < 0 ? -before : before) + 100.0 * (double)size;
    return !u->float_scores || gap > largest * (double)FLT_EPSILON * (double)size;
}

/* Whether a word's tokens say all about it: unknown characters may have been joined to those
 * before, and bytes do not tell their score. */
static int may_remember(const struct text_unigram *u, const struct text_call *c, size_t at)
{
    size_t end = u->float_scores ? c->out->size : BASE_MIN(at + 1, c->out->size);
    for (size_t i = at; i < end; i++)
        if (c->out->data[i] == u->unk || (u->has_all_bytes && c->out->data[i] <= u->last_byte &&
                                          c->out->data[i] >= u->first_byte))
            return 0;
    return end > at;
}

static infer_status put_new_word(const struct text_unigram *u, struct text_call *c,
                                 struct base_view word, struct text_seen *slot, double *before)
{
    if (word.size >= UINT32_MAX)
        return base_error(INFER_ERR_LIMIT, "a word of %zu bytes is too long to encode", word.size);
    const uint8_t *p = (const uint8_t *)word.data;
    size_t at = c->out->size;
    c->cells.size = 0;
    infer_status st = base_array_reserve(c->a, &c->cells, word.size + 1);
    if (st != INFER_OK)
        return st;
    double gap = find_paths(u, c->cells.data, *before, p, word.size);
    double after = c->cells.data[word.size].score;
    st = put_path(u, c, c->cells.data, p, word.size);
    if (st == INFER_OK && is_certain(u, gap, *before, word.size) && may_remember(u, c, at)) {
        text_call_remember(c, slot, at);
        if (slot)
            slot->gap = gap;
    }
    if (u->float_scores)
        *before = after;
    return st;
}

/* `before` is the score so far, where sums of floats make it matter. */
static infer_status put_word(const struct text_unigram *u, struct text_call *c,
                             struct base_view word, double *before)
{
    struct text_seen *slot;
    size_t at = c->out->size;
    infer_status st = text_call_recall(c, word, &slot);
    if (st == INFER_OK)
        return put_new_word(u, c, word, slot, before);
    if (st != INFER_DONE)
        return st;
    if (!is_certain(u, slot->gap, *before, word.size)) {
        c->out->size = at;
        return put_new_word(u, c, word, NULL, before);
    }
    for (size_t i = at; u->float_scores && i < c->out->size; i++)
        *before = rounded(u, *before + (double)u->scores[c->out->data[i]]);
    return INFER_OK;
}

infer_status text_unigram_encode(const struct text_unigram *u, struct text_call *call,
                                 const char *text, size_t size)
{
    infer_status st = INFER_OK;
    double before = 0;
    for (size_t i = 0; i < size && st == INFER_OK;) {
        size_t n = u->splits_at_space ? text_spm_word_length(text + i, size - i) : size - i;
        st = put_word(u, call, (struct base_view){text + i, n}, &before);
        i += n;
    }
    return st;
}
