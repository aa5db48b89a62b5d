/* Heads of encoders, and what Sentence Transformers writes beside a model: how its rows become one
 * vector, and what is put before texts. */
#include "model/hf_encoder.h"

#include "base/error.h"

#include <stdio.h>

#define OWN(name) "infer.embedding." name

int model_hf_has_sequence_head(const struct model_hf *hf)
{
    static const char end[] = "ForSequenceClassification";
    struct base_view name = {"", 0};
    base_json_string(base_json_at(model_hf_get(hf, "architectures"), 0), &name);
    return name.size >= strlen(end) &&
           memcmp(name.data + name.size - strlen(end), end, strlen(end)) == 0;
}

static infer_status add_head(struct model_hf *hf, const char *to,
                             const struct model_hf_value *value, const char *suffix)
{
    char name[MODEL_HF_PLACE_MAX];
    if (!model_hf_has_sequence_head(hf))
        return INFER_OK;
    snprintf(name, sizeof name, "%s%s", to, suffix);
    return model_hf_add(hf, name, value, 0);
}

infer_status model_hf_make_cls(struct model_hf *hf, const struct model_hf_value *value,
                               int32_t layer, const char *suffix)
{
    BASE_UNUSED(layer);
    return add_head(hf, "cls", value, suffix);
}

infer_status model_hf_make_cls_norm(struct model_hf *hf, const struct model_hf_value *value,
                                    int32_t layer, const char *suffix)
{
    BASE_UNUSED(layer);
    return add_head(hf, "cls.norm", value, suffix);
}

/* ------------------------------------------------------------------ modules */

static infer_status set_text(struct model_hf *hf, const char *key, const char *text)
{
    return gguf_draft_string(hf->draft, key, (struct base_view){text, strlen(text)});
}

/* The class at the end of "sentence_transformers.models.Pooling". */
static struct base_view class_of(const struct base_json *module)
{
    struct base_view type = {"", 0};
    base_json_string(base_json_get(module, "type"), &type);
    for (size_t i = type.size; i-- > 0;)
        if (type.data[i] == '.')
            return (struct base_view){type.data + i + 1, type.size - i - 1};
    return type;
}

struct modules {
    int pools, normalizes;
    struct base_view other; /* a module of another kind; size 0: none */
};

static struct modules read_modules(const struct model_hf *hf)
{
    const struct base_json *list = hf_dir_json(hf->dir, HF_MODULES);
    struct modules m = {0};
    for (size_t i = 0; base_json_at(list, i); i++) {
        struct base_view name = class_of(base_json_at(list, i));
        if (base_view_equal(name, "Pooling"))
            m.pools = 1;
        else if (base_view_equal(name, "Normalize"))
            m.normalizes = 1;
        else if (!base_view_equal(name, "Transformer"))
            m.other = name;
    }
    return m;
}

/* The one way of pooling that the file asks for; several are joined end to end there. */
static infer_status read_pooling(const struct model_hf *hf, const char **name, int32_t *number)
{
    static const struct {
        const char *key, *mode, *name;
        int32_t number; /* of llama.cpp; 0: it has none */
    } kinds[] = {{"pooling_mode_mean_tokens", "mean", "mean", 1},
                 {"pooling_mode_cls_token", "cls", "cls", 2},
                 {"pooling_mode_lasttoken", "lasttoken", "last", 3},
                 {"pooling_mode_max_tokens", "max", "max", 0},
                 {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", NULL, 0},
                 {"pooling_mode_weightedmean_tokens", "weightedmean", NULL, 0}};
    const struct base_json *config = hf_dir_json(hf->dir, HF_POOLING);
    struct base_view mode = {"", 0};
    int found = 0;
    base_json_string(base_json_get(config, "pooling_mode"), &mode);
    if (!config) {
        *name = "mean"; /* what the class does unless it is told */
        *number = 1;
        return INFER_OK;
    }
    for (size_t i = 0; i < BASE_COUNT(kinds); i++) {
        int32_t flag = 0;
        base_json_bool(base_json_get(config, kinds[i].key), &flag);
        if (!flag && !base_view_equal(mode, kinds[i].mode))
            continue;
        if (!kinds[i].name || found++)
            return base_error(INFER_ERR_UNSUPPORTED,
                              "1_Pooling/config.json: pooling by %s is not supported",
                              kinds[i].name ? "more than one way" : kinds[i].mode);
        *name = kinds[i].name;
        *number = kinds[i].number;
    }
    return found ? INFER_OK
                 : base_error(INFER_ERR_UNSUPPORTED, "1_Pooling/config.json names no pooling that "
                                                     "is known");
}

static infer_status set_pooling(struct model_hf *hf, const struct modules *m)
{
    const char *name = NULL;
    int32_t number = 0, include = 1;
    infer_status st = read_pooling(hf, &name, &number);
    if (st == INFER_OK && number)
        st = model_hf_set_u32(hf, "pooling_type", (uint32_t)number);
    if (st == INFER_OK)
        st = set_text(hf, OWN("pooling"), name);
    if (st == INFER_OK)
        st = gguf_draft_bool(hf->draft, OWN("normalize"), m->normalizes);
    base_json_bool(base_json_get(hf_dir_json(hf->dir, HF_POOLING), "include_prompt"), &include);
    return st == INFER_OK && !include ? gguf_draft_bool(hf->draft, OWN("include_prompt"), 0) : st;
}

/* Prompts have names; those for queries and documents go by several. */
static infer_status set_prompt(struct model_hf *hf, const char *key, const char *const *names)
{
    const struct base_json *prompts =
        base_json_get(hf_dir_json(hf->dir, HF_SENTENCE_TRANSFORMERS), "prompts");
    struct base_view text;
    for (size_t i = 0; names[i]; i++)
        if (base_json_string(base_json_get(prompts, names[i]), &text))
            return text.size ? gguf_draft_string(hf->draft, key, text) : INFER_OK;
    return INFER_OK;
}

static infer_status set_limits(struct model_hf *hf)
{
    int64_t n = 0;
    base_json_i64(base_json_get(hf_dir_json(hf->dir, HF_SENTENCE_BERT), "max_seq_length"), &n);
    if (n > 0 && n <= INT32_MAX)
        return gguf_draft_u32(hf->draft, OWN("max_tokens"), (uint32_t)n);
    return INFER_OK;
}

infer_status model_hf_sentence(struct model_hf *hf)
{
    static const char *const queries[] = {"query", "search_query", "s2p_query", "Retrieval-query",
                                          NULL};
    static const char *const documents[] = {
        "document", "passage", "corpus", "search_document", "Retrieval-document", NULL};
    const struct modules m = read_modules(hf);
    struct base_view pooling;
    infer_status st = INFER_OK;
    if (m.other.size)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "modules.json: modules of type \"%.*s\" are not supported",
                          (int)BASE_MIN(m.other.size, (size_t)64), m.other.data);
    if (m.pools)
        st = set_pooling(hf, &m);
    if (st == INFER_OK && base_json_string(model_hf_get(hf, "classifier_pooling"), &pooling))
        st = gguf_draft_string(hf->draft, OWN("head_pooling"), pooling);
    if (st == INFER_OK)
        st = set_prompt(hf, OWN("query_prompt"), queries);
    if (st == INFER_OK)
        st = set_prompt(hf, OWN("document_prompt"), documents);
    return st == INFER_OK ? set_limits(hf) : st;
}
