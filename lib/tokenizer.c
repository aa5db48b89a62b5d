/* Public: <infer/tokenizer.h>. An infer_tokenizer is the model's vocabulary. */
#include "handle.h"
#include "model/vocab.h"
#include "text/stream_decode.h"

#include <infer/tokenizer.h>

/* The public handle is the internal object under another name. */
static const struct model_vocab *vocab_of(const infer_tokenizer *tokenizer)
{
    return (const struct model_vocab *)tokenizer;
}

infer_status infer_tokenizer_get_info(const infer_tokenizer *tokenizer, infer_tokenizer_info *info)
{
    REQUIRE(tokenizer);
    static const char *const kinds[] = {[TEXT_SPM] = "spm",
                                        [TEXT_BPE] = "bpe",
                                        [TEXT_WORDPIECE] = "wordpiece",
                                        [TEXT_UNIGRAM] = "unigram"};
    const struct text_vocab *v = model_vocab_text(vocab_of(tokenizer));
    infer_tokenizer_info full = {
        .kind = kinds[v->kind],
        .pre = model_vocab_pre(vocab_of(tokenizer)),
        .n_tokens = (int32_t)v->n_tokens,
        .bos = v->bos,
        .eos = v->eos,
        .eot = v->eot,
        .unk = v->unk,
        .pad = v->pad,
        .add_bos = v->add_bos,
        .add_eos = v->add_eos,
    };
    return base_info_copy(info, &full, sizeof full, "infer_tokenizer_info");
}

infer_status infer_tokenizer_encode(const infer_tokenizer *tokenizer, const char *text, size_t size,
                                    const infer_encode_options *options, infer_token *tokens,
                                    size_t *n)
{
    REQUIRE(tokenizer);
    REQUIRE(n);
    if (!text && size)
        return base_error(INFER_ERR_INVALID, "text is NULL");
    infer_encode_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_encode_options");
    if (st != INFER_OK)
        return st;
    const struct base_alloc *a = model_vocab_alloc(vocab_of(tokenizer));
    uint32_t flags = (o.disable_bos_eos ? 0 : (uint32_t)TEXT_ENCODE_ADD) |
                     (o.parse_special ? (uint32_t)TEXT_ENCODE_SPECIAL : 0);
    text_tokens out = {0};
    st = text_tokenizer_encode(model_vocab_tokenizer(vocab_of(tokenizer)), a, text, size, flags,
                               &out);
    if (st == INFER_OK)
        st = handle_fill(tokens, n, out.data, out.size, sizeof *tokens);
    base_array_release(a, &out);
    return st;
}

static infer_status check_token(const infer_tokenizer *tokenizer, infer_token token, size_t i)
{
    size_t n = model_vocab_text(vocab_of(tokenizer))->n_tokens;
    if (token < 0 || (size_t)token >= n)
        return base_error(INFER_ERR_INVALID, "token %zu is %d, the vocabulary has ids 0 to %zu", i,
                          token, n - 1);
    return INFER_OK;
}

infer_status infer_tokenizer_decode(const infer_tokenizer *tokenizer, const infer_token *tokens,
                                    size_t n, const infer_decode_options *options, char *text,
                                    size_t *size)
{
    REQUIRE(tokenizer);
    REQUIRE(size);
    if (!tokens && n)
        return base_error(INFER_ERR_INVALID, "tokens is NULL");
    infer_decode_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_decode_options");
    if (st != INFER_OK)
        return st;
    struct base_str out;
    struct text_decoder decoder;
    base_str_init(&out, model_vocab_alloc(vocab_of(tokenizer)), 0);
    text_decoder_init(&decoder, model_vocab_tokenizer(vocab_of(tokenizer)), o.show_special,
                      o.continuing);
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        st = check_token(tokenizer, tokens[i], i);
        if (st == INFER_OK)
            st = text_decoder_push(&decoder, tokens[i], &out);
    }
    if (st == INFER_OK)
        st = text_decoder_finish(&decoder, &out);
    if (st == INFER_OK)
        st = handle_fill_text(text, size, out.data, out.size);
    base_str_release(&out);
    return st;
}

infer_status infer_tokenizer_piece(const infer_tokenizer *tokenizer, infer_token token, char *bytes,
                                   size_t *size)
{
    REQUIRE(tokenizer);
    REQUIRE(size);
    infer_status st = check_token(tokenizer, token, 0);
    if (st != INFER_OK)
        return st;
    const struct text_tokenizer *t = model_vocab_tokenizer(vocab_of(tokenizer));
    size_t capacity = *size, needed = text_tokenizer_piece(t, token, 1, bytes, bytes ? *size : 0);
    *size = needed;
    if (!bytes)
        return INFER_OK;
    if (capacity < needed)
        return base_error(INFER_ERR_LIMIT, "the buffer holds %zu elements, %zu are needed",
                          capacity, needed);
    if (capacity > needed)
        bytes[needed] = 0;
    return INFER_OK;
}

int32_t infer_tokenizer_is_end(const infer_tokenizer *tokenizer, infer_token token)
{
    return tokenizer && check_token(tokenizer, token, 0) == INFER_OK &&
           text_tokenizer_is_end(model_vocab_tokenizer(vocab_of(tokenizer)), token);
}
