/* Public: <infer/embed.h>. */
#include "handle.h"
#include "judge.h"
#include "model/digest.h"
#include "passage.h"

#include <infer/embed.h>
#include <math.h>

_Static_assert(INFER_POOLING_MEAN == (int)MODEL_POOLING_MEAN &&
                   INFER_POOLING_CLS == (int)MODEL_POOLING_CLS &&
                   INFER_POOLING_LAST == (int)MODEL_POOLING_LAST &&
                   INFER_POOLING_MAX == (int)MODEL_POOLING_MAX,
               "the public names are the internal ones");

static const char *text_or_none(const char *text)
{
    return text ? text : "";
}

infer_status infer_model_get_embedding_info(infer_model *model, infer_embedding_info *info)
{
    static const char *const names[] = {"", "mean", "cls", "last", "max"};
    REQUIRE(model);
    const struct model_pooling *p = &model->pooling;
    infer_status st = base_info_check(info, "infer_embedding_info");
    if (st != INFER_OK)
        return st;
    if (!model->arch)
        return base_error(INFER_ERR_INVALID, "%s was loaded with vocabulary_only", model->path);
    const int32_t most = p->max_tokens > 0 ? p->max_tokens : model->hp.n_context;
    const infer_embedding_info full = {
        .dims = model->hp.n_embd,
        .n_context = BASE_MIN(most, model->hp.n_context),
        .pooling = (infer_pooling)p->kind,
        .normalized = p->normalize != 0,
        .pooling_name = names[p->kind],
        .query_prompt = text_or_none(p->query_prompt),
        .document_prompt = text_or_none(p->document_prompt),
        .digest = model_digest_text(model),
        .can_embed = p->kind != MODEL_POOLING_NONE,
        .can_rerank = model_head_labels(model) == 1 || *text_or_none(p->question),
    };
    return base_info_copy(info, &full, sizeof full, "infer_embedding_info");
}

static infer_status check_options(const infer_embed_options *o)
{
    if (o->as < INFER_EMBED_AS_IS || o->as > INFER_EMBED_AS_DOCUMENT)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_embed_as %d is not known", o->as);
    if (o->pooling < INFER_POOLING_DEFAULT || o->pooling > INFER_POOLING_MAX)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_pooling %d is not known", o->pooling);
    if (o->no_normalize < 0 || o->no_normalize > 1 || o->truncate < 0 || o->truncate > 1)
        return base_error(INFER_ERR_INVALID, "no_normalize is %d and truncate %d, expected 0 or 1",
                          o->no_normalize, o->truncate);
    if (o->reserved)
        return base_error(INFER_ERR_INVALID, "infer_embed_options.reserved is %u, not 0",
                          (unsigned)o->reserved);
    return INFER_OK;
}

/* What both functions begin with. */
static infer_status get_options(infer_embed_options *o, const infer_embed_options *given,
                                const infer_embed_report *report, size_t n)
{
    infer_status st = base_options_copy(o, sizeof *o, given, "infer_embed_options");
    if (st == INFER_OK)
        st = check_options(o);
    if (st == INFER_OK && report)
        st = base_info_check(report, "infer_embed_report");
    if (st == INFER_OK && !n)
        st = base_error(INFER_ERR_INVALID, "there are no texts");
    return st;
}

/* Tokens that a text may have: the session's context where the host named one. */
static int32_t limit_of(const struct infer_session *s)
{
    const int32_t most = s->model->pooling.max_tokens;
    int32_t n = BASE_MIN(s->n_context, kv_cache_capacity(s->kv));
    return !s->n_context_asked && most > 0 ? BASE_MIN(n, most) : n;
}

static infer_status describe(struct embed_how *how, const struct infer_session *s,
                             const infer_embed_options *o)
{
    const struct infer_model *model = s->model;
    const struct model_pooling *p = &model->pooling;
    how->pooling = o->pooling ? (enum model_pooling_kind)o->pooling : p->kind;
    how->dims = o->dims ? o->dims : model->hp.n_embd;
    how->normalize = p->normalize && !o->no_normalize;
    if (o->dims < 0 || o->dims > model->hp.n_embd)
        return base_error(INFER_ERR_INVALID, "dims is %d, expected 0 to %d", o->dims,
                          model->hp.n_embd);
    if (how->pooling == MODEL_POOLING_NONE)
        return base_error(INFER_ERR_INVALID,
                          "%s names no pooling, as a model for embeddings does: set "
                          "infer_embed_options.pooling",
                          model->path);
    return INFER_OK;
}

static const char *prompt_of(const struct infer_model *model, const infer_embed_options *o)
{
    if (o->prompt || o->as == INFER_EMBED_AS_IS)
        return text_or_none(o->prompt);
    return text_or_none(o->as == INFER_EMBED_AS_QUERY ? model->pooling.query_prompt
                                                      : model->pooling.document_prompt);
}

static struct request_config config_of(const infer_embed_options *o)
{
    return (struct request_config){
        .sampling = {.top_p = 1, .repetition_penalty = 1, .penalty_last_n = -1, .no_logprobs = 1},
        .cache_namespace = o->cache_namespace,
        .tenant = o->tenant,
        .priority = o->priority,
        .deadline_ns = o->deadline_ns,
    };
}

