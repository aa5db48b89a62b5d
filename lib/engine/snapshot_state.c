/* What a snapshot says of a request beside its keys and values. */
#include "engine/snapshot.h"

#include "engine/draft.h"
#include "text/unicode.h"

#include <limits.h>

#define SECTION_REQUEST  CACHE_SNAPSHOT_ID('R', 'E', 'Q', 'S')
#define SECTION_BIAS     CACHE_SNAPSHOT_ID('B', 'I', 'A', 'S')
#define SECTION_STOP     CACHE_SNAPSHOT_ID('S', 'T', 'O', 'P')
#define SECTION_TEXT     CACHE_SNAPSHOT_ID('T', 'E', 'X', 'T')
#define SECTION_REPORTED CACHE_SNAPSHOT_ID('R', 'E', 'P', 'T')
#define SECTION_TOP      CACHE_SNAPSHOT_ID('T', 'O', 'P', 'S')
#define SECTION_SCORED   CACHE_SNAPSHOT_ID('S', 'C', 'O', 'R')
#define SECTION_LOGITS   CACHE_SNAPSHOT_ID('L', 'O', 'G', 'I')

#define SECTION_MORE CACHE_SNAPSHOT_ID('M', 'O', 'R', 'E') /* from version 2 on */

#define TOP_MAX  64
#define STOP_MAX 256

/* ------------------------------------------------------------------ writing */

/* One of the fields below failed to be appended: the rest need not be tried. */
struct fields {
    struct base_str text;
    infer_status status;
};

static void u32(struct fields *f, uint32_t value)
{
    if (f->status == INFER_OK)
        f->status = cache_put_u32(&f->text, value);
}

static void u64(struct fields *f, uint64_t value)
{
    if (f->status == INFER_OK)
        f->status = cache_put_u64(&f->text, value);
}

static void f32(struct fields *f, float value)
{
    if (f->status == INFER_OK)
        f->status = cache_put_f32(&f->text, value);
}

static void bytes(struct fields *f, const void *data, size_t size)
{
    if (f->status == INFER_OK)
        f->status = base_str_append(&f->text, data, size);
}

