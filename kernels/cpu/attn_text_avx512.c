/* Attention over the rows of one text, AVX-512. */
#include "kernels/cpu/reg_avx512.h"

enum { TEXT_ROWS = 12, TEXT_TURN = 8 };

#define TEXT_TILES(X) X(12) X(4) X(1)

#include "kernels/cpu/attn_text_tmpl.h"

void kern_attn_text_init_avx512(struct kern_attn *attn)
{
    attn->text = attn_text;
}
