/* Fuzz target of the tokenizers. The first byte chooses what a vocabulary is made from:
 *
 *   0 to 3     one of the hand-made vocabularies; the rest is text
 *   otherwise  tokens, types, scores, merges and ids out of the input; the rest is text
 *
 * Beyond crashes it checks that encoding loses nothing where a vocabulary has all
 * bytes, that ids are in range, that the stream decoder gives valid UTF-8, and that
 * nothing stays allocated. */
#include "fuzz.h"
#include "support/test_alloc.h"
#include "unit/tiny_vocab.h"

#include "text/stream_decode.h"
#include "text/unicode.h"

#include <stdlib.h>

static struct tiny_vocab tiny;

struct reader {
    const uint8_t *data;
    size_t size;
};

static uint8_t take(struct reader *r)
{
    if (!r->size)
        return 0;
    r->size--;
    return *r->data++;
}

/* A view of up to `limit` bytes of the input itself. */
static struct base_view take_view(struct reader *r, size_t limit)
{
    size_t wanted = take(r) % (limit + 1), n = BASE_MIN(wanted, r->size);
    struct base_view v = {(const char *)r->data, n};
    r->data += n;
    r->size -= n;
    return v;
}

static const char *const pres[] = {"",       "gpt-2",        "llama-bpe",    "qwen2",
                                   "gpt-4o", "falcon",       "deepseek-llm", "deepseek-v3",
                                   "bloom",  "none of these"};

/* On top of a hand-made vocabulary, so that some of them are good. */
static void wild_vocab(struct reader *r)
{
    uint8_t shape = take(r);
    if (shape & 1)
        tiny_bpe(&tiny);
    else
        tiny_spm(&tiny, shape & 2);
    const char *pre = pres[take(r) % BASE_COUNT(pres)];
    tiny.vocab.pre = (struct base_view){pre, strlen(pre)};
    for (int n = take(r) % 64; n > 0 && tiny.vocab.n_tokens < TINY_MAX; n--) {
        size_t i = tiny.vocab.n_tokens++;
        tiny.tokens[i] = take_view(r, 16);
        tiny.types[i] = take(r) % 9;
        tiny.scores[i] = (float)(int8_t)take(r) / (float)(take(r) % 4);
    }
    for (int n = take(r) % 16; n > 0 && (shape & 1); n--)
        tiny.merges[tiny.vocab.n_merges++] = take_view(r, 16);
    for (int n = take(r) % 4; n > 0; n--)
        tiny.types[(size_t)take(r) * 2 % tiny.vocab.n_tokens] = take(r) % 8;
    tiny.vocab.unk = (infer_token)(int8_t)take(r);
    tiny.vocab.add_eos = shape >> 2 & 1;
    tiny.vocab.add_space_prefix = shape >> 3 & 1;
    if (shape & 16)
        tiny.vocab.types = NULL;
}

static int has_all_bytes(const struct text_vocab *v)
{
    int seen[256] = {0}, n = 0;
    for (size_t i = 0; v->types && i < v->n_tokens; i++)
        if (v->kind == TEXT_SPM ? v->types[i] == TEXT_TOKEN_BYTE
                                : i < 256 && v->types[i] <= TEXT_TOKEN_NORMAL)
            seen[v->kind == TEXT_SPM ? strtoul(v->tokens[i].data + 3, NULL, 16) & 255 : i] = 1;
    for (int b = 0; b < 256; b++)
        n += seen[b];
    return n == 256;
}

