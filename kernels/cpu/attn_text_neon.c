/* Attention over the rows of one text, NEON. */
#include "kernels/cpu/reg_neon.h"

enum { TEXT_ROWS = 6, TEXT_TURN = 8 };

#define TEXT_TILES(X) X(6) X(2) X(1)

#include "kernels/cpu/attn_text_tmpl.h"

void kern_attn_text_init_neon(struct kern_attn *attn)
{
    attn->text = attn_text;
}
