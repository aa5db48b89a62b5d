/* Which tokens begin and end a text, and which have names. */
#include "base/error.h"
#include "base/str.h"
#include "model/hf_tokenizer_internal.h"

/* Special tokens of a template: the one before the text and the one behind it. */
static infer_status take_special(struct hf_vocab *v, struct base_view text, int behind)
{
    infer_token *out = behind ? &v->after : &v->before;
    infer_token id = hf_vocab_id(v, text);
    if (id < 0)
        return base_error(INFER_ERR_FORMAT,
                          "tokenizer.json: post_processor names '%.*s', which is no token",
                          (int)BASE_MIN(text.size, (size_t)64), text.data);
    if (*out >= 0 && *out != id)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tokenizer.json: post_processor puts more than one token %s the text",
                          behind ? "behind" : "before");
    *out = id;
    return INFER_OK;
}

static infer_status add_between(struct hf_vocab *v, infer_token id)
{
    if (id < 0 || v->n_between == HF_MAX_BETWEEN)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tokenizer.json: post_processor puts an unknown token, or more than %d, "
                          "between two texts",
                          HF_MAX_BETWEEN);
    v->between[v->n_between++] = id;
    return INFER_OK;
}

/* The tokens between $A and $B of a template for pairs; those around are the single text's. */
static infer_status read_pair_template(struct hf_vocab *v, const struct base_json *pair)
{
    infer_status st = INFER_OK;
    int n_texts = 0;
    if (!base_json_is(pair, BASE_JSON_ARRAY))
        return INFER_OK;
    v->n_between = 0;
    for (size_t i = 0; i < pair->n && st == INFER_OK; i++) {
        const struct base_json *part = &pair->as.items[i];
        struct base_view text;
        int64_t type = 0;
        if (base_json_get(part, "Sequence") && ++n_texts == 2) {
            base_json_i64(base_json_path(part, "Sequence.type_id"), &type);
            v->second_type = type == 1;
        } else if (n_texts == 1 &&
                   base_json_string(base_json_path(part, "SpecialToken.id"), &text)) {
            st = add_between(v, hf_vocab_id(v, text));
        }
    }
    return st;
}

static infer_status read_template(struct hf_vocab *v, const struct base_json *j)
{
    const struct base_json *single = base_json_get(j, "single");
    infer_status st = INFER_OK;
    int behind = 0;
    for (size_t i = 0; base_json_is(single, BASE_JSON_ARRAY) && i < single->n && st == INFER_OK;
         i++) {
        struct base_view text;
        if (base_json_get(&single->as.items[i], "Sequence"))
            behind = 1;
        else if (base_json_string(base_json_path(&single->as.items[i], "SpecialToken.id"), &text))
            st = take_special(v, text, behind);
    }
    return st == INFER_OK ? read_pair_template(v, base_json_get(j, "pair")) : st;
}

/* BertProcessing and RobertaProcessing: "cls" and "sep" are [text, id]. */
static infer_status read_pair(struct hf_vocab *v, const struct base_json *j)
{
    struct base_view cls, sep;
    if (!base_json_string(base_json_at(base_json_get(j, "cls"), 0), &cls) ||
        !base_json_string(base_json_at(base_json_get(j, "sep"), 0), &sep))
        return base_error(INFER_ERR_FORMAT,
                          "tokenizer.json: post_processor without a cls and sep of [text, id]");
    int roberta = hf_json_type_is(j, "RobertaProcessing");
    infer_status st = take_special(v, cls, 0);
    if (st == INFER_OK)
        st = take_special(v, sep, 1);
    v->n_between = 0;
    v->second_type = !roberta;
    for (int i = 0; i < 1 + roberta && st == INFER_OK; i++)
        st = add_between(v, v->after);
    return st;
}

static infer_status read_processor(struct hf_vocab *v, const struct base_json *j)
{
    if (hf_json_type_is(j, "TemplateProcessing"))
        return read_template(v, j);
    if (hf_json_type_is(j, "BertProcessing") || hf_json_type_is(j, "RobertaProcessing"))
        return read_pair(v, j);
    if (hf_json_type_is(j, "ByteLevel")) /* offsets alone */
        return INFER_OK;
    return hf_unsupported("post_processor", j);
}

