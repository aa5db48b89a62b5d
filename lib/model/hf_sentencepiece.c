/* Vocabularies of SentencePiece (.model) and of llama2.c (tokenizer.bin). */
#include "base/error.h"
#include "base/str.h"
#include "format/sentencepiece.h"
#include "model/hf_tokenizer_internal.h"
#include "text/pieces.h"

static infer_status copy_pieces(struct hf_vocab *v, const struct sentencepiece *s)
{
    infer_status st = hf_vocab_reserve(v, s->pieces.size);
    for (size_t i = 0; i < s->pieces.size && st == INFER_OK; i++) {
        const struct sentencepiece_piece *p = &s->pieces.data[i];
        st = hf_vocab_put(v, p->text, (int64_t)i, p->type);
        v->scores[i] = p->score;
    }
    return st;
}

/* Control tokens that the model names; others of these ids are ordinary pieces. */
static infer_token control(const struct sentencepiece *s, int32_t id, int32_t type)
{
    return id >= 0 && s->pieces.data[id].type == type ? id : -1;
}

infer_status hf_vocab_read_sentencepiece(struct hf_vocab *v, struct base_view data)
{
    struct sentencepiece s;
    infer_status st = sentencepiece_read(&s, &v->arena.alloc, data);
    if (st != INFER_OK)
        return st;
    if (s.model != SENTENCEPIECE_UNIGRAM && s.model != SENTENCEPIECE_BPE) {
        st = base_error(INFER_ERR_UNSUPPORTED,
                        "SentencePiece model of type %d, supported are 1 (unigram) and 2 (BPE)",
                        (int)s.model);
        goto out;
    }
    v->kind = s.model == SENTENCEPIECE_BPE ? HF_SCORED_BPE : HF_UNIGRAM;
    if (!s.escape && v->kind == HF_SCORED_BPE) {
        st = base_error(INFER_ERR_UNSUPPORTED,
                        "SentencePiece BPE model without escape_whitespaces is not supported");
        goto out;
    }
    v->escapes_spaces = 1;
    v->keeps_plain_spaces = !s.escape;
    v->float_scores = 1;
    v->charsmap = s.charsmap;
    v->squeezes = s.squeeze;
    v->space_prefix = s.add_prefix ? TEXT_PREFIX_SPACE : 0;
    if (s.add_prefix && s.space_behind)
        v->space_prefix |= TEXT_PREFIX_BEHIND;
    if (s.add_prefix && !hf_json_flag(v->files->config, "legacy", 1))
        v->space_prefix |= TEXT_PREFIX_FIRST;
    if (v->kind == HF_UNIGRAM || s.charsmap.size)
        st = hf_vocab_step(v, "charsmap");
    if (st == INFER_OK && s.squeeze)
        st = hf_vocab_step(v, "squeeze");
    v->unk = control(&s, s.unk, TEXT_TOKEN_UNKNOWN);
    v->bos = control(&s, s.bos, TEXT_TOKEN_CONTROL);
    v->eos = control(&s, s.eos, TEXT_TOKEN_CONTROL);
    v->pad = control(&s, s.pad, TEXT_TOKEN_CONTROL);
    v->add_bos = v->kind == HF_SCORED_BPE && v->bos >= 0;
    v->add_eos = v->kind == HF_UNIGRAM && v->eos >= 0;
    if (st == INFER_OK)
        st = copy_pieces(v, &s);
    if (st == INFER_OK)
        st = hf_vocab_add_tokens(v);
    if (st == INFER_OK)
        st = hf_vocab_fill(v);
out:
    sentencepiece_release(&s, &v->arena.alloc);
    return st;
}

static uint32_t read_u32(const char *p)
{
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* u32 longest token; then for each token f32 score, u32 size, its text with plain spaces. The
 * first three are unknown, BOS and EOS, the next 256 the bytes. */
static infer_status put_llama2c(struct hf_vocab *v, const char *p, const char *end, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = read_u32(p), size = read_u32(p + 4);
        memcpy(&v->scores[i], &bits, sizeof bits);
        p += 8;
        const char *text = p;
        size_t used = 0;
        char *copy = base_arena_new(&v->arena, 3 * (size_t)size + 1, 1);
        if (!copy)
            return INFER_ERR_NO_MEMORY;
        int32_t type = i == 0 ? TEXT_TOKEN_UNKNOWN : i < 3 ? TEXT_TOKEN_CONTROL : TEXT_TOKEN_NORMAL;
        struct base_view token = {text, size};
        if (i >= 3 && i < 259 && text_vocab_byte(token) >= 0)
            type = TEXT_TOKEN_BYTE;
        if (i == 1 || i == 2) { /* "\n<s>\n" */
            token.data = i == 1 ? "<s>" : "</s>";
            token.size = strlen(token.data);
        }
        for (size_t k = 0; k < token.size; k++) {
            int space = token.data[k] == ' ';
            memcpy(copy + used, space ? "\xE2\x96\x81" : &token.data[k], space ? 3 : 1);
            used += space ? 3 : 1;
        }
        infer_status st = hf_vocab_put(v, (struct base_view){copy, used}, (int64_t)i, type);
        if (st != INFER_OK)
            return st;
        p = text + size;
    }
    return p == end ? INFER_OK : base_error(INFER_ERR_FORMAT, "tokenizer.bin: bytes left over");
}

infer_status hf_vocab_read_llama2c(struct hf_vocab *v, struct base_view data)
{
    const char *p = data.data + BASE_MIN(data.size, (size_t)4), *end = data.data + data.size;
    size_t n = 0;
    for (const char *q = p; q < end; n++) {
        if (end - q < 8 || read_u32(q + 4) > (size_t)(end - q) - 8)
            return base_error(INFER_ERR_FORMAT, "tokenizer.bin: token %zu goes beyond the end", n);
        q += 8 + read_u32(q + 4);
    }
    if (n < 3)
        return base_error(INFER_ERR_FORMAT, "tokenizer.bin: %zu tokens are too few", n);
    v->kind = HF_SCORED_BPE;
    v->escapes_spaces = 1;
    v->space_prefix = TEXT_PREFIX_SPACE;
    v->unk = 0;
    v->bos = v->add_bos = 1;
    v->eos = 2;
    infer_status st = hf_vocab_reserve(v, n);
    if (st == INFER_OK)
        st = put_llama2c(v, p, end, n);
    return st == INFER_OK ? hf_vocab_fill(v) : st;
}
