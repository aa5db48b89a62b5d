/* Tokens of prompts with continuations. As lm-evaluation-harness does it, white space at the end
 * of a prompt counts to the continuations, and these are what the whole text's tokens have beyond
 * the prompt's; where a token reaches across, the whole text's tokens are kept, unless the
 * harness's are asked for. */
#include "continuation.h"

#include "handle.h"
#include "submit.h"
#include "text/unicode.h"

#include <string.h>

/* The prompt as text, in the form that is encoded. */
struct prompt_text {
    struct base_str text;
    int rendered; /* from a conversation */
    int harness;  /* tokens behind a border inside a token are those of lm-evaluation-harness */
    uint32_t flags;
};

static size_t size_of(const infer_continuation *c)
{
    return c->text_size ? c->text_size : strlen(c->text);
}

static infer_status check(const infer_continuation *c, size_t i, const infer_request_options *o)
{
    if (c->reserved[0] || c->reserved[1])
        return base_error(INFER_ERR_UNSUPPORTED, "continuations[%zu].reserved is not 0", i);
    if (!!c->text + !!c->tokens != 1)
        return base_error(INFER_ERR_INVALID, "continuations[%zu] needs either text or tokens", i);
    if (c->text ? !size_of(c) : !c->n_tokens)
        return base_error(INFER_ERR_INVALID, "continuations[%zu] is empty", i);
    if (c->text && o->tokens)
        return base_error(INFER_ERR_INVALID,
                          "continuations[%zu] is text, expected tokens behind a prompt of tokens",
                          i);
    return INFER_OK;
}

static infer_status begin_text(struct prompt_text *p, const infer_session *s,
                               const infer_request_options *o)
{
    base_str_init(&p->text, &s->alloc, 0);
    p->rendered = !o->prompt;
    p->harness = o->harness_border != 0;
    if (p->rendered)
        return submit_render(s, o, &p->text);
    /* Continuations behind it are guarded. */
    p->flags = TEXT_ENCODE_ADD;
    if (o->parse_special)
        p->flags |= (uint32_t)TEXT_ENCODE_SPECIAL | (uint32_t)TEXT_ENCODE_GUARDED;
    return base_str_append(&p->text, o->prompt,
                           o->prompt_size ? o->prompt_size : strlen(o->prompt));
}

/* Appends; an end token that the vocabulary puts behind every text is not wanted here. */
static infer_status encode_text(const infer_session *s, const struct prompt_text *p,
                                text_tokens *out)
{
    const struct text_vocab *v = model_vocab_text(s->model->vocab);
    size_t before = out->size;
    if (p->rendered) {
        text_tokens own = {0}; /* BOS joins in front */
        infer_status st = submit_encode_rendered(s, &p->text, &own);
        if (st == INFER_OK)
            st = base_array_reserve(&s->alloc, out, own.size);
        if (st == INFER_OK && own.size) {
            memcpy(out->data + before, own.data, own.size * sizeof *own.data);
            out->size += own.size;
        }
        base_array_release(&s->alloc, &own);
        return st;
    }
    infer_status st = text_tokenizer_encode(model_vocab_tokenizer(s->model->vocab), &s->alloc,
                                            p->text.data, p->text.size, p->flags, out);
    if (st == INFER_OK && v->add_eos && out->size > before && out->data[out->size - 1] == v->eos)
        out->size--;
    return st;
}

/* Where the white space begins that a text ends in: Python's, so with the separators 1C to 1F. */
static size_t without_spaces(const char *text, size_t size)
{
    while (size > 0) {
        size_t at = size - 1;
        uint32_t cp;
        while (at > 0 && size - at < 4 && ((unsigned char)text[at] & 0xC0) == 0x80)
            at--;
        if (text_utf8_next(text + at, size - at, &cp) != (int)(size - at) ||
            !(text_is_space(cp) || (cp >= 0x1C && cp <= 0x1F)))
            break;
        size = at;
    }
    return size;
}

/* The prompt's own tokens: without white space at its end if the continuations are texts. */
static infer_status encode_prompt(const infer_session *s, struct prompt_text *p, int with_end,
                                  text_tokens *out)
{
    size_t size = p->text.size, end = with_end ? size : without_spaces(p->text.data, size);
    p->text.size = end || p->harness ? end : size; /* nothing but white space stays */
    infer_status st = encode_text(s, p, out);
    p->text.size = size;
    return st;
}

/* Where the whole text's tokens part from the prompt's, or, with the prompt's in front of them, end
 * to be the prompt's. */
static int32_t border(infer_token *whole, size_t n_whole, const text_tokens *bare, int harness)
{
    size_t n = 0, most = BASE_MIN(bare->size, n_whole);
    if (harness && most)
        memcpy(whole, bare->data, most * sizeof *whole);
    while (n < most && whole[n] == bare->data[n])
        n++;
    return (int32_t)n;
}

