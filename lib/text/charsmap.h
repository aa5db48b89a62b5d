/* SentencePiece's precompiled normalisation: a double-array trie (Yata's DARTS, in the
 * layout of darts-clone) from sequences of bytes to their replacements. Comes out of
 * files: every step is checked against the array's size. */
#ifndef TEXT_CHARSMAP_H
#define TEXT_CHARSMAP_H

#include "base/types.h"

struct text_charsmap {
    const uint8_t *units; /* unaligned, little-endian u32 */
    size_t n_units;
    const char *texts; /* replacements, 0-terminated */
    size_t n_texts;
};

/* `blob` is borrowed. Empty: no replacement. FORMAT where sizes do not fit. */
infer_status text_charsmap_init(struct text_charsmap *m, struct base_view blob);

/* The longest key at the front of `text`: its length, and what replaces it; 0 if none. */
size_t text_charsmap_find(const struct text_charsmap *m, const char *text, size_t size,
                          struct base_view *replacement);

#endif
