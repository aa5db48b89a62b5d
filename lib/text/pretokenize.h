/* Cuts a text into words before byte-level BPE, as the vocabulary's
 * pre-tokenizer prescribes: a list of regular expressions, each applied to the
 * pieces the one before left. Matches and the gaps between them are pieces. */
#ifndef TEXT_PRETOKENIZE_H
#define TEXT_PRETOKENIZE_H

#include "text/regex.h"

enum {
    TEXT_PRE_IGNORE_MERGES = 1, /* a word that is itself a token is not merged up */
    TEXT_PRE_ADD_BOS = 2,       /* BOS goes in front where the file does not say */
    TEXT_PRE_CHARS = 4          /* words are merged from characters, not from bytes */
};

/* What becomes of the text when a pattern was applied. */
enum {
    TEXT_PRE_SPLIT = 0, /* matches and the gaps between them are pieces */
    TEXT_PRE_KEEP = 1,  /* gaps are dropped */
    TEXT_PRE_DROP = 2   /* matches are dropped */
};

#define TEXT_PRE_MAX_PATTERNS 10

/* What is known about pre-tokenizer `name`, without making one: TEXT_PRE_* flags,
 * or UNSUPPORTED naming it. An empty name is "default": files without the key
 * come from before there were several, when byte-level BPE meant GPT-2's. */
infer_status text_pretokenizer_flags(struct base_view name, uint32_t *flags);

struct text_pretokenizer; /* immutable, shared between threads */

infer_status text_pretokenizer_create(struct text_pretokenizer **out, const struct base_alloc *a,
                                      struct base_view name);
/* Of a file's own patterns, written for PCRE2; `uses` may be NULL: all TEXT_PRE_SPLIT. With none
 * the text stays whole. FORMAT names a pattern that does not compile. */
infer_status text_pretokenizer_compile(struct text_pretokenizer **out, const struct base_alloc *a,
                                       const struct base_view *patterns, const int32_t *uses,
                                       size_t n);
/* A pattern that means the same and is known or faster, or the pattern itself. */
struct base_view text_pretokenizer_spelling(struct base_view pattern);
/* The known pre-tokenizer with just these patterns, or NULL; where there are several, one that
 * agrees with `flags` about TEXT_PRE_IGNORE_MERGES. The name ends at a space or a 0. */
const char *text_pretokenizer_name(const struct base_view *patterns, size_t n, uint32_t flags,
                                   uint32_t *found_flags);
void text_pretokenizer_destroy(struct text_pretokenizer **pre);
size_t text_pretokenizer_bytes(const struct text_pretokenizer *pre);

/* One walk over one text. Must not move between init and release. */
struct text_splitter {
    const struct text_pretokenizer *pre;
    struct text_matcher matcher;
    const char *text;
    int32_t depth;
    struct text_splitter_level {
        size_t from, to;             /* the piece of the level above */
        size_t next;                 /* first byte not yet handed on */
        size_t match_from, match_to; /* waiting, if match_to > next */
    } levels[TEXT_PRE_MAX_PATTERNS];
};

infer_status text_splitter_init(struct text_splitter *s, const struct text_pretokenizer *pre,
                                const struct base_alloc *a);
void text_splitter_release(struct text_splitter *s);

/* `text` must be valid UTF-8. */
void text_splitter_begin(struct text_splitter *s, const char *text, size_t size);
/* INFER_OK and the next piece (never empty), INFER_DONE at the end, or an error. */
infer_status text_splitter_next(struct text_splitter *s, struct base_view *piece);

#endif
