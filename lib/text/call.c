/* Scratch of one encode call. */
#include "text/call.h"

#include "base/hash.h"

#include <string.h>

#define MIN_SEEN      64
#define MAX_SEEN      8192 /* 256 KiB: stays in the second-level cache */
#define MAX_SEEN_WORD 64   /* bytes; longer words seldom come twice */

infer_status text_call_init(struct text_call *c, const struct base_alloc *a, text_tokens *out,
                            size_t text_bytes)
{
    *c = (struct text_call){.a = a, .out = out, .start = out->size, .n_seen = MIN_SEEN};
    text_normal_work_init(&c->normal, a);
    base_str_init(&c->word, a, 0);
    base_arena_init(&c->copies, a);
    while (c->n_seen < MAX_SEEN && c->n_seen < text_bytes / 8)
        c->n_seen *= 2;
    c->seen = base_new(a, c->n_seen, sizeof *c->seen);
    return c->seen ? INFER_OK : INFER_ERR_NO_MEMORY;
}

void text_call_release(struct text_call *c)
{
    text_merge_work_release(&c->work, c->a);
    text_normal_work_release(&c->normal);
    base_array_release(c->a, &c->cells);
    base_str_release(&c->word);
    base_arena_release(&c->copies);
    base_free(c->a, c->seen);
    c->seen = NULL;
}

infer_status text_call_recall(struct text_call *c, struct base_view word, struct text_seen **slot)
{
    *slot = NULL;
    if (word.size > MAX_SEEN_WORD)
        return INFER_OK;
    uint64_t hash = base_hash64(word.data, word.size, 0);
    struct text_seen *s = &c->seen[hash & (c->n_seen - 1)];
    if (s->n && s->hash == hash && s->size == word.size &&
        memcmp(s->word, word.data, word.size) == 0) {
        if (base_array_reserve(c->a, c->out, s->n) != INFER_OK)
            return INFER_ERR_NO_MEMORY;
        memcpy(c->out->data + c->out->size, c->out->data + s->at, s->n * sizeof *c->out->data);
        c->out->size += s->n;
        *slot = s;
        return INFER_DONE;
    }
    *s = (struct text_seen){.word = word.data, .size = (uint32_t)word.size, .hash = hash};
    *slot = s;
    return INFER_OK;
}

void text_call_remember(const struct text_call *c, struct text_seen *slot, size_t at)
{
    if (!slot)
        return;
    slot->at = at;
    slot->n = (uint32_t)(c->out->size - at);
}

infer_status text_call_keep(struct text_call *c, struct base_view *text)
{
    const char *copy = base_arena_strdup(&c->copies, text->data, text->size);
    if (!copy)
        return INFER_ERR_NO_MEMORY;
    text->data = copy;
    return INFER_OK;
}
