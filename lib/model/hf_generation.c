/* generation_config.json: the tokens that end a text, and the sampling that is recommended. */
#include "model/hf.h"

#include "base/error.h"

#define MAX_EOS 64

static const struct {
    const char *from, *to;
    int is_float;
} sampling[] = {
    {"temperature", "general.sampling.temp", 1},
    {"top_p", "general.sampling.top_p", 1},
    {"min_p", "general.sampling.min_p", 1},
    {"repetition_penalty", "general.sampling.penalty_repeat", 1},
    {"top_k", "general.sampling.top_k", 0},
};

/* Nothing is drawn unless "do_sample" says so: then the library's default stays, too. */
static infer_status set_sampling(struct model_hf *hf, const struct base_json *generation)
{
    int32_t draws = 0;
    infer_status st = INFER_OK;
    base_json_bool(base_json_get(generation, "do_sample"), &draws);
    for (size_t i = 0; i < BASE_COUNT(sampling) && draws && st == INFER_OK; i++) {
        double value;
        if (!base_json_f64(base_json_get(generation, sampling[i].from), &value) || value < 0 ||
            value > 1e6)
            continue;
        st = sampling[i].is_float ? gguf_draft_f32(hf->draft, sampling[i].to, (float)value)
                                  : gguf_draft_u32(hf->draft, sampling[i].to, (uint32_t)value);
    }
    return st;
}

static int add_id(int32_t *ids, size_t *n, const struct base_json *v)
{
    int64_t id;
    if (!base_json_i64(v, &id) || id < 0 || id > INT32_MAX || *n == MAX_EOS)
        return 0;
    for (size_t i = 0; i < *n; i++)
        if (ids[i] == id)
            return 0;
    ids[(*n)++] = (int32_t)id;
    return 1;
}

/* A number or a list of numbers. */
static void add_ids(int32_t *ids, size_t *n, const struct base_json *v)
{
    add_id(ids, n, v);
    for (size_t i = 0; base_json_at(v, i); i++)
        add_id(ids, n, base_json_at(v, i));
}

/* The first is the end of a text, all of them end a generation. What the tokenizer's files said
 * about the first comes before. */
static infer_status set_ends(struct model_hf *hf, const struct base_json *generation)
{
    int32_t ids[MAX_EOS];
    size_t n = 0;
    const struct gguf_kv *kv = gguf_draft_find(hf->draft, "tokenizer.ggml.tokens");
    uint64_t n_tokens = kv ? kv->n : 0;
    add_ids(ids, &n, base_json_get(generation, "eos_token_id"));
    if (!n)
        add_ids(ids, &n, model_hf_get(hf, "eos_token_id"));
    for (size_t i = 0; i < n; i++)
        if ((uint64_t)ids[i] >= n_tokens)
            return base_error(INFER_ERR_FORMAT, "eos_token_id %d, but there are %llu tokens",
                              ids[i], (unsigned long long)n_tokens);
    infer_status st = INFER_OK;
    if (n && !gguf_draft_find(hf->draft, "tokenizer.ggml.eos_token_id"))
        st = gguf_draft_u32(hf->draft, "tokenizer.ggml.eos_token_id", (uint32_t)ids[0]);
    if (st == INFER_OK && n)
        st = gguf_draft_i32s(hf->draft, "tokenizer.ggml.eos_token_ids", ids, n);
    return st;
}

infer_status model_hf_generation(struct model_hf *hf)
{
    const struct base_json *generation = hf_dir_json(hf->dir, HF_GENERATION);
    infer_status st = set_sampling(hf, generation);
    return st == INFER_OK ? set_ends(hf, generation) : st;
}