/* Ends a section and begins the next. */
static void section(struct fields *f, struct base_str *out, uint32_t id)
{
    if (f->status == INFER_OK)
        f->status = cache_snapshot_put(out, id, f->text.data, f->text.size);
    base_str_clear(&f->text);
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void put_sampling(struct fields *f, const struct sample_params *p)
{
    f32(f, p->temperature);
    u32(f, (uint32_t)p->top_k);
    f32(f, p->top_p);
    f32(f, p->min_p);
    f32(f, p->repetition_penalty);
    f32(f, p->frequency_penalty);
    f32(f, p->presence_penalty);
    u32(f, (uint32_t)p->penalty_last_n);
    u64(f, p->seed);
    u64(f, p->sequence);
    u32(f, (uint32_t)p->n_top_logprobs);
    u32(f, (uint32_t)p->no_logprobs);
}

static void put_numbers(struct fields *f, const struct infer_request *r)
{
    u32(f, (uint32_t)r->n_prompt);
    u32(f, (uint32_t)r->tokens.size);
    u32(f, (uint32_t)r->n_computed);
    u32(f, (uint32_t)r->n_prompt_scored);
    u32(f, (uint32_t)r->n_cached);
    u32(f, (uint32_t)r->stop.n);
    u64(f, (uint64_t)r->max_tokens);
    u64(f, r->n_taken);
    u64(f, r->released);
    u64(f, r->n_forks);
    u64(f, bits_of(r->logprob_sum));
    u32(f, (uint32_t)r->prefill_only);
    u32(f, (uint32_t)r->ignore_eos);
    u32(f, (uint32_t)r->logprobs);
    u32(f, (uint32_t)r->n_top);
    u32(f, (uint32_t)r->want_logits);
    u32(f, r->prompt_logprobs != NULL);
    u32(f, (uint32_t)r->decoder.at_start);
    u32(f, (uint32_t)r->decoder.n_pending);
    bytes(f, r->decoder.pending, sizeof r->decoder.pending);
    put_sampling(f, &r->sampling);
}

static void put_answer(struct fields *f, struct base_str *out, const struct infer_request *r)
{
    bytes(f, r->text.data, r->text.size);
    section(f, out, SECTION_TEXT);
    for (size_t i = 0; i < r->tokens.size; i++) {
        f32(f, r->tokens.data[i].logprob);
        u64(f, r->tokens.data[i].text_end);
    }
    section(f, out, SECTION_REPORTED);
    for (size_t i = 0; i < r->top.size; i++) {
        u32(f, (uint32_t)r->top.data[i].token);
        f32(f, r->top.data[i].logprob);
    }
    section(f, out, SECTION_TOP);
    for (int32_t i = 0; r->prompt_logprobs && i < r->n_prompt; i++)
        f32(f, r->prompt_logprobs[i]);
    section(f, out, SECTION_SCORED);
    for (const struct request_logits *l = r->logits; l; l = l->next)
        for (int32_t i = 0; i < r->session->model->hp.n_vocab; i++)
            f32(f, l->values[i]);
    section(f, out, SECTION_LOGITS);
}

/* Numbers that version 1 has not. */
static void put_more(struct fields *f, struct base_str *out, const struct infer_request *r)
{
    const struct infer_grammar *g = r->matcher.grammar;
    u64(f, (uint64_t)r->min_tokens);
    u32(f, (uint32_t)r->decoder.special);
    u32(f, (uint32_t)r->draft.kind);
    u32(f, (uint32_t)r->draft.max);
    u32(f, (uint32_t)r->draft.ngram.min);
    u32(f, (uint32_t)r->draft.ngram.max);
    u32(f, r->logits_fn != NULL);
    u32(f, g != NULL);
    u32(f, g ? (uint32_t)(r->n_prompt - r->n_unbound) : 0);
    u32(f, (uint32_t)r->jump_ahead);
    u32(f, 0);
    u64(f, g ? g->digest.low : 0);
    u64(f, g ? g->digest.high : 0);
    section(f, out, SECTION_MORE);
}

infer_status snapshot_put_request(struct base_str *out, const struct infer_request *r)
{
    struct fields f = {.status = INFER_OK};
    base_str_init(&f.text, out->alloc, 0);
    put_numbers(&f, r);
    section(&f, out, SECTION_REQUEST);
    for (int32_t i = 0; i < request_length(r); i++)
        u32(&f, (uint32_t)request_token_at(r, i));
    section(&f, out, CACHE_SNAPSHOT_TOKENS);
    for (size_t i = 0; i < r->sampling.n_bias; i++) {
        u32(&f, (uint32_t)r->sampling.bias[i].token);
        f32(&f, r->sampling.bias[i].bias);
    }
    section(&f, out, SECTION_BIAS);
    for (size_t i = 0; i < r->stop.n; i++)
        bytes(&f, r->stop.strings[i], r->stop.sizes[i] + 1);
    section(&f, out, SECTION_STOP);
    put_answer(&f, out, r);
    put_more(&f, out, r);
    base_str_release(&f.text);
    return f.status;
}

/* ------------------------------------------------------------------ reading */

static void get_sampling(struct sample_params *p, struct cache_cursor *c)
{
    p->temperature = cache_get_f32(c);
    p->top_k = (int32_t)cache_get_u32(c);
    p->top_p = cache_get_f32(c);
    p->min_p = cache_get_f32(c);
    p->repetition_penalty = cache_get_f32(c);
    p->frequency_penalty = cache_get_f32(c);
    p->presence_penalty = cache_get_f32(c);
    p->penalty_last_n = (int32_t)cache_get_u32(c);
    p->seed = cache_get_u64(c);
    p->sequence = cache_get_u64(c);
    p->n_top_logprobs = (int32_t)cache_get_u32(c);
    p->no_logprobs = (int32_t)cache_get_u32(c);
}

static void get_numbers(struct snapshot_request *out, struct cache_cursor *c)
{
    out->n_prompt = (int32_t)cache_get_u32(c);
    out->n_tokens = (int32_t)cache_get_u32(c);
    out->n_computed = (int32_t)cache_get_u32(c);
    out->n_scored = (int32_t)cache_get_u32(c);
    out->n_cached = (int32_t)cache_get_u32(c);
    out->n_stop = (int32_t)cache_get_u32(c);
    out->config.max_tokens = (int64_t)cache_get_u64(c);
    out->n_taken = cache_get_u64(c);
    out->released = cache_get_u64(c);
    out->n_forks = cache_get_u64(c);
    uint64_t bits = cache_get_u64(c);
    memcpy(&out->logprob_sum, &bits, sizeof bits);
    out->config.prefill_only = (int32_t)cache_get_u32(c);
    out->config.ignore_eos = (int32_t)cache_get_u32(c);
    out->config.logprobs = (int32_t)cache_get_u32(c);
    out->config.n_top_logprobs = (int32_t)cache_get_u32(c);
    out->config.want_logits = (int32_t)cache_get_u32(c);
    out->config.prompt_logprobs = (int32_t)cache_get_u32(c);
    out->at_start = (int32_t)cache_get_u32(c);
    out->n_pending = (int32_t)cache_get_u32(c);
    const uint8_t *pending = cache_get_bytes(c, sizeof out->pending);
    if (pending)
        memcpy(out->pending, pending, sizeof out->pending);
    get_sampling(&out->config.sampling, c);
    c->bad |= c->at != c->size;
}

static void get_more(struct snapshot_request *out, struct cache_cursor *c)
{
    struct request_config *config = &out->config;
    config->min_tokens = (int64_t)cache_get_u64(c);
    config->show_special = (int32_t)cache_get_u32(c);
    config->speculation = (infer_speculation)cache_get_u32(c);
    config->max_draft_tokens = (int32_t)cache_get_u32(c);
    config->ngram_min = (int32_t)cache_get_u32(c);
    config->ngram_max = (int32_t)cache_get_u32(c);
    out->has_logits_fn = (int32_t)cache_get_u32(c);
    out->has_grammar = (int32_t)cache_get_u32(c);
    config->n_said = (int32_t)cache_get_u32(c);
    config->disable_jump_ahead = !cache_get_u32(c);
    cache_get_u32(c);
    out->grammar.low = cache_get_u64(c);
    out->grammar.high = cache_get_u64(c);
    c->bad |= c->at != c->size;
}

static int is_bool(int32_t value)
{
    return value == 0 || value == 1;
}

/* The same of what version 2 added; all 0 of a snapshot of version 1. */
static int more_is_sane(const struct snapshot_request *r)
{
    const struct request_config *c = &r->config;
    return c->min_tokens >= 0 && is_bool(c->show_special) && c->speculation >= 0 &&
           c->speculation <= INFER_SPECULATION_DRAFT && c->max_draft_tokens >= 0 &&
           c->max_draft_tokens <= DRAFT_TOKENS_MAX && c->ngram_min >= 0 && c->ngram_max >= 0 &&
           c->ngram_max <= NGRAM_MAX && c->ngram_min <= c->ngram_max && is_bool(r->has_logits_fn) &&
           is_bool(r->has_grammar) && c->n_said >= 0 &&
           c->n_said <= (r->has_grammar ? r->n_prompt : 0);
}

/* Whether the numbers agree with each other. */
static int are_sane(const struct snapshot_request *r)
{
    const struct request_config *c = &r->config;
    if (r->n_prompt < 1 || r->n_tokens < 0 || r->n_tokens >= INT32_MAX - r->n_prompt)
        return 0;
    return r->n_computed >= 0 && r->n_computed < r->n_prompt + r->n_tokens && r->n_scored >= 0 &&
           r->n_scored < r->n_prompt && r->n_cached >= 0 && r->n_cached <= r->n_prompt &&
           r->n_stop >= 0 && r->n_stop <= STOP_MAX && c->max_tokens >= 0 &&
           r->n_taken <= (uint64_t)r->n_tokens && (!c->prefill_only || !r->n_tokens) &&
           c->n_top_logprobs >= 0 && c->n_top_logprobs <= TOP_MAX && r->n_pending >= 0 &&
           r->n_pending < (int32_t)sizeof r->pending &&
           c->sampling.n_top_logprobs == c->n_top_logprobs &&
           (!c->sampling.no_logprobs || (!c->logprobs && !c->n_top_logprobs));
}

/* Ends of texts of tokens rise up to what was released. */
static int ends_rise(const struct snapshot_request *r)
{
    struct cache_cursor c = r->reported;
    uint64_t last = 0;
    for (int32_t i = 0; i < r->n_tokens; i++) {
        cache_get_f32(&c);
        uint64_t end = cache_get_u64(&c);
        if (end < last || end > r->released)
            return 0;
        last = end;
    }
    return r->released <= r->text.size &&
           text_utf8_valid_prefix((const char *)r->text.data, r->text.size) == r->text.size;
}

/* Strings with a 0 behind each, none of them empty. */
static int stops_are_whole(const struct snapshot_request *r)
{
    const uint8_t *p = r->stop.data, *end = p + r->stop.size;
    for (int32_t i = 0; i < r->n_stop; i++) {
        const uint8_t *zero = p < end ? memchr(p, 0, (size_t)(end - p)) : NULL;
        if (!zero || zero == p)
            return 0;
        p = zero + 1;
    }
    return p == end;
}

static int sizes_agree(const struct snapshot_request *r)
{
    const struct request_config *c = &r->config;
    const uint64_t n_tokens = (uint64_t)r->n_tokens, n_prompt = (uint64_t)r->n_prompt;
    const uint64_t n_kept = c->want_logits ? n_tokens - r->n_taken : 0;
    return r->tokens.size == 4 * (n_prompt + n_tokens) && r->bias.size % 8 == 0 &&
           r->reported.size == 12 * n_tokens &&
           r->top.size == 8 * n_tokens * (uint64_t)c->n_top_logprobs &&
           r->prompt_logprobs.size == (c->prompt_logprobs ? 4 * n_prompt : 0) &&
           (n_kept ? r->logits.size % (4 * n_kept) == 0 : !r->logits.size);
}

infer_status snapshot_get_request(struct snapshot_request *out, struct cache_snapshot *s)
{
    struct snapshot_request r = {.n_prompt = 0};
    struct cache_cursor numbers, more = {.size = 0};
    const struct {
        uint32_t id;
        struct cache_cursor *cursor;
    } sections[] = {
        {SECTION_REQUEST, &numbers}, {CACHE_SNAPSHOT_TOKENS, &r.tokens},
        {SECTION_BIAS, &r.bias},     {SECTION_STOP, &r.stop},
        {SECTION_TEXT, &r.text},     {SECTION_REPORTED, &r.reported},
        {SECTION_TOP, &r.top},       {SECTION_SCORED, &r.prompt_logprobs},
        {SECTION_LOGITS, &r.logits}, {SECTION_MORE, &more},
    };
    const size_t n_sections = BASE_COUNT(sections) - (s->head.format < 2);
    for (size_t i = 0; i < n_sections; i++) {
        struct cache_snapshot_section section;
        infer_status st = cache_snapshot_next(s, sections[i].id, &section, sections[i].cursor);
        if (st != INFER_OK)
            return st;
    }
    get_numbers(&r, &numbers);
    if (s->head.format >= 2)
        get_more(&r, &more);
    if (numbers.bad || more.bad || !are_sane(&r) || !more_is_sane(&r) || !sizes_agree(&r) ||
        !stops_are_whole(&r) || !ends_rise(&r))
        return base_error(INFER_ERR_FORMAT,
                          "the snapshot's request contradicts itself: its numbers were forged");
    if (s->head.n_tokens != r.n_computed)
        return base_error(INFER_ERR_FORMAT,
                          "the snapshot has blocks of %d positions, its request "
                          "has %d",
                          s->head.n_tokens, r.n_computed);
    *out = r;
    return INFER_OK;
}
