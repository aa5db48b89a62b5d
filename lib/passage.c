/* Texts to be embedded or ranked, as tokens. */
#include "passage.h"

#include <string.h>

/* What encoding works with. */
struct encoding {
    struct passage_set *set;
    const infer_session *session;
    const struct passage_how *how;
    struct model_frame frame;
    struct base_str text; /* begins with the prompt */
    text_tokens query, plain;
    size_t n_prompt; /* tokens of the prompt alone */
    size_t room;     /* for a text's own tokens, its prompt's included */
};

static infer_status encode(struct encoding *c, const char *text, size_t size, text_tokens *out)
{
    out->size = 0;
    return text_tokenizer_encode(model_vocab_tokenizer(c->session->model->vocab),
                                 &c->session->alloc, text, size, 0, out);
}

/* What all texts have in common. */
static infer_status begin(struct encoding *c)
{
    const struct passage_how *how = c->how;
    size_t taken = (size_t)model_frame_tokens(&c->frame, how->query != NULL);
    infer_status st = base_str_append(&c->text, how->prompt, strlen(how->prompt));
    if (st == INFER_OK && c->text.size) {
        st = encode(c, c->text.data, c->text.size, &c->plain);
        c->n_prompt = c->plain.size;
    }
    if (st == INFER_OK && how->query)
        st = encode(c, how->query, strlen(how->query), &c->query);
    if (st != INFER_OK)
        return st;
    taken += c->query.size;
    if (taken + c->n_prompt >= (size_t)how->limit)
        return base_error(
            INFER_ERR_LIMIT,
            "the %s has %zu tokens and leaves no room for a text: %d is what both may "
            "have",
            how->query ? "query" : "prompt", taken + c->n_prompt, how->limit);
    c->room = (size_t)how->limit - taken;
    return INFER_OK;
}

static infer_status fit(struct encoding *c, size_t i)
{
    const size_t n = c->plain.size;
    if (n <= c->room)
        return INFER_OK;
    if (!c->how->truncate)
        return base_error(
            INFER_ERR_LIMIT,
            "texts[%zu] has %zu tokens with all that belongs to it, and %d is what it "
            "may have: cut it, or set truncate",
            i, n + (size_t)c->how->limit - c->room, c->how->limit);
    c->plain.size = c->room;
    c->set->n_cut_texts++;
    c->set->n_cut_tokens += n - c->room;
    return INFER_OK;
}

static infer_status add(struct encoding *c, const char *text, size_t size, size_t i)
{
    struct embed_item *item = &c->set->items[i];
    const struct model_frame *frame = &c->frame;
    const size_t before = c->set->tokens.size, n_fixed = c->text.size;
    const int pair = c->how->query != NULL;
    infer_status st = INFER_OK;
    if (n_fixed) {
        st = base_str_append(&c->text, text, size);
        text = c->text.data;
        size = c->text.size;
    }
    if (st == INFER_OK)
        st = encode(c, text, size, &c->plain);
    c->text.size = n_fixed;
    if (st == INFER_OK)
        st = fit(c, i);
    if (st == INFER_OK)
        st = model_frame_add(frame, &c->set->alloc, pair ? &c->query : &c->plain,
                             pair ? &c->plain : NULL, &c->set->tokens, NULL);
    if (st != INFER_OK)
        return st;
    item->n_tokens = (int32_t)(c->set->tokens.size - before);
    if (!item->n_tokens)
        return base_error(INFER_ERR_INVALID, "texts[%zu] is empty", i);
    if (pair && frame->second_type)
        item->second = item->n_tokens - (int32_t)c->plain.size - (frame->after >= 0);
    if (c->how->skips_prompt && c->n_prompt) /* a text may be nothing but its prompt */
        item->from = BASE_MIN((int32_t)c->n_prompt + (frame->before >= 0), item->n_tokens - 1);
    return INFER_OK;
}

/* Token arrays move while they grow: pointers are set at the end. */
static void point(struct passage_set *set)
{
    const infer_token *at = set->tokens.data;
    for (size_t i = 0; i < set->n; i++) {
        set->items[i].tokens = at;
        at += set->items[i].n_tokens;
    }
}

infer_status passage_encode(struct passage_set *set, const infer_session *s,
                            const struct passage_how *how, const char *const *texts,
                            const size_t *sizes, size_t n)
{
    struct encoding c = {.set = set, .session = s, .how = how, .frame = model_frame_of(s->model)};
    *set = (struct passage_set){.alloc = s->alloc, .n = n};
    base_str_init(&c.text, &s->alloc, 0);
    set->items = base_new(&s->alloc, n, sizeof *set->items);
    infer_status st = set->items ? begin(&c) : INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        st = texts[i] ? add(&c, texts[i], sizes ? sizes[i] : strlen(texts[i]), i)
                      : base_error(INFER_ERR_INVALID, "texts[%zu] is NULL", i);
    base_str_release(&c.text);
    base_array_release(&s->alloc, &c.query);
    base_array_release(&s->alloc, &c.plain);
    if (st == INFER_OK)
        point(set);
    else
        passage_release(set);
    return st;
}

void passage_release(struct passage_set *set)
{
    base_array_release(&set->alloc, &set->tokens);
    base_free(&set->alloc, set->items);
    set->items = NULL;
}
