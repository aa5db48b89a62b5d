/* UTF-8: decoding, encoding, validation. */
#include "text/unicode.h"

#include <string.h>
#include <utf8proc.h>

/* Length of a sequence by its first byte and the legal range of the second one;
 * the range excludes overlong forms, surrogates and values above U+10FFFF. */
static int sequence(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2)
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead < 0xF0) {
        *low = lead == 0xE0 ? 0xA0 : 0x80;
        *high = lead == 0xED ? 0x9F : 0xBF;
        return 3;
    }
    if (lead < 0xF5) {
        *low = lead == 0xF0 ? 0x90 : 0x80;
        *high = lead == 0xF4 ? 0x8F : 0xBF;
        return 4;
    }
    return 0;
}

int text_utf8_next(const char *data, size_t size, uint32_t *cp)
{
    const uint8_t *p = (const uint8_t *)data;
    uint8_t low, high;
    if (size == 0)
        return 0;
    int n = sequence(p[0], &low, &high);
    if (n == 0)
        return -1;
    uint32_t value = n == 1 ? p[0] : p[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if ((size_t)i == size)
            return 0;
        if (p[i] < low || p[i] > high)
            return -i;
        value = value << 6 | (p[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    *cp = value;
    return n;
}

size_t text_utf8_put(uint32_t cp, char out[TEXT_UTF8_MAX])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)((0xF00 >> n & 0xFF) | cp);
    return n;
}

size_t text_utf8_valid_prefix(const char *data, size_t size)
{
    size_t i = 0;
    while (i < size) {
        uint64_t eight;
        if (size - i >= sizeof eight) {
            memcpy(&eight, data + i, sizeof eight);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                i += sizeof eight;
                continue;
            }
        }
        uint32_t cp;
        int n = text_utf8_next(data + i, size - i, &cp);
        if (n <= 0)
            break;
        i += (size_t)n;
    }
    return i;
}

int text_is_space(uint32_t cp)
{
    return (cp >= 0x9 && cp <= 0xD) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
           cp == 0x205F || cp == 0x3000;
}

int text_is_word(const char *data, size_t size)
{
    uint32_t cp;
    if (text_utf8_next(data, size, &cp) <= 0)
        return 0;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_ND) || c == UTF8PROC_CATEGORY_PC;
}
