/* Metadata to hyperparameters. */
#include "model/hparams.h"

#include "base/error.h"
#include "kernels/kernels.h"
#include "model/arch.h"

#include <stdio.h>
#include <string.h>

#define KEY_MAX 128

static infer_status read_row(struct model_hparams *hp, const struct model_arch *arch,
                             const struct model_hparam_row *row, const struct gguf_file *file)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%s.%s", arch->name, row->key);
    float real = 0;
    int32_t whole = 0;
    infer_status st =
        row->is_float ? gguf_get_f32(file, key, &real) : gguf_get_i32(file, key, &whole);
    if (st == INFER_ERR_NOT_FOUND && !row->required)
        return INFER_OK;
    if (st == INFER_ERR_NOT_FOUND)
        return base_error(INFER_ERR_FORMAT, "metadata key %s is missing", key);
    if (st != INFER_OK)
        return st;
    double value = row->is_float ? (double)real : (double)whole;
    if (!(value >= row->min && value <= row->max)) /* false for NaN too */
        return base_error(INFER_ERR_FORMAT, "metadata key %s is %g, expected %g to %g", key, value,
                          row->min, row->max);
    if (row->is_float)
        memcpy((char *)hp + row->offset, &real, sizeof real);
    else
        memcpy((char *)hp + row->offset, &whole, sizeof whole);
    return INFER_OK;
}

static infer_status check(const struct model_hparams *hp)
{
    if (hp->n_experts)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "a mixture of %d experts is not supported by this version",
                          hp->n_experts);
    if (hp->n_heads % hp->n_heads_kv)
        return base_error(INFER_ERR_FORMAT,
                          "attention.head_count %d is not a multiple of head_count_kv %d",
                          hp->n_heads, hp->n_heads_kv);
    if (hp->n_heads / hp->n_heads_kv > KERN_ATTN_GROUP_MAX)
        return base_error(INFER_ERR_UNSUPPORTED, "%d query heads share a KV head, at most %d",
                          hp->n_heads / hp->n_heads_kv, KERN_ATTN_GROUP_MAX);
    if (hp->head_dim > KERN_ATTN_HEAD_MAX)
        return base_error(INFER_ERR_UNSUPPORTED, "heads of %d elements, at most %d", hp->head_dim,
                          KERN_ATTN_HEAD_MAX);
    if (hp->n_rot > hp->head_dim || hp->n_rot % 2)
        return base_error(INFER_ERR_FORMAT,
                          "rope.dimension_count %d must be even and at most the head's %d",
                          hp->n_rot, hp->head_dim);
    return INFER_OK;
}

infer_status model_hparams_read(struct model_hparams *out, const struct model_arch *arch,
                                const struct gguf_file *file, int32_t n_vocab)
{
    struct model_hparams hp = {.n_vocab = n_vocab, .rope_base = 10000};
    for (size_t i = 0; i < arch->n_hparams; i++) {
        infer_status st = read_row(&hp, arch, &arch->hparams[i], file);
        if (st != INFER_OK)
            return st;
    }
    if (!hp.n_heads_kv)
        hp.n_heads_kv = hp.n_heads;
    if (!hp.head_dim) {
        if (hp.n_embd % hp.n_heads)
            return base_error(INFER_ERR_FORMAT,
                              "embedding_length %d is not a multiple of head_count %d", hp.n_embd,
                              hp.n_heads);
        hp.head_dim = hp.n_embd / hp.n_heads;
    }
    if (!hp.n_rot)
        hp.n_rot = hp.head_dim;
    infer_status st = check(&hp);
    if (st == INFER_OK)
        *out = hp;
    return st;
}
