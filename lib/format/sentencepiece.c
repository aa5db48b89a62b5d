/* Protocol Buffers as SentencePiece's ModelProto uses them. */
#include "format/sentencepiece.h"

#include "base/error.h"

#include <string.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* One message; `start` is the file's, for offsets in errors. */
struct message {
    const uint8_t *start, *p, *end;
};

struct field {
    uint32_t number;
    int32_t wire;
    uint64_t value;         /* varint, fixed 32 and 64 */
    struct message message; /* bytes */
};

static infer_status broken(const struct message *m, const char *what)
{
    return base_error(INFER_ERR_FORMAT, "SentencePiece model, byte %zu: %s",
                      (size_t)(m->p - m->start), what);
}

static infer_status read_varint(struct message *m, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (m->p == m->end)
            return broken(m, "the message ends within a number");
        uint8_t byte = *m->p++;
        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80))
            return INFER_OK;
    }
    return broken(m, "a number of more than ten bytes");
}

static infer_status read_fixed(struct message *m, size_t n, uint64_t *out)
{
    if ((size_t)(m->end - m->p) < n)
        return broken(m, "the message ends within a number");
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out |= (uint64_t)*m->p++ << (8 * i);
    return INFER_OK;
}

/* INFER_DONE at the end of the message. */
static infer_status next_field(struct message *m, struct field *f)
{
    uint64_t key, size;
    if (m->p == m->end)
        return INFER_DONE;
    infer_status st = read_varint(m, &key);
    if (st != INFER_OK)
        return st;
    f->number = (uint32_t)(key >> 3);
    f->wire = (int32_t)(key & 7);
    if (key >> 3 == 0 || key >> 3 > 0x1FFFFFFF)
        return broken(m, "a field number out of range");
    switch (f->wire) {
    case WIRE_VARINT:
        return read_varint(m, &f->value);
    case WIRE_64:
        return read_fixed(m, 8, &f->value);
    case WIRE_32:
        return read_fixed(m, 4, &f->value);
    case WIRE_BYTES:
        st = read_varint(m, &size);
        if (st == INFER_OK && size > (uint64_t)(m->end - m->p))
            return broken(m, "a field is longer than its message");
        if (st == INFER_OK) {
            f->message = (struct message){m->start, m->p, m->p + size};
            m->p += size;
        }
        return st;
    default:
        return broken(m, "a wire type that is not supported");
    }
}

static struct base_view view_of(const struct message *m)
{
    return (struct base_view){(const char *)m->p, (size_t)(m->end - m->p)};
}

static infer_status expect(const struct message *m, const struct field *f, int32_t wire)
{
    return f->wire == wire ? INFER_OK : broken(m, "a field has the wrong type");
}

static infer_status read_piece(struct sentencepiece *s, const struct base_alloc *a,
                               struct message m)
{
    struct sentencepiece_piece piece = {{"", 0}, 0, 1};
    struct field f;
    infer_status st;
    while ((st = next_field(&m, &f)) == INFER_OK) {
        if (f.number == 1 && (st = expect(&m, &f, WIRE_BYTES)) == INFER_OK)
            piece.text = view_of(&f.message);
        if (f.number == 2 && (st = expect(&m, &f, WIRE_32)) == INFER_OK) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&piece.score, &bits, sizeof bits);
        }
        if (f.number == 3 && (st = expect(&m, &f, WIRE_VARINT)) == INFER_OK) {
            if (f.value < 1 || f.value > 6)
                st = broken(&m, "a piece of unknown type");
            piece.type = (int32_t)f.value;
        }
        if (st != INFER_OK)
            return st;
    }
    if (st != INFER_DONE)
        return st;
    if (s->pieces.size >= INT32_MAX)
        return base_error(INFER_ERR_LIMIT, "SentencePiece model with too many pieces");
    return base_array_push(a, &s->pieces, piece);
}

struct number {
    uint32_t field;
    int32_t *out;
};

/* Numbers of a message by their fields, and one field of bytes. */
static infer_status read_numbers(struct message m, const struct number *numbers, size_t n,
                                 uint32_t bytes_field, struct base_view *bytes)
{
    struct field f;
    infer_status st;
    while ((st = next_field(&m, &f)) == INFER_OK) {
        for (size_t i = 0; i < n && st == INFER_OK; i++)
            if (f.number == numbers[i].field && (st = expect(&m, &f, WIRE_VARINT)) == INFER_OK)
                *numbers[i].out = (int32_t)f.value;
        if (bytes && f.number == bytes_field && st == INFER_OK &&
            (st = expect(&m, &f, WIRE_BYTES)) == INFER_OK)
            *bytes = view_of(&f.message);
        if (st != INFER_OK)
            return st;
    }
    return st == INFER_DONE ? INFER_OK : st;
}

static infer_status read_model(struct sentencepiece *s, const struct base_alloc *a,
                               struct message m)
{
    const struct number trainer[] = {
        {3, &s->model}, {24, &s->space_behind}, {35, &s->byte_fallback},
        {40, &s->unk},  {41, &s->bos},          {42, &s->eos},
        {43, &s->pad}};
    const struct number normalizer[] = {{3, &s->add_prefix}, {4, &s->squeeze}, {5, &s->escape}};
    struct field f;
    infer_status st;
    while ((st = next_field(&m, &f)) == INFER_OK) {
        if (f.number >= 1 && f.number <= 3)
            st = expect(&m, &f, WIRE_BYTES);
        if (st == INFER_OK && f.number == 1)
            st = read_piece(s, a, f.message);
        else if (st == INFER_OK && f.number == 2)
            st = read_numbers(f.message, trainer, BASE_COUNT(trainer), 0, NULL);
        else if (st == INFER_OK && f.number == 3)
            st = read_numbers(f.message, normalizer, BASE_COUNT(normalizer), 2, &s->charsmap);
        if (st != INFER_OK)
            return st;
    }
    return st == INFER_DONE ? INFER_OK : st;
}

infer_status sentencepiece_read(struct sentencepiece *out, const struct base_alloc *a,
                                struct base_view data)
{
    *out = (struct sentencepiece){.model = SENTENCEPIECE_UNIGRAM,
                                  .bos = 1,
                                  .eos = 2,
                                  .pad = -1,
                                  .charsmap = {"", 0},
                                  .add_prefix = 1,
                                  .squeeze = 1,
                                  .escape = 1};
    const uint8_t *p = (const uint8_t *)data.data;
    infer_status st = read_model(out, a, (struct message){p, p, p + data.size});
    if (st == INFER_OK && out->pieces.size == 0)
        st = base_error(INFER_ERR_FORMAT, "SentencePiece model without pieces");
    int32_t *ids[] = {&out->unk, &out->bos, &out->eos, &out->pad};
    for (size_t i = 0; i < BASE_COUNT(ids); i++)
        if (*ids[i] < 0 || (size_t)*ids[i] >= out->pieces.size)
            *ids[i] = -1;
    if (st != INFER_OK)
        sentencepiece_release(out, a);
    return st;
}

void sentencepiece_release(struct sentencepiece *s, const struct base_alloc *a)
{
    base_array_release(a, &s->pieces);
}
