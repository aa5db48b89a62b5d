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

#endif
