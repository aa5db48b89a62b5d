/* Regular expressions of tokenizer.json, which are Oniguruma's, written for PCRE2. */
#ifndef MODEL_HF_PATTERN_H
#define MODEL_HF_PATTERN_H

#include "base/str.h"

/* Appends the translation. UNSUPPORTED names what has none. */
infer_status hf_pattern_translate(struct base_view pattern, struct base_str *out);

/* Appends a pattern that matches just this text. */
infer_status hf_pattern_quote(struct base_view text, struct base_str *out);

#endif
