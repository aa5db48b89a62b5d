/* Attention over the rows of one text, AVX2. */
#include "kernels/cpu/reg_avx2.h"

enum { TEXT_ROWS = 6, TEXT_TURN = 8 };

#define TEXT_TILES(X) X(6) X(2) X(1)

#include "kernels/cpu/attn_text_tmpl.h"

void kern_attn_text_init_avx2(struct kern_attn *attn)
{
    attn->text = attn_text;
}
