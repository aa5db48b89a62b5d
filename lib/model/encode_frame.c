/* What stands around the tokens of a text and between those of a pair. */
#include "model/encode.h"

#include <string.h>

struct model_frame model_frame_of(const struct infer_model *model)
{
    const struct text_vocab *v = model_vocab_text(model->vocab);
    struct model_frame f = {.before = v->add_bos ? v->bos : -1,
                            .after = v->add_eos ? v->eos : -1,
                            .second_type = model_vocab_second_type(model->vocab)};
    const infer_token *between = model_vocab_between(model->vocab, &f.n_between);
    memcpy(f.between, between, (size_t)f.n_between * sizeof *between);
    return f;
}

int32_t model_frame_tokens(const struct model_frame *frame, int pair)
{
    return (frame->before >= 0) + (frame->after >= 0) + (pair ? frame->n_between : 0);
}

/* Room for all is there. */
static void put(text_tokens *out, model_types *types, const infer_token *tokens, size_t n,
                int32_t type)
{
    if (n)
        memcpy(out->data + out->size, tokens, n * sizeof *tokens);
    out->size += n;
    if (types && n)
        memset(types->data + types->size, type, n);
    if (types)
        types->size += n;
}

infer_status model_frame_add(const struct model_frame *frame, const struct base_alloc *alloc,
                             const text_tokens *a, const text_tokens *b, text_tokens *out,
                             model_types *types)
{
    int32_t type = b ? frame->second_type : 0;
    size_t n = a->size + (b ? b->size : 0) + (size_t)model_frame_tokens(frame, b != NULL);
    infer_status st = base_array_reserve(alloc, out, n);
    if (st == INFER_OK && types)
        st = base_array_reserve(alloc, types, n);
    if (st != INFER_OK)
        return st;
    put(out, types, &frame->before, frame->before >= 0, 0);
    put(out, types, a->data, a->size, 0);
    if (b) {
        put(out, types, frame->between, (size_t)frame->n_between, 0);
        put(out, types, b->data, b->size, type);
    }
    put(out, types, &frame->after, frame->after >= 0, type);
    return INFER_OK;
}
