/* Which bytes are characters. */
#ifndef INFER_UTF8_H
#define INFER_UTF8_H

#include <stddef.h>

/* Bytes of the character at `s`, of which `n` > 0 bytes follow, or 0 where none is well-formed;
 * *skip is then the length of the longest prefix of one (Unicode 15, table 3-7). */
size_t utf8_character(const unsigned char *s, size_t n, size_t *skip);

#endif