/* The pieces of all tokens together are the text (SentencePiece: with its spaces). */
static void check_pieces(const struct text_tokenizer *t, const text_tokens *ids,
                         struct base_view text)
{
    const struct text_vocab *v = text_tokenizer_vocab(t);
    struct base_str all;
    base_str_init(&all, &base_alloc_default, 0);
    for (size_t i = 0; i < ids->size; i++) {
        struct base_view piece = text_tokenizer_piece_view(t, ids->data[i], 1);
        fuzz_check(base_str_append(&all, piece.data, piece.size) == INFER_OK);
    }
    if (v->kind == TEXT_BPE) {
        fuzz_check(all.size == text.size &&
                   (!text.size || !memcmp(all.data, text.data, text.size)));
    } else { /* a prefix after each special token: compare without spaces of either spelling */
        size_t i = 0, k = 0;
        for (;;) {
            while (i < all.size && all.data[i] == ' ')
                i++;
            for (;;) {
                if (k < text.size && text.data[k] == ' ')
                    k++;
                else if (text.size - k >= 3 && !memcmp(text.data + k, TEXT_SPM_SPACE, 3))
                    k += 3;
                else
                    break;
            }
            if (i == all.size || k == text.size)
                break;
            if (all.size - i >= 3 && !memcmp(all.data + i, TEXT_SPM_SPACE, 3)) {
                i += 3; /* from a token that is written as it is */
                continue;
            }
            fuzz_check(all.data[i++] == text.data[k++]);
        }
        fuzz_check(i == all.size && k == text.size);
    }
    base_str_release(&all);
}

static void check_stream(const struct text_tokenizer *t, const text_tokens *ids, int special)
{
    struct base_str out;
    struct text_decoder d;
    base_str_init(&out, &base_alloc_default, 0);
    text_decoder_init(&d, t, special, 0);
    for (size_t i = 0; i <= ids->size; i++) { /* what is added each time is whole characters */
        size_t at = out.size;
        fuzz_check((i < ids->size ? text_decoder_push(&d, ids->data[i], &out)
                                  : text_decoder_finish(&d, &out)) == INFER_OK);
        fuzz_check(out.size == at ||
                   text_utf8_valid_prefix(out.data + at, out.size - at) == out.size - at);
    }
    base_str_release(&out);
}

static void check_text(const struct text_tokenizer *t, const struct base_alloc *a,
                       struct base_view text, uint32_t flags)
{
    const struct text_vocab *v = text_tokenizer_vocab(t);
    text_tokens ids = {0};
    fuzz_check(text_tokenizer_encode(t, a, text.data, text.size, flags, &ids) == INFER_OK);
    for (size_t i = 0; i < ids.size; i++)
        fuzz_check(ids.data[i] >= 0 && (size_t)ids.data[i] < v->n_tokens);
    int prefixed = v->kind == TEXT_BPE && v->add_space_prefix; /* one space more */
    if (has_all_bytes(v) && !prefixed && !(flags & TEXT_ENCODE_ADD))
        check_pieces(t, &ids, text);
    check_stream(t, &ids, 0);
    check_stream(t, &ids, 1);
    base_array_release(a, &ids);
}

/* The hand-made vocabularies are the same each time: made once. */
static const struct text_tokenizer *hand_made(uint8_t choice)
{
    static struct tiny_vocab vocabs[4];
    static struct text_tokenizer *made[4];
    if (!made[choice]) {
        if (choice == 0)
            tiny_bpe(&vocabs[choice]);
        else
            tiny_spm(&vocabs[choice], choice != 2);
        fuzz_check(text_tokenizer_create(&made[choice], &base_alloc_default,
                                         &vocabs[choice].vocab) == INFER_OK);
    }
    return made[choice];
}

static void check_texts(const struct text_tokenizer *t, const struct base_alloc *a,
                        struct base_view text)
{
    check_text(t, a, text, 0);
    check_text(t, a, text, TEXT_ENCODE_SPECIAL);
    check_text(t, a, text, TEXT_ENCODE_SPECIAL | TEXT_ENCODE_ADD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = {data, size};
    uint8_t choice = take(&r);
    struct test_alloc a;
    test_alloc_init(&a);
    if (choice < 4) {
        check_texts(hand_made(choice), &a.alloc, (struct base_view){(const char *)r.data, r.size});
    } else {
        struct text_tokenizer *t = NULL;
        wild_vocab(&r);
        if (text_tokenizer_create(&t, &a.alloc, &tiny.vocab) == INFER_OK)
            check_texts(t, &a.alloc, (struct base_view){(const char *)r.data, r.size});
        else
            fuzz_check(t == NULL);
        text_tokenizer_destroy(&t);
    }
    fuzz_check(a.live_blocks == 0);
    return 0;
}
