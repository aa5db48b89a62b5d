/* Sizes of element types: how many elements a block holds and its bytes. */
#ifndef FORMAT_QUANT_LAYOUT_H
#define FORMAT_QUANT_LAYOUT_H

#include "base/types.h"

struct quant_layout {
    const char *name; /* "Q4_K" */
    int32_t block_elements;
    int32_t block_bytes;
};

/* NULL for a type the library does not know. */
const struct quant_layout *quant_layout_of(infer_dtype type);

/* Also names the types of GGUF that the library cannot read; NULL for a number
 * that GGUF never gave out. */
const char *quant_type_name(infer_dtype type);

#endif
