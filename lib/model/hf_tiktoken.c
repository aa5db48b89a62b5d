/* tiktoken files: a line for each token, its bytes in base64 and its rank, which is its id. */
#include "base/error.h"
#include "base/str.h"
#include "model/hf_base64.h"
#include "model/hf_tokenizer_internal.h"
#include "text/pieces.h"
#include "text/unicode.h"

#include <stdlib.h>

#define MAX_TOKEN_BYTES 1024

/* Encodings whose patterns and special tokens no file holds. */
static const struct {
    const char *names; /* separated by spaces */
    const char *pre;
    size_t n_ranks;
    struct {
        const char *text;
        int32_t id;
    } special[6];
} encodings[] = {
    {"r50k_base gpt2", "gpt-2", 50256, {{"<|endoftext|>", 50256}}},
    {"p50k_base p50k_edit", "gpt-2", 50280, {{"<|endoftext|>", 50256}}},
    {"cl100k_base",
     "llama-bpe",
     100256,
     {{"<|endoftext|>", 100257},
      {"<|fim_prefix|>", 100258},
      {"<|fim_middle|>", 100259},
      {"<|fim_suffix|>", 100260},
      {"<|endofprompt|>", 100276}}},
    {"o200k_base", "gpt-4o", 199998, {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}},
    {"llama3", "llama-bpe", 128000, {{"<|begin_of_text|>", 128000}, {"<|end_of_text|>", 128001}}},
};

int hf_tiktoken_is(struct base_view data)
{
    char token[64];
    size_t n, size = BASE_MIN(data.size, (size_t)48);
    const char *space = memchr(data.data, ' ', size);
    if (!space || space == data.data)
        return 0;
    return hf_base64_decode((struct base_view){data.data, (size_t)(space - data.data)}, token,
                            &n) &&
           n > 0 && (size_t)(space - data.data) + 1 < data.size && space[1] >= '0' &&
           space[1] <= '9';
}

static size_t find_encoding(const char *name, size_t n_ranks)
{
    for (size_t i = 0; i < BASE_COUNT(encodings); i++) {
        const char *at = name ? strstr(encodings[i].names, name) : NULL;
        size_t n = name ? strlen(name) : 0;
        if (at && n && (at[n] == ' ' || at[n] == 0) && (at == encodings[i].names || at[-1] == ' '))
            return i;
    }
    for (size_t i = 0; i < BASE_COUNT(encodings); i++)
        if (encodings[i].n_ranks == n_ranks)
            return i;
    return BASE_COUNT(encodings);
}

struct rank {
    struct base_view bytes;
    int64_t id;
};

static infer_status read_line(struct hf_vocab *v, struct base_view line, size_t number,
                              struct rank *out)
{
    const char *space = memchr(line.data, ' ', line.size);
    size_t digits = space ? (size_t)(space - line.data) : line.size;
    size_t n = 0;
    char *bytes = base_arena_new(&v->arena, digits / 4 * 3 + 3, 1);
    if (!bytes)
        return INFER_ERR_NO_MEMORY;
    int good = space && hf_base64_decode((struct base_view){line.data, digits}, bytes, &n) &&
               n > 0 && line.size - digits - 1 > 0 && line.size - digits - 1 < 10;
    out->id = 0;
    for (size_t i = digits + 1; good && i < line.size; i++) {
        good = line.data[i] >= '0' && line.data[i] <= '9';
        out->id = out->id * 10 + (line.data[i] - '0');
    }
    if (!good)
        return base_error(INFER_ERR_FORMAT, "tiktoken file, line %zu: expected base64 and a rank",
                          number + 1);
    if (n > MAX_TOKEN_BYTES)
        return base_error(INFER_ERR_LIMIT, "tiktoken file, line %zu: a token of %zu bytes",
                          number + 1, n);
    out->bytes = (struct base_view){bytes, n};
    return INFER_OK;
}

static infer_status read_ranks(struct hf_vocab *v, struct base_view data, struct rank **out,
                               size_t *n)
{
    size_t lines = 1;
    for (size_t i = 0; i < data.size; i++)
        lines += data.data[i] == '\n';
    struct rank *ranks = base_arena_new(&v->arena, lines, sizeof *ranks);
    if (!ranks)
        return INFER_ERR_NO_MEMORY;
    *n = 0;
    infer_status st = INFER_OK;
    for (size_t i = 0, line = 0; i < data.size && st == INFER_OK; line++) {
        const char *end = memchr(data.data + i, '\n', data.size - i);
        size_t size = end ? (size_t)(end - data.data) - i : data.size - i, next = i + size + 1;
        if (size && data.data[i + size - 1] == '\r')
            size--;
        if (size)
            st = read_line(v, (struct base_view){data.data + i, size}, line, &ranks[(*n)++]);
        i = next;
    }
    *out = ranks;
    return st;
}

/* The bytes in the alphabet of byte-level vocabularies. */
static size_t spell(struct base_view bytes, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < bytes.size; i++)
        used += text_utf8_put(text_alphabet_char((uint8_t)bytes.data[i]), out + used);
    return used;
}

