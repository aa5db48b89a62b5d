/* A vocabulary made ready: checks, end tokens, and the way of a text through
 * special tokens into one of the two kinds of BPE. */
#include "text/tokenizer.h"

#include "base/error.h"
#include "text/bpe.h"
#include "text/guard.h"
#include "text/pieces.h"
#include "text/special.h"
#include "text/spm.h"

#include <string.h>

/* Texts that end a turn or a document in known chat formats. Files often name
 * only one of theirs as EOS. */
static const struct {
    const char *text;
    const char *unless; /* is in the vocabulary: there this one only ends a part of a message */
} end_texts[] = {
    {"<|eot_id|>", NULL},            /* Llama 3 */
    {"<|eom_id|>", NULL},            /* Llama 3.1 */
    {"<|end_of_text|>", NULL},       /* Llama 3, Granite */
    {"<|eot|>", NULL},               /* Llama 4 */
    {"<|im_end|>", NULL},            /* ChatML: Qwen, SmolLM */
    {"<|endoftext|>", NULL},         /* GPT-2, Qwen, Phi */
    {"<|end|>", "<|return|>"},       /* Phi 3; in gpt-oss only the end of a channel */
    {"<|return|>", NULL},            /* gpt-oss */
    {"<|call|>", NULL},              /* gpt-oss */
    {"<end_of_turn>", NULL},         /* Gemma */
    {"<end_of_utterance>", NULL},    /* SmolVLM */
    {"<|END_OF_TURN_TOKEN|>", NULL}, /* Command R */
    {"<\uFF5Cend\u2581of\u2581sentence\uFF5C>", NULL}, /* DeepSeek */
    {"<EOT>", NULL},                                   /* Code Llama */
    {"[EOT]", NULL},                                   /* Kimi */
    {"[EOS]", NULL},                                   /* Kimi */
};

#define MAX_ENDS (BASE_COUNT(end_texts) + 2)

struct text_tokenizer {
    struct base_alloc alloc;
    struct text_vocab vocab;
    struct text_pieces pieces;
    struct text_special special;
    struct text_bpe bpe; /* kind BPE */
    struct text_spm spm; /* kind SPM */
    infer_token ends[MAX_ENDS];
    int32_t n_ends;
};

static infer_status check_id(const struct text_vocab *v, const char *name, infer_token id)
{
    if (id < -1 || (id >= 0 && (size_t)id >= v->n_tokens))
        return base_error(INFER_ERR_FORMAT, "the %s token is %d, but there are %zu tokens", name,
                          (int)id, v->n_tokens);
    return INFER_OK;
}

static infer_status check_vocab(const struct text_vocab *v)
{
    if (v->kind != TEXT_SPM && v->kind != TEXT_BPE)
        return base_error(INFER_ERR_INVALID, "vocabulary kind %d, expected TEXT_SPM or TEXT_BPE",
                          (int)v->kind);
    if (v->n_tokens == 0 || v->n_tokens > INT32_MAX)
        return base_error(INFER_ERR_FORMAT, "a vocabulary of %zu tokens", v->n_tokens);
    const struct {
        const char *name;
        infer_token id;
    } ids[] = {{"BOS", v->bos}, {"EOS", v->eos}, {"EOT", v->eot}, {"UNK", v->unk}, {"PAD", v->pad}};
    for (size_t i = 0; i < BASE_COUNT(ids); i++)
        if (check_id(v, ids[i].name, ids[i].id) != INFER_OK)
            return INFER_ERR_FORMAT;
    if ((v->add_bos && v->bos < 0) || (v->add_eos && v->eos < 0))
        return base_error(INFER_ERR_FORMAT, "%s is to be added to each text, but there is none",
                          v->add_bos && v->bos < 0 ? "BOS" : "EOS");
    for (size_t i = 0; v->types && i < v->n_tokens; i++)
        if (v->types[i] < 0 || v->types[i] > TEXT_TOKEN_BYTE)
            return base_error(INFER_ERR_FORMAT, "token %zu has type %d, expected 0 to %d", i,
                              (int)v->types[i], TEXT_TOKEN_BYTE);
    return INFER_OK;
}

