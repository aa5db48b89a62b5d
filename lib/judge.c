/* Texts in the template of a reranker, as tokens; then they are scored. */
#include "judge.h"

#include "engine/score.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

#define DOCUMENT "{document}"

struct judge {
    struct infer_session *s;
    const struct judge_how *how;
    struct base_str text;  /* up to the document, of which the next one follows */
    text_tokens own, tail; /* of the text that is encoded; of what stands behind a document */
    text_tokens tokens;    /* of all in a row */
    size_t n_before;       /* tokens up to the document */
    infer_token yes, no;
    struct score_item *items;
    float *logprobs;
    struct judge_report report;
};

static const struct text_tokenizer *tokenizer_of(const struct judge *j)
{
    return model_vocab_tokenizer(j->s->model->vocab);
}

/* Control tokens of the template are such, those in texts are plain text. */
static infer_status encode(const struct judge *j, const struct base_str *text, text_tokens *out)
{
    out->size = 0;
    return text_tokenizer_encode(tokenizer_of(j), &j->s->alloc, text->data, text->size,
                                 TEXT_ENCODE_SPECIAL | TEXT_ENCODE_GUARDED, out);
}

/* A part of the template with what stands for names in it. */
static infer_status fill_in(const struct judge *j, const char *part, size_t size,
                            struct base_str *out)
{
    const struct {
        const char *name, *value;
    } names[] = {{"{query}", j->how->query}, {"{instruction}", j->how->instruction}};
    infer_status st = INFER_OK;
    for (size_t i = 0; i < size && st == INFER_OK;) {
        size_t k = 0, length = 0;
        for (; k < BASE_COUNT(names); k++) {
            length = strlen(names[k].name);
            if (size - i >= length && memcmp(part + i, names[k].name, length) == 0)
                break;
        }
        if (k < BASE_COUNT(names)) {
            st = text_tokenizer_guard(tokenizer_of(j), names[k].value, strlen(names[k].value), out);
            i += length;
        } else {
            st = base_str_append(out, part + i++, 1);
        }
    }
    return st;
}

/* The token that is exactly this word. */
static infer_status find_word(struct judge *j, const char *word, infer_token *out)
{
    j->own.size = 0;
    infer_status st =
        text_tokenizer_encode(tokenizer_of(j), &j->s->alloc, word, strlen(word), 0, &j->own);
    if (st != INFER_OK)
        return st;
    if (j->own.size != 1)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "\"%s\" is %zu tokens of %s, a reranker has one for it", word,
                          j->own.size, j->s->model->path);
    *out = j->own.data[0];
    return INFER_OK;
}

/* What all texts have in common. */
static infer_status begin(struct judge *j)
{
    const char *text = j->how->template_text, *at = strstr(text, DOCUMENT);
    struct base_str tail;
    if (!at || strstr(at + 1, DOCUMENT) || !strstr(text, "{query}"))
        return base_error(INFER_ERR_INVALID,
                          "rerank_template has not one {document} and a {query}, for which texts "
                          "stand");
    infer_status st = find_word(j, j->how->yes, &j->yes);
    if (st == INFER_OK)
        st = find_word(j, j->how->no, &j->no);
    if (st == INFER_OK)
        st = fill_in(j, text, (size_t)(at - text), &j->text);
    if (st == INFER_OK)
        st = encode(j, &j->text, &j->own);
    if (st != INFER_OK)
        return st;
    j->n_before = j->own.size;
    at += strlen(DOCUMENT);
    base_str_init(&tail, &j->s->alloc, 0);
    st = fill_in(j, at, strlen(at), &tail);
    if (st == INFER_OK)
        st = encode(j, &tail, &j->tail);
    base_str_release(&tail);
    if (st == INFER_OK && j->n_before + j->tail.size + 1 >= (size_t)j->how->limit)
        return base_error(INFER_ERR_LIMIT,
                          "the query has %zu tokens with its template and leaves no room for a "
                          "text: %d is what both may have",
                          j->n_before + j->tail.size, j->how->limit);
    return st;
}