/* The whole sequence of one continuation; *from is where it parts from the prompt. */
static infer_status join(struct continuation_set *set, const infer_session *s,
                         struct prompt_text *p, const text_tokens *prompt, const text_tokens *bare,
                         const infer_continuation *c, int32_t *from)
{
    size_t first = set->tokens.size, size = p->text.size;
    if (c->tokens) {
        infer_status st = base_array_reserve(&set->alloc, &set->tokens, prompt->size + c->n_tokens);
        if (st != INFER_OK)
            return st;
        if (prompt->size)
            memcpy(set->tokens.data + first, prompt->data, prompt->size * sizeof *prompt->data);
        memcpy(set->tokens.data + first + prompt->size, c->tokens, c->n_tokens * sizeof *c->tokens);
        set->tokens.size += prompt->size + c->n_tokens;
        *from = (int32_t)prompt->size;
        return INFER_OK;
    }
    infer_status st;
    if (p->rendered || p->flags & TEXT_ENCODE_GUARDED)
        st = text_tokenizer_guard(model_vocab_tokenizer(s->model->vocab), c->text, size_of(c),
                                  &p->text);
    else
        st = base_str_append(&p->text, c->text, size_of(c));
    if (st == INFER_OK)
        st = encode_text(s, p, &set->tokens);
    p->text.size = size;
    if (st == INFER_OK)
        *from = border(set->tokens.data + first, set->tokens.size - first, bare, p->harness);
    return st;
}

static infer_status finish_item(const infer_session *s, size_t i, size_t n_tokens, int32_t from)
{
    if (n_tokens > (size_t)s->n_context)
        return base_error(INFER_ERR_LIMIT,
                          "the prompt and continuations[%zu] have %zu tokens and the context holds "
                          "%d",
                          i, n_tokens, s->n_context);
    if (from < 1)
        return base_error(INFER_ERR_INVALID,
                          "nothing stands before continuations[%zu]: its first token begins the "
                          "text, expected a longer prompt",
                          i);
    if ((size_t)from >= n_tokens)
        return base_error(INFER_ERR_INVALID, "continuations[%zu] adds no token to the prompt", i);
    return INFER_OK;
}

/* Token arrays move while they grow: pointers are set at the end. */
static void point(struct continuation_set *set)
{
    const infer_token *at = set->tokens.data;
    int32_t common = set->items[0].from;
    for (size_t i = 0; i < set->n; i++) {
        set->items[i].tokens = at;
        at += set->items[i].n_tokens;
        common = BASE_MIN(common, set->items[i].from);
    }
    set->n_common = common - 1; /* the last one's logits are wanted by each */
}

static infer_status encode_all(struct continuation_set *set, const infer_session *s,
                               const infer_request_options *o, struct prompt_text *p,
                               const infer_continuation *c)
{
    text_tokens own = {0}, bare = {0};
    text_tokens given = {(infer_token *)(uintptr_t)o->tokens, o->n_tokens, 0};
    infer_status st = o->tokens ? INFER_OK : encode_prompt(s, p, 1, &own);
    if (st == INFER_OK && !o->tokens)
        st = encode_prompt(s, p, 0, &bare);
    for (size_t i = 0; i < set->n && st == INFER_OK; i++) {
        size_t first = set->tokens.size;
        struct score_item *item = &set->items[i];
        st = join(set, s, p, o->tokens ? &given : &own, &bare, &c[i], &item->from);
        if (st == INFER_OK)
            st = finish_item(s, i, set->tokens.size - first, item->from);
        item->n_tokens = (int32_t)(set->tokens.size - first);
    }
    base_array_release(&s->alloc, &own);
    base_array_release(&s->alloc, &bare);
    if (st == INFER_OK)
        point(set);
    return st;
}

infer_status continuation_encode(struct continuation_set *set, const infer_session *s,
                                 const infer_request_options *o,
                                 const infer_continuation *continuations, size_t n)
{
    struct prompt_text p = {0};
    infer_status st = INFER_OK;
    *set = (struct continuation_set){.alloc = s->alloc, .n = n};
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        st = check(&continuations[i], i, o);
    if (st == INFER_OK && !(set->items = base_new(&s->alloc, n, sizeof *set->items)))
        st = INFER_ERR_NO_MEMORY;
    if (st == INFER_OK && !o->tokens)
        st = begin_text(&p, s, o);
    if (st == INFER_OK)
        st = encode_all(set, s, o, &p, continuations);
    base_str_release(&p.text);
    if (st != INFER_OK)
        continuation_release(set);
    return st;
}

void continuation_release(struct continuation_set *set)
{
    base_array_release(&set->alloc, &set->tokens);
    base_free(&set->alloc, set->items);
    set->items = NULL;
}