static int by_id(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Two neighbours merge whenever their bytes are a token, lowest rank first: each way to cut a
 * token into two is a merge, and merges of one token stand together. */
static infer_status add_merges(struct hf_vocab *v, const struct rank *r, const struct base_map *ids,
                               size_t *capacity)
{
    for (size_t cut = 1; cut < r->bytes.size; cut++) {
        struct base_view left = {r->bytes.data, cut};
        struct base_view right = {r->bytes.data + cut, r->bytes.size - cut};
        if (base_map_get(ids, left.data, left.size, -1) < 0 ||
            base_map_get(ids, right.data, right.size, -1) < 0)
            continue;
        if (v->n_merges == *capacity) {
            size_t bigger = *capacity * 2 + 1024;
            struct base_view *grown = base_arena_new(&v->arena, bigger, sizeof *grown);
            if (!grown)
                return INFER_ERR_NO_MEMORY;
            if (v->n_merges)
                memcpy(grown, v->merges, v->n_merges * sizeof *grown);
            v->merges = grown;
            *capacity = bigger;
        }
        char spelled[2 * MAX_TOKEN_BYTES + 1];
        size_t n = spell(left, spelled);
        spelled[n++] = ' ';
        n += spell(right, spelled + n);
        char *copy = base_arena_strdup(&v->arena, spelled, n);
        if (!copy)
            return INFER_ERR_NO_MEMORY;
        v->merges[v->n_merges++] = (struct base_view){copy, n};
    }
    return INFER_OK;
}

static infer_status put_ranks(struct hf_vocab *v, struct rank *ranks, size_t n)
{
    struct base_map ids = {0};
    size_t capacity = 0;
    infer_status st = base_map_init(&ids, &v->arena.alloc, n);
    for (size_t i = 0; i < n && st >= 0; i++)
        st = base_map_add(&ids, ranks[i].bytes.data, ranks[i].bytes.size, (int32_t)ranks[i].id);
    qsort(ranks, n, sizeof *ranks, by_id);
    st = st < 0 ? st : INFER_OK;
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        char spelled[2 * MAX_TOKEN_BYTES];
        size_t size = spell(ranks[i].bytes, spelled);
        char *copy = base_arena_strdup(&v->arena, spelled, size);
        st = copy ? hf_vocab_put(v, (struct base_view){copy, size}, ranks[i].id, TEXT_TOKEN_NORMAL)
                  : INFER_ERR_NO_MEMORY;
        if (st == INFER_OK)
            st = add_merges(v, &ranks[i], &ids, &capacity);
    }
    base_map_release(&ids);
    return st;
}

/* No file holds the pattern, so that only known encodings can be read. */
infer_status hf_vocab_read_tiktoken(struct hf_vocab *v, struct base_view data, const char *name)
{
    struct rank *ranks;
    size_t n;
    infer_status st = read_ranks(v, data, &ranks, &n);
    if (st != INFER_OK)
        return st;
    size_t k = find_encoding(name, n);
    if (k == BASE_COUNT(encodings))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tiktoken file '%s' of %zu tokens: which pattern cuts its texts is not "
                          "known",
                          name ? name : "", n);
    int64_t top = 0;
    for (size_t i = 0; i < n; i++)
        top = BASE_MAX(top, ranks[i].id);
    if (n == 0 || (uint64_t)top >= 2 * (uint64_t)n + 1024)
        return base_error(INFER_ERR_FORMAT, "tiktoken file of %zu tokens with rank %lld", n,
                          (long long)top);
    const size_t n_special = BASE_COUNT(encodings[k].special);
    for (size_t i = 0; i < n_special && encodings[k].special[i].text; i++)
        top = BASE_MAX(top, encodings[k].special[i].id);
    v->kind = HF_BYTE_BPE;
    v->is_byte_level = 1;
    v->ignore_merges = 1; /* whole words first, as tiktoken does */
    v->pre = encodings[k].pre;
    st = hf_vocab_reserve(v, (size_t)top + 1);
    if (st == INFER_OK)
        st = put_ranks(v, ranks, n);
    for (size_t i = 0; i < n_special && encodings[k].special[i].text && st == INFER_OK; i++) {
        const char *text = encodings[k].special[i].text;
        if (!v->tokens[encodings[k].special[i].id].data)
            st = hf_vocab_put(v, (struct base_view){text, strlen(text)}, encodings[k].special[i].id,
                              TEXT_TOKEN_CONTROL);
    }
    if (st == INFER_OK)
        st = hf_vocab_add_tokens(v);
    if (st == INFER_OK)
        st = hf_vocab_fill(v);
    if (st == INFER_OK) {
        v->eos = hf_vocab_id(v, (struct base_view){"<|endoftext|>", 13});
        if (v->eos < 0)
            v->eos = hf_vocab_id(v, (struct base_view){"<|end_of_text|>", 15});
        v->bos = hf_vocab_id(v, (struct base_view){"<|begin_of_text|>", 17});
        v->add_bos = v->bos >= 0;
    }
    return st;
}
