/* Pooling: what a file says of it, and the arithmetic. */
#include "base/error.h"
#include "base/str.h"
#include "model/encode.h"

#include <math.h>
#include <stdio.h>

#define OWN(name) "infer.embedding." name

/* An absent key leaves the preset value. */
static infer_status optional(infer_status st)
{
    return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
}

static infer_status read_kind(const struct gguf_file *file, const char *key,
                              enum model_pooling_kind *out)
{
    static const char *const names[] = {[MODEL_POOLING_NONE] = "none",
                                        [MODEL_POOLING_MEAN] = "mean",
                                        [MODEL_POOLING_CLS] = "cls",
                                        [MODEL_POOLING_LAST] = "last",
                                        [MODEL_POOLING_MAX] = "max"};
    struct base_view text;
    infer_status st = gguf_get_string(file, key, &text);
    if (st != INFER_OK)
        return optional(st);
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (base_view_equal(text, names[i])) {
            *out = (enum model_pooling_kind)i;
            return INFER_OK;
        }
    return base_error(INFER_ERR_FORMAT, "metadata key %s is \"%.*s\", no kind of pooling", key,
                      (int)BASE_MIN(text.size, (size_t)64), text.data);
}

static infer_status read_prompt(const struct gguf_file *file, const char *key,
                                struct base_arena *arena, const char **out)
{
    struct base_view text;
    *out = "";
    infer_status st = gguf_get_string(file, key, &text);
    if (st != INFER_OK)
        return optional(st);
    *out = base_arena_strdup(arena, text.data, text.size);
    return *out ? INFER_OK : INFER_ERR_NO_MEMORY;
}

infer_status model_pooling_read(struct model_pooling *out, struct base_arena *arena,
                                const char *arch_name, const struct gguf_file *file)
{
    /* llama.cpp's numbers: none, mean, cls, last, rank. */
    static const enum model_pooling_kind kinds[] = {MODEL_POOLING_NONE, MODEL_POOLING_MEAN,
                                                    MODEL_POOLING_CLS, MODEL_POOLING_LAST,
                                                    MODEL_POOLING_NONE};
    struct model_pooling p = {.head = MODEL_POOLING_CLS, .include_prompt = 1};
    char key[160];
    int32_t type = 0;
    snprintf(key, sizeof key, "%s.pooling_type", arch_name);
    infer_status st = optional(gguf_get_i32(file, key, &type));
    if (st == INFER_OK && (type < 0 || (size_t)type >= BASE_COUNT(kinds)))
        st = base_error(INFER_ERR_FORMAT, "metadata key %s is %d, expected 0 to %zu", key, type,
                        BASE_COUNT(kinds) - 1);
    if (st == INFER_OK)
        p.kind = kinds[type];
    if (st == INFER_OK)
        st = read_kind(file, OWN("pooling"), &p.kind);
    if (st == INFER_OK)
        st = read_kind(file, OWN("head_pooling"), &p.head);
    /* Files of others do not say: their readers give vectors of length 1. */
    p.normalize = p.kind != MODEL_POOLING_NONE;
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, OWN("normalize"), &p.normalize));
    if (st == INFER_OK)
        st = optional(gguf_get_bool(file, OWN("include_prompt"), &p.include_prompt));
    if (st == INFER_OK)
        st = optional(gguf_get_i32(file, OWN("max_tokens"), &p.max_tokens));
    if (st == INFER_OK && p.max_tokens < 0)
        st = base_error(INFER_ERR_FORMAT, "metadata key " OWN("max_tokens") " is %d", p.max_tokens);
    if (st == INFER_OK)
        st = read_prompt(file, OWN("query_prompt"), arena, &p.query_prompt);
    if (st == INFER_OK)
        st = read_prompt(file, OWN("document_prompt"), arena, &p.document_prompt);
    if (st == INFER_OK)
        st = read_prompt(file, "tokenizer.chat_template.rerank", arena, &p.question);
    if (st == INFER_OK)
        *out = p;
    return st;
}

/* -------------------------------------------------------------- arithmetic */

static void pool_mean(float *out, const float *rows, int32_t n, int32_t n_embd)
{
    for (int32_t i = 0; i < n; i++)
        for (int32_t d = 0; d < n_embd; d++)
            out[d] += rows[(size_t)i * (size_t)n_embd + (size_t)d];
    for (int32_t d = 0; d < n_embd; d++)
        out[d] /= (float)n;
}

static void pool_max(float *out, const float *rows, int32_t n, int32_t n_embd)
{
    memcpy(out, rows, (size_t)n_embd * sizeof *out);
    for (int32_t i = 1; i < n; i++)
        for (int32_t d = 0; d < n_embd; d++) {
            float x = rows[(size_t)i * (size_t)n_embd + (size_t)d];
            out[d] = x > out[d] ? x : out[d];
        }
}

static void normalise(float *x, int32_t n)
{
    double sum = 0;
    for (int32_t d = 0; d < n; d++)
        sum += (double)x[d] * (double)x[d];
    float factor = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    for (int32_t d = 0; d < n; d++)
        x[d] *= factor;
}

void model_fold_rows(const struct infer_model *model, const float *rows,
                     const struct model_fold *folds, int32_t n)
{
    const int32_t n_embd = model->hp.n_embd;
    const size_t width = (size_t)n_embd;
    for (const struct model_fold *f = folds; f < folds + n; f++)
        for (int32_t i = 0; i < f->n_rows; i++) {
            const float *row = rows + (size_t)(f->row + i) * width;
            if (f->kind == MODEL_POOLING_MEAN)
                model->device->kernels.unary.add(f->vector, row, n_embd);
            else if (f->kind != MODEL_POOLING_MAX || (i == 0 && !f->begun))
                memcpy(f->vector, row, width * sizeof *row);
            else
                for (int32_t k = 0; k < n_embd; k++)
                    f->vector[k] = BASE_MAX(f->vector[k], row[k]);
        }
}

void model_pool(float *out, const float *rows, const struct model_encode_batch *batch,
                int32_t n_embd, enum model_pooling_kind kind, int32_t normalize,
                const int32_t *skip)
{
    size_t width = (size_t)n_embd;
    for (int32_t i = 0; i < batch->n_texts; i++, out += width) {
        const float *x = rows + (size_t)batch->offsets[i] * width;
        int32_t n = batch->offsets[i + 1] - batch->offsets[i];
        int32_t left_out = skip ? BASE_MIN(BASE_MAX(skip[i], 0), BASE_MAX(n - 1, 0)) : 0;
        memset(out, 0, width * sizeof *out);
        if (n < 1)
            continue;
        if (kind == MODEL_POOLING_MEAN)
            pool_mean(out, x + (size_t)left_out * width, n - left_out, n_embd);
        else if (kind == MODEL_POOLING_MAX)
            pool_max(out, x + (size_t)left_out * width, n - left_out, n_embd);
        else
            memcpy(out, kind == MODEL_POOLING_LAST ? x + (size_t)(n - 1) * width : x,
                   width * sizeof *out);
        if (normalize)
            normalise(out, n_embd);
    }
}
