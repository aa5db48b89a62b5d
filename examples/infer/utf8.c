/* Well-formed UTF-8: no overlong forms, no surrogates, nothing past U+10FFFF. */
#include "utf8.h"

size_t utf8_character(const unsigned char *s, size_t n, size_t *skip)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t size = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    *skip = 1;
    if (size <= 1 || s[0] > 0xf4)
        return size == 1;
    if (s[0] == 0xe0)
        low = 0xa0; /* shorter forms exist */
    else if (s[0] == 0xed)
        high = 0x9f; /* surrogates */
    else if (s[0] == 0xf0)
        low = 0x90; /* shorter forms exist */
    else if (s[0] == 0xf4)
        high = 0x8f; /* past U+10FFFF */
    for (size_t i = 1; i < size; i++) {
        if (i >= n || s[i] < low || s[i] > high) {
            *skip = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return size;
}
