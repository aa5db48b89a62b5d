/* From the files of a tokenizer to tokenizer.* keys. */
#include "base/error.h"
#include "base/str.h"
#include "model/hf_tokenizer_internal.h"

#define KEY(name) "tokenizer.ggml." name
#define OWN(name) "tokenizer.infer." name

/* Whether a part of the type is somewhere below, at most `depth` sequences deep. */
static int holds_type(const struct base_json *j, const char *type, int depth)
{
    static const char *const lists[] = {"pretokenizers", "normalizers", "decoders"};
    if (hf_json_type_is(j, type))
        return 1;
    for (size_t k = 0; k < BASE_COUNT(lists) && depth > 0; k++) {
        const struct base_json *parts = base_json_get(j, lists[k]);
        for (size_t i = 0; base_json_is(parts, BASE_JSON_ARRAY) && i < parts->n; i++)
            if (holds_type(&parts->as.items[i], type, depth - 1))
                return 1;
    }
    return 0;
}

/* Older files do not name the type of their model. */
static infer_status choose_kind(struct hf_vocab *v, const struct base_json *root)
{
    const struct base_json *model = base_json_get(root, "model");
    int named = base_json_is(base_json_get(model, "type"), BASE_JSON_STRING);
    if (!base_json_is(model, BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "tokenizer.json: model is absent or no object");
    if (named ? hf_json_type_is(model, "BPE") : base_json_get(model, "merges") != NULL) {
        static const char *const parts[] = {"pre_tokenizer", "decoder", "normalizer"};
        v->kind = HF_CHAR_BPE;
        for (size_t i = 0; i < BASE_COUNT(parts); i++)
            if (holds_type(base_json_get(root, parts[i]), "ByteLevel", 4))
                v->kind = HF_BYTE_BPE;
    } else if (named ? hf_json_type_is(model, "Unigram")
                     : base_json_is(base_json_get(model, "vocab"), BASE_JSON_ARRAY)) {
        v->kind = HF_UNIGRAM;
    } else if (named ? hf_json_type_is(model, "WordPiece")
                     : base_json_get(model, "max_input_chars_per_word") != NULL) {
        v->kind = HF_WORDPIECE;
    } else {
        return hf_unsupported("model", model);
    }
    return INFER_OK;
}

static infer_status read_tokenizer_json(struct hf_vocab *v)
{
    const struct base_json *root = v->files->tokenizer;
    infer_status st = choose_kind(v, root);
    if (st == INFER_OK)
        st = hf_vocab_read_normalizer(v, base_json_get(root, "normalizer"));
    if (st == INFER_OK)
        st = hf_vocab_read_pre_tokenizer(v, base_json_get(root, "pre_tokenizer"));
    if (st == INFER_OK && v->kind == HF_CHAR_BPE && !v->escapes_spaces)
        return base_error(INFER_ERR_UNSUPPORTED, "tokenizer.json: a BPE over characters whose "
                                                 "spaces do not become U+2581 is not supported");
    if (st == INFER_OK && v->kind == HF_UNIGRAM)
        v->keeps_plain_spaces = !v->escapes_spaces;
    if (st == INFER_OK)
        st = hf_vocab_read_json(v);
    if (st == INFER_OK)
        st = hf_vocab_read_post_processor(v, base_json_get(root, "post_processor"));
    return st;
}

/* Byte-level vocabularies of folders without tokenizer.json: the classes of transformers that
 * have cutting rules of their own; all others cut as GPT-2 does. */
static infer_status read_vocab_json(struct hf_vocab *v)
{
    struct base_view name = {"", 0};
    infer_status st = INFER_OK;
    (void)hf_json_text(v->files->config, "tokenizer_class", &name);
    v->kind = HF_BYTE_BPE;
    v->is_byte_level = 1;
    v->pre = "gpt-2";
    if (name.size >= 5 && memcmp(name.data, "Qwen2", 5) == 0) {
        v->pre = "qwen2";
        st = hf_vocab_step(v, "nfc");
    }
    if (hf_json_flag(v->files->config, "add_prefix_space", 0))
        v->space_prefix = TEXT_PREFIX_SPACE | TEXT_PREFIX_MISSING;
    return st == INFER_OK ? hf_vocab_read_vocab_json(v) : st;
}

static infer_status read_vocab_txt(struct hf_vocab *v)
{
    const struct base_json *config = v->files->config;
    int lower = hf_json_flag(config, "do_lower_case", 1);
    int accents = hf_json_flag(config, "strip_accents", lower);
    v->kind = HF_WORDPIECE;
    v->max_word_chars = 100;
    v->bert_keep = (lower ? 0 : TEXT_BERT_KEEP_CASE) | (accents ? 0 : TEXT_BERT_KEEP_ACCENTS) |
                   (hf_json_flag(config, "tokenize_chinese_chars", 1) ? 0 : TEXT_BERT_KEEP_CJK);
    infer_status st = hf_vocab_read_vocab_txt(v);
    if (st != INFER_OK)
        return st;
    const struct {
        const char *text;
        infer_token *out;
    } names[] = {{"[CLS]", &v->cls},
                 {"[SEP]", &v->sep},
                 {"[UNK]", &v->unk},
                 {"[PAD]", &v->pad},
                 {"[MASK]", &v->mask}};
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        *names[i].out = hf_vocab_id(v, (struct base_view){names[i].text, strlen(names[i].text)});
    v->before = v->cls;
    v->after = v->sep;
    return INFER_OK;
}

static infer_status read_files(struct hf_vocab *v)
{
    const struct hf_tokenizer_files *f = v->files;
    if (f->tokenizer)
        return read_tokenizer_json(v);
    if (f->sentencepiece.size && hf_tiktoken_is(f->sentencepiece))
        return hf_vocab_read_tiktoken(v, f->sentencepiece, f->tiktoken_name);
    if (f->sentencepiece.size)
        return hf_vocab_read_sentencepiece(v, f->sentencepiece);
    if (f->vocab_json)
        return read_vocab_json(v);
    if (f->vocab_txt.size)
        return read_vocab_txt(v);
    if (f->tiktoken.size)
        return hf_vocab_read_tiktoken(v, f->tiktoken, f->tiktoken_name);
    if (f->llama2c.size)
        return hf_vocab_read_llama2c(v, f->llama2c);
    return base_error(INFER_ERR_NOT_FOUND,
                      "no tokenizer: expected tokenizer.json, tokenizer.model, vocab.json with "
                      "merges.txt, vocab.txt or a tiktoken file");
}

/* The scores with which SentencePiece's way of merging follows the order of the merges. */
static infer_status score_by_merges(struct hf_vocab *v)
{
    struct base_str joined;
    infer_status st = INFER_OK;
    base_str_init(&joined, &v->arena.alloc, 0);
    for (size_t i = 0; i < v->n_tokens; i++)
        v->scores[i] = -1e9f;
    for (size_t i = v->n_merges; i-- > 0 && st == INFER_OK;) {
        struct base_view m = v->merges[i];
        const char *space = m.size > 2 ? memchr(m.data + 1, ' ', m.size - 1) : NULL;
        if (!space)
            continue; /* the tokenizer will name it */
        size_t left = (size_t)(space - m.data);
        base_str_clear(&joined);
        st = base_str_append(&joined, m.data, left);
        if (st == INFER_OK)
            st = base_str_append(&joined, space + 1, m.size - left - 1);
        if (st != INFER_OK)
            break;
        infer_token id = hf_vocab_id(v, (struct base_view){joined.data, joined.size});
        if (id >= 0)
            v->scores[id] = -(float)i;
    }
    base_str_release(&joined);
    return st;
}

/* GGUF marks the tokens that begin a word, not those that go on. */
static infer_status mark_words(struct hf_vocab *v)
{
    for (size_t i = 0; i < v->n_tokens; i++) {
        struct base_view *t = &v->tokens[i];
        if (v->types[i] != TEXT_TOKEN_NORMAL ||
            (t->size >= 2 && t->data[0] == '[' && t->data[t->size - 1] == ']'))
            continue;
        if (t->size > 2 && memcmp(t->data, "##", 2) == 0) {
            *t = (struct base_view){t->data + 2, t->size - 2};
            continue;
        }
        char *text = base_arena_new(&v->arena, t->size + 3, 1);
        if (!text)
            return INFER_ERR_NO_MEMORY;
        memcpy(text, "\xE2\x96\x81", 3);
        memcpy(text + 3, t->data, t->size);
        *t = (struct base_view){text, t->size + 3};
    }
    return INFER_OK;
}

static infer_status write_ids(const struct hf_vocab *v)
{
    const struct {
        const char *key;
        infer_token id;
    } ids[] = {
        {KEY("bos_token_id"), v->bos},     {KEY("eos_token_id"), v->eos},
        {KEY("eot_token_id"), v->eot},     {KEY("eom_token_id"), v->eom},
        {KEY("unknown_token_id"), v->unk}, {KEY("padding_token_id"), v->pad},
        {KEY("cls_token_id"), v->cls},     {KEY("seperator_token_id"), v->sep},
        {KEY("mask_token_id"), v->mask},
    };
    infer_status st = INFER_OK;
    for (size_t i = 0; i < BASE_COUNT(ids) && st == INFER_OK; i++)
        if (ids[i].id >= 0)
            st = gguf_draft_u32(v->draft, ids[i].key, (uint32_t)ids[i].id);
    if (st == INFER_OK && v->kind == HF_WORDPIECE && v->bos < 0 && v->cls >= 0)
        st = gguf_draft_u32(v->draft, KEY("bos_token_id"), (uint32_t)v->cls);
    if (st == INFER_OK && v->n_between >= 0)
        st = gguf_draft_i32s(v->draft, OWN("pair_between"), v->between, (size_t)v->n_between);
    if (st == INFER_OK && v->n_between >= 0)
        st = gguf_draft_bool(v->draft, OWN("pair_types"), v->second_type);
    if (st == INFER_OK)
        st = gguf_draft_bool(v->draft, KEY("add_bos_token"), v->add_bos > 0);
    if (st == INFER_OK)
        st = gguf_draft_bool(v->draft,
                             v->kind == HF_WORDPIECE ? KEY("add_sep_token") : KEY("add_eos_token"),
                             v->add_eos > 0);
    return st;
}

/* By its name where it is known, so that other programs understand the file, too. */
static infer_status write_pre(const struct hf_vocab *v)
{
    uint32_t known = 0;
    const char *name = v->pre;
    infer_status st = INFER_OK;
    int drops = 0;
    for (size_t i = 0; i < v->n_patterns; i++)
        drops |= v->uses[i] == TEXT_PRE_DROP;
    if (name)
        (void)text_pretokenizer_flags((struct base_view){name, strlen(name)}, &known);
    else if (!drops)
        name = text_pretokenizer_name(v->patterns, v->n_patterns,
                                      v->ignore_merges ? TEXT_PRE_IGNORE_MERGES : 0, &known);
    if (name)
        st = gguf_draft_string(v->draft, KEY("pre"), (struct base_view){name, strcspn(name, " ")});
    else
        st = gguf_draft_strings(v->draft, OWN("patterns"), v->patterns, v->n_patterns);
    if (st == INFER_OK && !name)
        st = gguf_draft_i32s(v->draft, OWN("pattern_uses"), v->uses, v->n_patterns);
    int same = name && ((known & TEXT_PRE_IGNORE_MERGES) != 0) == (v->ignore_merges != 0);
    if (st == INFER_OK && !same && (name || v->ignore_merges))
        st = gguf_draft_bool(v->draft, OWN("ignore_merges"), v->ignore_merges);
    return st;
}

/* What a reader assumes without the own key: vocab.c. */
static int has_usual_steps(const struct hf_vocab *v)
{
    int scored = v->kind != HF_BYTE_BPE && v->kind != HF_WORDPIECE;
    size_t n = 0;
    if (scored && (v->kind == HF_UNIGRAM || v->charsmap.size)) {
        if (n == v->n_steps || !base_view_equal(v->steps[n], "charsmap"))
            return 0;
        n++;
    }
    if (scored && v->squeezes) {
        if (n == v->n_steps || !base_view_equal(v->steps[n], "squeeze"))
            return 0;
        n++;
    }
    return n == v->n_steps;
}

static infer_status write_normalizer(const struct hf_vocab *v)
{
    struct gguf_draft *d = v->draft;
    infer_status st = INFER_OK;
    if (v->charsmap.size)
        st = gguf_draft_u8s(d, KEY("precompiled_charsmap"), (const uint8_t *)v->charsmap.data,
                            v->charsmap.size);
    if (st == INFER_OK && v->squeezes)
        st = gguf_draft_bool(d, KEY("remove_extra_whitespaces"), 1);
    if (st == INFER_OK && v->kind == HF_UNIGRAM && v->keeps_plain_spaces)
        st = gguf_draft_bool(d, KEY("escape_whitespaces"), 0);
    if (st == INFER_OK && v->space_prefix & TEXT_PREFIX_BEHIND)
        st = gguf_draft_bool(d, KEY("treat_whitespace_as_suffix"), 1);
    if (st == INFER_OK && !has_usual_steps(v))
        st = gguf_draft_strings(d, OWN("normalizer"), v->steps, v->n_steps);
    if (st == INFER_OK && v->kind != HF_WORDPIECE)
        st = gguf_draft_bool(d, KEY("add_space_prefix"), v->space_prefix != 0);
    if (st == INFER_OK && v->space_prefix > TEXT_PREFIX_SPACE)
        st = gguf_draft_u32(d, OWN("space_prefix"), (uint32_t)v->space_prefix);
    if (st != INFER_OK || v->kind != HF_WORDPIECE)
        return st;
    st = gguf_draft_bool(d, KEY("normalizer.lowercase"), !(v->bert_keep & TEXT_BERT_KEEP_CASE));
    if (st == INFER_OK)
        st = gguf_draft_bool(d, KEY("normalizer.strip_accents"),
                             !(v->bert_keep & TEXT_BERT_KEEP_ACCENTS));
    if (st == INFER_OK && v->bert_keep & (TEXT_BERT_KEEP_CJK | TEXT_BERT_KEEP_CONTROL))
        st = gguf_draft_u32(d, OWN("bert_keep"), (uint32_t)v->bert_keep);
    if (st == INFER_OK && v->max_word_chars)
        st = gguf_draft_u32(d, OWN("max_word_chars"), (uint32_t)v->max_word_chars);
    return st;
}

static infer_status write_tokens(struct hf_vocab *v)
{
    static const char *const models[] = {[HF_BYTE_BPE] = "gpt2",
                                         [HF_CHAR_BPE] = "llama",
                                         [HF_SCORED_BPE] = "llama",
                                         [HF_WORDPIECE] = "bert",
                                         [HF_UNIGRAM] = "t5"};
    struct gguf_draft *d = v->draft;
    const char *model = models[v->kind];
    int flagged = 0, merged = v->kind == HF_BYTE_BPE || v->kind == HF_CHAR_BPE;
    infer_status st = gguf_draft_string(d, KEY("model"), (struct base_view){model, strlen(model)});
    if (st == INFER_OK && v->kind == HF_CHAR_BPE)
        st = score_by_merges(v);
    if (st == INFER_OK && v->kind == HF_WORDPIECE)
        st = mark_words(v);
    if (st == INFER_OK)
        st = gguf_draft_strings(d, KEY("tokens"), v->tokens, v->n_tokens);
    if (st == INFER_OK && v->kind != HF_BYTE_BPE && v->kind != HF_WORDPIECE)
        st = gguf_draft_f32s(d, KEY("scores"), v->scores, v->n_tokens);
    if (st == INFER_OK)
        st = gguf_draft_i32s(d, KEY("token_type"), v->types, v->n_tokens);
    if (st == INFER_OK && merged)
        st = gguf_draft_strings(d, KEY("merges"), v->merges, v->n_merges);
    if (st == INFER_OK && v->kind == HF_CHAR_BPE)
        st = gguf_draft_bool(d, OWN("ranked"), 1);
    if (st == INFER_OK && v->kind == HF_CHAR_BPE && v->keeps_unknowns)
        st = gguf_draft_bool(d, OWN("fuse_unknown"), 0);
    if (st == INFER_OK && v->kind == HF_UNIGRAM && v->float_scores)
        st = gguf_draft_bool(d, OWN("float_scores"), 1);
    for (size_t i = 0; i < v->n_tokens; i++)
        flagged |= v->flags[i];
    if (st == INFER_OK && flagged)
        st = gguf_draft_i32s(d, OWN("token_flags"), v->flags, v->n_tokens);
    return st;
}

infer_status hf_tokenizer_write(struct gguf_draft *d, const struct base_alloc *a,
                                const struct hf_tokenizer_files *files)
{
    struct hf_vocab v = {.draft = d,
                         .files = files,
                         .bos = -1,
                         .eos = -1,
                         .eot = -1,
                         .eom = -1,
                         .unk = -1,
                         .pad = -1,
                         .cls = -1,
                         .sep = -1,
                         .mask = -1,
                         .before = -1,
                         .after = -1,
                         .add_bos = -1,
                         .add_eos = -1,
                         .n_between = -1};
    base_arena_init(&v.arena, a);
    infer_status st = read_files(&v);
    if (st == INFER_OK)
        st = hf_vocab_read_ids(&v);
    if (st == INFER_OK)
        st = write_tokens(&v);
    if (st == INFER_OK && v.kind == HF_BYTE_BPE)
        st = write_pre(&v);
    if (st == INFER_OK)
        st = write_normalizer(&v);
    if (st == INFER_OK)
        st = write_ids(&v);
    if (st == INFER_OK && files->chat_template.data)
        st = gguf_draft_string(d, "tokenizer.chat_template", files->chat_template);
    base_map_release(&v.ids);
    base_arena_release(&v.arena);
    return st;
}
