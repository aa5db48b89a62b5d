/* Base64, strict but for missing padding. */
#include "model/hf_base64.h"

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int hf_base64_decode(struct base_view text, char *out, size_t *n)
{
    uint32_t bits = 0;
    int n_bits = 0;
    size_t size = text.size;
    *n = 0;
    while (size && text.size - size < 2 && text.data[size - 1] == '=')
        size--;
    for (size_t i = 0; i < size; i++) {
        int d = digit(text.data[i]);
        if (d < 0)
            return 0;
        bits = bits << 6 | (uint32_t)d;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[(*n)++] = (char)(bits >> n_bits);
        }
    }
    return size % 4 != 1;
}