infer_status hf_vocab_read_post_processor(struct hf_vocab *v, const struct base_json *j)
{
    if (!j || base_json_is(j, BASE_JSON_NULL))
        return INFER_OK;
    if (!hf_json_type_is(j, "Sequence"))
        return read_processor(v, j);
    const struct base_json *parts = base_json_get(j, "processors");
    infer_status st = INFER_OK;
    for (size_t i = 0; base_json_is(parts, BASE_JSON_ARRAY) && i < parts->n && st == INFER_OK; i++)
        st = read_processor(v, &parts->as.items[i]);
    return st;
}

/* "bos_token": "text", or an object with its "content". */
static void read_named(const struct hf_vocab *v, const struct base_json *j, const char *key,
                       infer_token *out)
{
    const struct base_json *value = base_json_get(j, key);
    struct base_view text;
    if (*out < 0 && (base_json_string(value, &text) || hf_json_text(value, "content", &text)))
        *out = hf_vocab_id(v, text);
}

/* An id of config.json, for who names no token. */
static void read_number(const struct hf_vocab *v, const struct base_json *j, const char *key,
                        infer_token *out)
{
    int64_t id;
    const struct base_json *value = base_json_get(j, key);
    if (base_json_is(value, BASE_JSON_ARRAY))
        value = base_json_at(value, 0);
    if (*out < 0 && base_json_i64(value, &id) && id >= 0 && (uint64_t)id < v->n_tokens)
        *out = (infer_token)id;
}

/* Ends beyond EOS, which generation_config.json lists. */
static void read_ends(struct hf_vocab *v)
{
    const struct base_json *ends = base_json_get(v->files->generation, "eos_token_id");
    for (size_t i = 0; base_json_is(ends, BASE_JSON_ARRAY) && i < ends->n; i++) {
        int64_t id;
        if (!base_json_i64(&ends->as.items[i], &id) || id < 0 || (uint64_t)id >= v->n_tokens)
            continue;
        infer_token token = (infer_token)id;
        if (token == v->eos || token == v->eot)
            continue;
        if (v->eot < 0)
            v->eot = token;
        else if (v->eom < 0)
            v->eom = token;
    }
}

/* The words that say which tokens go around a text: the post-processor, unless
 * tokenizer_config.json says otherwise. */
static void read_around(struct hf_vocab *v)
{
    const struct base_json *config = v->files->config;
    infer_token *bos = v->kind == HF_WORDPIECE ? &v->cls : &v->bos;
    infer_token *eos = v->kind == HF_WORDPIECE ? &v->sep : &v->eos;
    if (v->before >= 0)
        *bos = v->before;
    if (v->after >= 0)
        *eos = v->after;
    int32_t add_bos = v->before >= 0, add_eos = v->after >= 0;
    (void)base_json_bool(base_json_get(config, "add_bos_token"), &add_bos);
    (void)base_json_bool(base_json_get(config, "add_eos_token"), &add_eos);
    if (v->add_bos < 0 || v->before >= 0 || base_json_get(config, "add_bos_token"))
        v->add_bos = add_bos && *bos >= 0;
    if (v->add_eos < 0 || v->after >= 0 || base_json_get(config, "add_eos_token"))
        v->add_eos = add_eos && *eos >= 0;
}

infer_status hf_vocab_read_ids(struct hf_vocab *v)
{
    const struct {
        const char *name, *number;
        infer_token *out;
    } ids[] = {
        {"bos_token", "bos_token_id", &v->bos}, {"eos_token", "eos_token_id", &v->eos},
        {"pad_token", "pad_token_id", &v->pad}, {"unk_token", NULL, &v->unk},
        {"cls_token", NULL, &v->cls},           {"sep_token", NULL, &v->sep},
        {"mask_token", NULL, &v->mask},
    };
    const struct base_json *model = base_json_get(v->files->tokenizer, "model");
    read_named(v, model, "unk_token", &v->unk);
    read_number(v, model, "unk_id", &v->unk);
    for (size_t i = 0; i < BASE_COUNT(ids); i++) {
        read_named(v, v->files->config, ids[i].name, ids[i].out);
        read_named(v, v->files->special, ids[i].name, ids[i].out);
        if (ids[i].number)
            read_number(v, v->files->generation, ids[i].number, ids[i].out);
        if (ids[i].number)
            read_number(v, v->files->model, ids[i].number, ids[i].out);
    }
    read_around(v);
    read_ends(v);
    if (v->unk >= 0 && v->kind != HF_BYTE_BPE && v->types[v->unk] != TEXT_TOKEN_USER_DEFINED)
        v->types[v->unk] = TEXT_TOKEN_UNKNOWN;
    return INFER_OK;
}
