/* What a vocabulary does to a text before it is cut and merged: a list of steps.
 *
 * A list is an array of strings, a name and its arguments at a time, so that it can stand in a
 * model file (key "tokenizer.infer.normalizer"):
 *
 *   nfc nfd nfkc nfkd        the forms of Unicode
 *   lowercase                each character, without regard to its neighbours
 *   strip_accents            marks (category M) go
 *   strip_left strip_right   white space at the ends goes
 *   squeeze                  runs of U+0020 become one, those at the ends go
 *   squeeze_space            the same with all white space
 *   nmt                      control characters go, odd spaces become U+0020
 *   charsmap                 the precompiled map of SentencePiece
 *   prepend TEXT             in front of a text that is not empty
 *   replace FROM TO
 *   replace_regex PATTERN TO
 */
#ifndef TEXT_NORMALIZE_H
#define TEXT_NORMALIZE_H

#include "text/charsmap.h"
#include "text/forms.h"
#include "text/regex.h"

#define TEXT_NORMALIZER_MAX_STEPS 32

struct text_normal_step {
    int32_t what;
    struct base_view from, to;
    struct text_regex *regex;
};

struct text_normalizer {
    struct base_alloc alloc;
    struct text_charsmap charsmap;
    struct text_normal_step steps[TEXT_NORMALIZER_MAX_STEPS];
    int32_t n;
};

/* Views are borrowed. FORMAT and UNSUPPORTED name the step. */
infer_status text_normalizer_init(struct text_normalizer *z, const struct base_alloc *a,
                                  const struct base_view *steps, size_t n,
                                  struct base_view charsmap);
void text_normalizer_release(struct text_normalizer *z); /* also of a zeroed one */

/* Scratch of one call. */
struct text_normal_work {
    struct base_str a, b;
    text_code_points code_points;
};

void text_normal_work_init(struct text_normal_work *w, const struct base_alloc *a);
void text_normal_work_release(struct text_normal_work *w);

/* `*text` afterwards views itself, if nothing had to change, or a buffer of `w`. */
infer_status text_normalize(const struct text_normalizer *z, struct text_normal_work *w,
                            struct base_view *text);

#endif
