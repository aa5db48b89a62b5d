/* Walks the double array of a precompiled normalisation. */
#include "text/charsmap.h"

#include "base/error.h"

#include <string.h>

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

infer_status text_charsmap_init(struct text_charsmap *m, struct base_view blob)
{
    *m = (struct text_charsmap){0};
    if (blob.size == 0)
        return INFER_OK;
    if (blob.size < 4)
        return base_error(INFER_ERR_FORMAT, "a character map of %zu bytes", blob.size);
    const uint8_t *data = (const uint8_t *)blob.data;
    size_t array = read_u32(data);
    if (array % 4 || array < 4 || array > blob.size - 4)
        return base_error(INFER_ERR_FORMAT,
                          "a character map of %zu bytes names an array of %zu bytes", blob.size,
                          array);
    m->units = data + 4;
    m->n_units = array / 4;
    m->texts = blob.data + 4 + array;
    m->n_texts = blob.size - 4 - array;
    if (m->n_texts && m->texts[m->n_texts - 1] != 0)
        return base_error(INFER_ERR_FORMAT, "the last text of the character map has no end");
    return INFER_OK;
}

/* 0, a unit that leads nowhere, for places outside of the array. */
static uint32_t unit_at(const struct text_charsmap *m, uint32_t i)
{
    return i < m->n_units ? read_u32(m->units + (size_t)4 * i) : 0;
}

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

size_t text_charsmap_find(const struct text_charsmap *m, const char *text, size_t size,
                          struct base_view *replacement)
{
    size_t best = 0;
    uint32_t node = m->n_units ? offset_of(unit_at(m, 0)) : 0, value = 0;
    for (size_t i = 0; m->n_units && i < size && text[i]; i++) {
        uint8_t byte = (uint8_t)text[i];
        node ^= byte;
        uint32_t unit = unit_at(m, node);
        if ((unit & (0x80000000u | 0xFF)) != byte)
            break;
        node ^= offset_of(unit);
        if (unit >> 8 & 1) {
            best = i + 1;
            value = unit_at(m, node) & 0x7FFFFFFFu;
        }
    }
    if (best == 0 || value >= m->n_texts)
        return 0;
    *replacement = (struct base_view){m->texts + value, strlen(m->texts + value)};
    return best;
}