static infer_status fit(struct judge *j, size_t bos, size_t i)
{
    /* The answer has a place too. */
    const size_t room = (size_t)j->how->limit - j->tail.size - bos - 1, n = j->own.size;
    if (n <= room)
        return INFER_OK;
    if (!j->how->truncate)
        return base_error(INFER_ERR_LIMIT,
                          "texts[%zu] has %zu tokens with all that belongs to it, and %d is what "
                          "it may have: cut it, or set truncate",
                          i, n + j->tail.size + bos, j->how->limit - 1);
    j->own.size = room;
    j->report.n_cut_texts++;
    j->report.n_cut_tokens += n - room;
    return INFER_OK;
}

static infer_status add(struct judge *j, const char *text, size_t size, size_t i)
{
    const struct text_vocab *v = model_vocab_text(j->s->model->vocab);
    const size_t n_fixed = j->text.size;
    infer_status st = text_tokenizer_guard(tokenizer_of(j), text, size, &j->text);
    if (st == INFER_OK)
        st = encode(j, &j->text, &j->own);
    j->text.size = n_fixed;
    if (st != INFER_OK)
        return st;
    const size_t bos = v->add_bos && v->bos >= 0 && !(j->own.size && j->own.data[0] == v->bos);
    st = fit(j, bos, i);
    if (st == INFER_OK)
        st = base_array_reserve(&j->s->alloc, &j->tokens, bos + j->own.size + j->tail.size + 1);
    if (st != INFER_OK)
        return st;
    infer_token *to = j->tokens.data + j->tokens.size;
    if (bos)
        *to++ = v->bos;
    memcpy(to, j->own.data, j->own.size * sizeof *to);
    to += j->own.size;
    if (j->tail.size)
        memcpy(to, j->tail.data, j->tail.size * sizeof *to);
    to[j->tail.size] = j->yes;
    const size_t n = bos + j->own.size + j->tail.size + 1;
    j->tokens.size += n;
    j->report.n_tokens += n - 1;
    j->items[i] = (struct score_item){.n_tokens = (int32_t)n,
                                      .from = (int32_t)n - 1,
                                      .logprobs = j->logprobs + i,
                                      .rival = &j->no};
    return n > 1 ? INFER_OK : base_error(INFER_ERR_INVALID, "texts[%zu] is empty", i);
}

/* Token arrays move while they grow: pointers are set at the end. Returns the tokens that all
 * begin with, of which the last one's logits are wanted by none. */
static int32_t point(const struct judge *j, size_t n)
{
    infer_token *at = j->tokens.data;
    int32_t common = j->items[0].from - 1;
    for (size_t i = 0; i < n; at += j->items[i++].n_tokens) {
        j->items[i].tokens = at;
        int32_t same = 0;
        common = BASE_MIN(common, j->items[i].from - 1);
        while (same < common && at[same] == j->tokens.data[same])
            same++;
        common = same;
    }
    return BASE_MAX(common, 0);
}

infer_status judge_run(float *scores, struct infer_session *s, const struct judge_how *how,
                       const char *const *texts, const size_t *sizes, size_t n,
                       struct judge_report *report)
{
    struct judge j = {.s = s, .how = how};
    base_str_init(&j.text, &s->alloc, 0);
    j.items = base_new(&s->alloc, n, sizeof *j.items);
    j.logprobs = base_new(&s->alloc, n, sizeof *j.logprobs);
    infer_status st = j.items && j.logprobs ? begin(&j) : INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        st = texts[i] ? add(&j, texts[i], sizes ? sizes[i] : strlen(texts[i]), i)
                      : base_error(INFER_ERR_INVALID, "texts[%zu] is NULL", i);
    if (st == INFER_OK)
        st = score_run(s, &how->base, j.items, n, point(&j, n));
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        scores[i] = (float)exp((double)j.logprobs[i]);
    *report = j.report;
    base_str_release(&j.text);
    base_array_release(&s->alloc, &j.own);
    base_array_release(&s->alloc, &j.tail);
    base_array_release(&s->alloc, &j.tokens);
    base_free(&s->alloc, j.items);
    base_free(&s->alloc, j.logprobs);
    return st;
}
