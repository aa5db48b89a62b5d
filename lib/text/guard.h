/* The mark that keeps control tokens in strangers' text from taking effect. */
#ifndef TEXT_GUARD_H
#define TEXT_GUARD_H

#include "text/special.h"
#include "text/tokenizer.h"

/* U+FDD0: valid UTF-8, so templates pass it on, and no character of any text. */
#define TEXT_GUARD_MARK  "\xef\xb7\x90"
#define TEXT_GUARD_BYTES ((size_t)3)

/* As text_tokenizer_guard(). */
infer_status text_guard(const struct text_special *special, const struct text_vocab *vocab,
                        const char *text, size_t size, struct base_str *out);

#endif
