/* Fuzz target of answers: the first byte chooses the format, the second how the rest is cut.
 * Beyond crashes it checks that cutting changes nothing, that no text is made up and that nothing
 * stays allocated. */
#include "fuzz.h"
#include "support/test_alloc.h"

#include "base/json.h"
#include "text/message.h"

static void read_message(struct text_message *m, const struct base_alloc *a, const uint8_t *data,
                         size_t size, size_t step)
{
    text_message_init(m, a, data[0] % TEXT_MESSAGE_FORMATS, data[0] >> 7);
    for (size_t at = 2; at < size; at += step)
        fuzz_check(text_message_push(m, (const char *)data + at, BASE_MIN(step, size - at)) ==
                   INFER_OK);
    fuzz_check(text_message_finish(m) == INFER_OK);
}

static struct base_view trimmed(const struct base_str *s)
{
    struct base_view v = {s->data, s->size};
    while (v.size && (v.data[0] == ' ' || (v.data[0] >= '\t' && v.data[0] <= '\r')))
        v.data++, v.size--;
    return v;
}

static void same_text(const struct base_str *a, const struct base_str *b)
{
    struct base_view x = trimmed(a), y = trimmed(b);
    fuzz_check(x.size == y.size && (!x.size || memcmp(x.data, y.data, x.size) == 0));
}

static void check_calls(const struct text_message *a, const struct text_message *b,
                        const struct base_alloc *alloc)
{
    fuzz_check(a->calls.size == b->calls.size);
    for (size_t i = 0; i < a->calls.size; i++) {
        const struct text_call_of_tool *x = &a->calls.data[i], *y = &b->calls.data[i];
        fuzz_check(strcmp(x->name, y->name) == 0 && strcmp(x->id, y->id) == 0);
        fuzz_check(x->arguments_size == y->arguments_size && x->is_json == y->is_json);
        fuzz_check(memcmp(x->arguments, y->arguments, x->arguments_size) == 0);
        struct base_arena arena;
        const struct base_json *v = NULL;
        base_arena_init(&arena, alloc);
        infer_status st = base_json_parse(&v, &arena, x->arguments, x->arguments_size);
        fuzz_check((st == INFER_OK) == x->is_json);
        base_arena_release(&arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct test_alloc t;
    struct text_message whole, cut;
    if (size < 3)
        return 0;
    test_alloc_init(&t);
    read_message(&whole, &t.alloc, data, size, size);
    read_message(&cut, &t.alloc, data, size, data[1] % 32 + 1u);
    same_text(&whole.content, &cut.content);
    same_text(&whole.reasoning, &cut.reasoning);
    check_calls(&whole, &cut, &t.alloc);
    fuzz_check(whole.content.size + whole.reasoning.size <= size - 2);
    text_message_release(&whole);
    text_message_release(&cut);
    fuzz_check(t.live_blocks == 0);
    return 0;
}