/* Normal tokens go into `ids`, those matched as they are written into the trie. */
static infer_status sort_tokens(struct text_tokenizer *t, struct base_map *ids)
{
    const struct text_vocab *v = &t->vocab;
    infer_status st = text_special_init(&t->special, &t->alloc);
    for (size_t i = 0; i < v->n_tokens && st >= 0; i++) {
        struct base_view text = v->tokens[i];
        switch (text_vocab_type(v, i)) {
        case TEXT_TOKEN_NORMAL:
            st = base_map_add(ids, text.data, text.size, (int32_t)i);
            break;
        case TEXT_TOKEN_USER_DEFINED:
            st = text_special_add(&t->special, &t->alloc, text, (infer_token)i, 0);
            break;
        case TEXT_TOKEN_CONTROL:
        case TEXT_TOKEN_UNKNOWN:
            st = text_special_add(&t->special, &t->alloc, text, (infer_token)i, 1);
            break;
        default:
            break;
        }
    }
    return st < 0 ? st : INFER_OK;
}

static void add_end(struct text_tokenizer *t, infer_token token)
{
    if (token >= 0 && !text_tokenizer_is_end(t, token))
        t->ends[t->n_ends++] = token;
}

static infer_token special_token(const struct text_tokenizer *t, const char *text)
{
    return text_special_get(&t->special, (struct base_view){text, strlen(text)});
}

static void find_ends(struct text_tokenizer *t)
{
    add_end(t, t->vocab.eos);
    add_end(t, t->vocab.eot);
    for (size_t i = 0; i < BASE_COUNT(end_texts); i++)
        if (!end_texts[i].unless || special_token(t, end_texts[i].unless) < 0)
            add_end(t, special_token(t, end_texts[i].text));
}

infer_status text_tokenizer_create(struct text_tokenizer **out, const struct base_alloc *a,
                                   const struct text_vocab *vocab)
{
    infer_status st = check_vocab(vocab);
    if (st != INFER_OK)
        return st;
    struct base_map ids = {0};
    struct text_tokenizer *t = base_new(a, 1, sizeof *t);
    if (!t)
        return INFER_ERR_NO_MEMORY;
    t->alloc = *a;
    t->vocab = *vocab;
    st = base_map_init(&ids, a, vocab->n_tokens);
    if (st == INFER_OK)
        st = text_pieces_init(&t->pieces, a, vocab);
    if (st == INFER_OK)
        st = sort_tokens(t, &ids);
    if (st == INFER_OK)
        st = vocab->kind == TEXT_BPE ? text_bpe_init(&t->bpe, a, vocab, &ids, &t->pieces)
                                     : text_spm_init(&t->spm, a, vocab, &ids);
    base_map_release(&ids);
    if (st != INFER_OK) {
        text_tokenizer_destroy(&t);
        return st;
    }
    find_ends(t);
    *out = t;
    return INFER_OK;
}

void text_tokenizer_destroy(struct text_tokenizer **tokenizer)
{
    struct text_tokenizer *t = *tokenizer;
    if (!t)
        return;
    struct base_alloc alloc = t->alloc;
    if (t->vocab.kind == TEXT_BPE)
        text_bpe_release(&t->bpe);
    else
        text_spm_release(&t->spm);
    text_special_release(&t->special, &alloc);
    text_pieces_release(&t->pieces, &alloc);
    base_free(&alloc, t);
    *tokenizer = NULL;
}

size_t text_tokenizer_memory_bytes(const struct text_tokenizer *t)
{
    size_t n = t->vocab.n_tokens;
    return sizeof *t + (n + 1) * sizeof *t->pieces.offsets + t->pieces.offsets[n] +
           t->special.nodes.capacity * sizeof *t->special.nodes.data +
           (t->vocab.kind == TEXT_BPE ? text_bpe_bytes(&t->bpe) : text_spm_bytes(&t->spm));
}

infer_status text_tokenizer_guard(const struct text_tokenizer *tokenizer, const char *text,
                                  size_t size, struct base_str *out)
{
    return text_guard(&tokenizer->special, &tokenizer->vocab, text, size, out);
}

const struct text_vocab *text_tokenizer_vocab(const struct text_tokenizer *tokenizer)
{
    return &tokenizer->vocab;
}

int text_tokenizer_is_end(const struct text_tokenizer *tokenizer, infer_token token)
{
    for (int32_t i = 0; i < tokenizer->n_ends; i++)
        if (tokenizer->ends[i] == token)
            return 1;
    return 0;
}