/* Both functions: texts become tokens, and these numbers. */
static infer_status compute(float *out, struct infer_session *s, const struct embed_how *how,
                            const struct passage_how *passages, const char *const *texts,
                            const size_t *sizes, size_t n, const infer_embed_options *o,
                            infer_embed_report *report)
{
    struct passage_set set;
    infer_status st = passage_encode(&set, s, passages, texts, sizes, n);
    if (st != INFER_OK)
        return st;
    const infer_embed_report full = {.n_tokens = set.tokens.size,
                                     .n_cut_texts = set.n_cut_texts,
                                     .n_cut_tokens = set.n_cut_tokens};
    const struct request_config config = config_of(o);
    st = embed_run(s, &config, how, set.items, set.n, out);
    passage_release(&set);
    if (st == INFER_OK && report)
        st = base_info_copy(report, &full, sizeof full, "infer_embed_report");
    return st;
}

infer_status infer_session_embed(float *vectors, infer_session *session, const char *const *texts,
                                 const size_t *sizes, size_t n, const infer_embed_options *options,
                                 infer_embed_report *report)
{
    REQUIRE(vectors);
    REQUIRE(session);
    REQUIRE(texts);
    infer_embed_options o;
    struct embed_how how = {0};
    infer_status st = get_options(&o, options, report, n);
    if (st != INFER_OK)
        return st;
    struct infer_session *s = session_current(session);
    st = describe(&how, s, &o);
    if (st == INFER_OK) {
        const struct passage_how passages = {.prompt = prompt_of(s->model, &o),
                                             .skips_prompt = !s->model->pooling.include_prompt,
                                             .limit = limit_of(s),
                                             .truncate = o.truncate};
        st = compute(vectors, s, &how, &passages, texts, sizes, n, &o, report);
    }
    session_done(s);
    return st;
}

static infer_status check_head(const struct infer_model *model)
{
    const int32_t n = model_head_labels(model);
    if (n == 1)
        return INFER_OK;
    if (n)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "the head of %s has %d outputs, that of a reranker has one", model->path,
                          n);
    return base_error(
        INFER_ERR_UNSUPPORTED,
        "%s has no head that scores pairs of texts, and its file does not say what to "
        "ask it: set infer_embed_options.rerank_template for a decoder that was "
        "trained to say yes or no",
        model->path);
}

/* By a decoder. */
static infer_status judge(float *scores, struct infer_session *s, const char *template_text,
                          const char *query, const char *const *texts, const size_t *sizes,
                          size_t n, const infer_embed_options *o, infer_embed_report *report)
{
    const struct judge_how how = {
        .template_text = template_text,
        .instruction = o->prompt ? o->prompt
                                 : "Given a web search query, retrieve relevant passages that "
                                   "answer the query",
        .query = query,
        .yes = o->rerank_yes ? o->rerank_yes : "yes",
        .no = o->rerank_no ? o->rerank_no : "no",
        .limit = limit_of(s),
        .truncate = o->truncate,
        .base = config_of(o),
    };
    struct judge_report done;
    infer_status st = judge_run(scores, s, &how, texts, sizes, n, &done);
    const infer_embed_report full = {.n_tokens = done.n_tokens,
                                     .n_cut_texts = done.n_cut_texts,
                                     .n_cut_tokens = done.n_cut_tokens};
    return st == INFER_OK && report
               ? base_info_copy(report, &full, sizeof full, "infer_embed_report")
               : st;
}

/* By a head. */
static infer_status classify(float *scores, struct infer_session *s, const char *query,
                             const char *const *texts, const size_t *sizes, size_t n,
                             const infer_embed_options *o, infer_embed_report *report)
{
    const struct embed_how how = {.n_labels = 1};
    const struct passage_how passages = {
        .prompt = "", .query = query, .limit = limit_of(s), .truncate = o->truncate};
    infer_status st = check_head(s->model);
    if (st == INFER_OK)
        st = compute(scores, s, &how, &passages, texts, sizes, n, o, report);
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        scores[i] = (float)(1 / (1 + exp(-(double)scores[i])));
    return st;
}

infer_status infer_session_rerank(float *scores, infer_session *session, const char *query,
                                  const char *const *texts, const size_t *sizes, size_t n,
                                  const infer_embed_options *options, infer_embed_report *report)
{
    REQUIRE(scores);
    REQUIRE(session);
    REQUIRE(query);
    REQUIRE(texts);
    infer_embed_options o;
    infer_status st = get_options(&o, options, report, n);
    if (st != INFER_OK)
        return st;
    struct infer_session *s = session_current(session);
    const char *asked =
        text_or_none(o.rerank_template ? o.rerank_template : s->model->pooling.question);
    if (*asked && !s->encode.encoder)
        st = judge(scores, s, asked, query, texts, sizes, n, &o, report);
    else
        st = classify(scores, s, query, texts, sizes, n, &o, report);
    session_done(s);
    return st;
}
