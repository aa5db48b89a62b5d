/* A vocabulary made ready: checks, the tokenizer of its kind, end tokens, pieces. */
#include "text/tokenizer_internal.h"

#include "base/error.h"
#include "text/guard.h"
#include "text/token_tree.h"

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

_Static_assert(BASE_COUNT(end_texts) + 2 <= TEXT_MAX_ENDS, "ends of every format, EOS and EOT");

static infer_status check_id(const struct text_vocab *v, const char *name, infer_token id)
{
    if (id < -1 || (id >= 0 && (size_t)id >= v->n_tokens))
        return base_error(INFER_ERR_FORMAT, "the %s token is %d, but there are %zu tokens", name,
                          (int)id, v->n_tokens);
    return INFER_OK;
}

static infer_status check_vocab(const struct text_vocab *v)
{
    if (v->kind < TEXT_SPM || v->kind > TEXT_UNIGRAM)
        return base_error(INFER_ERR_INVALID, "vocabulary kind %d, expected %d to %d", (int)v->kind,
                          TEXT_SPM, TEXT_UNIGRAM);
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

static infer_status init_kind(struct text_tokenizer *t)
{
    const struct text_vocab *v = &t->vocab;
    struct base_map ids = {0};
    infer_status st = base_map_init(&ids, &t->alloc, v->n_tokens);
    if (st == INFER_OK)
        st = sort_tokens(t, &ids);
    if (st == INFER_OK && v->kind == TEXT_BPE)
        st = text_bpe_init(&t->as.bpe, &t->alloc, v, &ids, &t->pieces);
    else if (st == INFER_OK && v->kind == TEXT_SPM)
        st = text_spm_init(&t->as.spm, &t->alloc, v, &ids);
    else if (st == INFER_OK && v->kind == TEXT_WORDPIECE)
        st = text_wordpiece_init(&t->as.wordpiece, &t->alloc, v);
    else if (st == INFER_OK)
        st = text_unigram_init(&t->as.unigram, &t->alloc, v);
    base_map_release(&ids);
    return st;
}

infer_status text_tokenizer_create(struct text_tokenizer **out, const struct base_alloc *a,
                                   const struct text_vocab *vocab)
{
    infer_status st = check_vocab(vocab);
    if (st != INFER_OK)
        return st;
    struct text_tokenizer *t = base_new(a, 1, sizeof *t);
    if (!t)
        return INFER_ERR_NO_MEMORY;
    t->alloc = *a;
    t->vocab = *vocab;
    pthread_mutex_init(&t->tree_lock, NULL);
    st = text_pieces_init(&t->pieces, a, vocab);
    if (st == INFER_OK)
        st = text_normalizer_init(&t->normalizer, a, vocab->normalizer, vocab->n_normalizer,
                                  vocab->charsmap);
    if (st == INFER_OK)
        st = init_kind(t);
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
    switch (t->vocab.kind) {
    case TEXT_BPE:
        text_bpe_release(&t->as.bpe);
        break;
    case TEXT_SPM:
        text_spm_release(&t->as.spm);
        break;
    case TEXT_WORDPIECE:
        text_wordpiece_release(&t->as.wordpiece);
        break;
    default:
        text_unigram_release(&t->as.unigram);
    }
    text_normalizer_release(&t->normalizer);
    text_special_release(&t->special, &alloc);
    text_pieces_release(&t->pieces, &alloc);
    text_token_tree_release(&t->tree);
    pthread_mutex_destroy(&t->tree_lock);
    base_free(&alloc, t);
    *tokenizer = NULL;
}

static size_t kind_bytes(const struct text_tokenizer *t)
{
    switch (t->vocab.kind) {
    case TEXT_BPE:
        return text_bpe_bytes(&t->as.bpe);
    case TEXT_SPM:
        return text_spm_bytes(&t->as.spm);
    case TEXT_WORDPIECE:
        return text_wordpiece_bytes(&t->as.wordpiece);
    default:
        return text_unigram_bytes(&t->as.unigram);
    }
}

size_t text_tokenizer_memory_bytes(const struct text_tokenizer *t)
{
    size_t n = t->vocab.n_tokens;
    return sizeof *t + (n + 1) * sizeof *t->pieces.offsets + t->pieces.offsets[n] +
           t->special.nodes.capacity * sizeof *t->special.nodes.data + kind_bytes(t);
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