struct base_view text_tokenizer_piece_view(const struct text_tokenizer *tokenizer,
                                           infer_token token, int special)
{
    const struct text_vocab *v = &tokenizer->vocab;
    if (token < 0 || (size_t)token >= v->n_tokens)
        return (struct base_view){"", 0};
    int32_t type = text_vocab_type(v, (size_t)token);
    if (!special && (type == TEXT_TOKEN_CONTROL || type == TEXT_TOKEN_UNKNOWN))
        return (struct base_view){"", 0};
    return text_pieces_get(&tokenizer->pieces, token);
}

size_t text_tokenizer_piece(const struct text_tokenizer *tokenizer, infer_token token, int special,
                            char *buffer, size_t size)
{
    struct base_view piece = text_tokenizer_piece_view(tokenizer, token, special);
    if (piece.size && piece.size <= size)
        memcpy(buffer, piece.data, piece.size);
    return piece.size;
}

/* The text between two special tokens. */
static infer_status encode_plain(const struct text_tokenizer *t, struct text_call *c,
                                 struct text_splitter *splitter, const char *text, size_t size)
{
    if (t->vocab.kind == TEXT_BPE)
        return text_bpe_encode(&t->bpe, c, splitter, text, size);
    return text_spm_encode(&t->spm, c, t->vocab.add_space_prefix, text, size);
}

/* The same without the marks of text_tokenizer_guard(). */
static infer_status encode_unmarked(const struct text_tokenizer *t, struct text_call *c,
                                    struct text_splitter *splitter, const char *text, size_t size)
{
    const char *mark = memmem(text, size, TEXT_GUARD_MARK, TEXT_GUARD_BYTES), *end = text + size;
    if (!mark)
        return encode_plain(t, c, splitter, text, size);
    struct base_str plain;
    infer_status st = INFER_OK;
    base_str_init(&plain, c->a, 0);
    for (; mark && st == INFER_OK;
         mark = memmem(text, (size_t)(end - text), TEXT_GUARD_MARK, TEXT_GUARD_BYTES)) {
        st = base_str_append(&plain, text, (size_t)(mark - text));
        text = mark + TEXT_GUARD_BYTES;
    }
    if (st == INFER_OK)
        st = base_str_append(&plain, text, (size_t)(end - text));
    if (st == INFER_OK)
        st = encode_plain(t, c, splitter, plain.data, plain.size);
    text_call_forget(c);
    base_str_release(&plain);
    return st;
}

static infer_status encode_text(const struct text_tokenizer *t, struct text_call *c,
                                struct text_splitter *splitter, const char *text, size_t size,
                                uint32_t flags)
{
    int control = (flags & TEXT_ENCODE_SPECIAL) != 0;
    infer_status st = INFER_OK;
    for (size_t from = 0; from < size && st == INFER_OK;) {
        size_t at = size, length = 0;
        infer_token token = text_special_find(&t->special, text, size, from, control, &at, &length);
        if (at > from && flags & TEXT_ENCODE_GUARDED)
            st = encode_unmarked(t, c, splitter, text + from, at - from);
        else if (at > from)
            st = encode_plain(t, c, splitter, text + from, at - from);
        if (st == INFER_OK && token >= 0)
            st = base_array_push(c->a, c->out, token);
        from = at + length;
    }
    return st;
}

infer_status text_tokenizer_encode(const struct text_tokenizer *tokenizer,
                                   const struct base_alloc *a, const char *text, size_t size,
                                   uint32_t flags, text_tokens *out)
{
    const struct text_vocab *v = &tokenizer->vocab;
    size_t start = out->size;
    int add = (flags & TEXT_ENCODE_ADD) != 0;
    struct text_call call;
    struct text_splitter splitter = {0};
    infer_status st = text_call_init(&call, a, out, size);
    if (st == INFER_OK && v->kind == TEXT_BPE)
        st = text_splitter_init(&splitter, tokenizer->bpe.pre, a);
    if (st == INFER_OK && add && v->add_bos)
        st = base_array_push(a, out, v->bos);
    if (st == INFER_OK)
        st = encode_text(tokenizer, &call, &splitter, text, size, flags);
    if (st == INFER_OK && add && v->add_eos)
        st = base_array_push(a, out, v->eos);
    if (st != INFER_OK)
        out->size = start;
    text_splitter_release(&splitter);
    text_call_release(&call);
    return st;
}
