/* Cuts a text into words before byte-level BPE, as the vocabulary's
 * pre-tokenizer prescribes: a list of regular expressions, each applied to the
 * pieces the one before left. Matches and the gaps between them are pieces. */
#ifndef TEXT_PRETOKENIZE_H
#define TEXT_PRETOKENIZE_H

#include "base/alloc.h"

enum {
    TEXT_PRE_IGNORE_MERGES = 1, /* a word that is itself a token is not merged up */
    TEXT_PRE_ADD_BOS = 2        /* BOS goes in front where the file does not say */
};

#define TEXT_PRE_MAX_PATTERNS 6

/* What is known about pre-tokenizer `name`, without making one: TEXT_PRE_* flags,
 * or UNSUPPORTED naming it. An empty name is "default": files without the key
 * come from before there were several, when byte-level BPE meant GPT-2's. */
infer_status text_pretokenizer_flags(struct base_view name, uint32_t *flags);

struct text_pretokenizer; /* immutable, shared between threads */

infer_status text_pretokenizer_create(struct text_pretokenizer **out, const struct base_alloc *a,
                                      struct base_view name);
void text_pretokenizer_destroy(struct text_pretokenizer **pre);
size_t text_pretokenizer_bytes(const struct text_pretokenizer *pre);

/* One walk over one text. Must not move between init and release. */
struct text_splitter {
    const struct text_pretokenizer *pre;
    struct base_alloc alloc;
    void *context, *match; /* PCRE2 */
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
