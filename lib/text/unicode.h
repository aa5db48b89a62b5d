/* UTF-8, byte by byte. Text from outside may hold anything: nothing here
 * trusts that a sequence is whole or legal. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include "base/types.h"

#define TEXT_UTF8_MAX         4
#define TEXT_REPLACEMENT      0xFFFDu
#define TEXT_REPLACEMENT_UTF8 "\xEF\xBF\xBD"
#define TEXT_SPM_SPACE        "\xE2\x96\x81" /* SentencePiece writes a space as U+2581 */
#define TEXT_SPM_SPACE_CHAR   0x2581u

/* What stands at the front of `size` bytes:
 *   > 0  a character of so many bytes, stored in `cp`;
 *     0  a legal beginning that needs more bytes (also for size 0);
 *   < 0  so many bytes (negated) that can never become a character. They are the
 *        "maximal subpart" of the Unicode standard, chapter 3.9: one U+FFFD each. */
int text_utf8_next(const char *data, size_t size, uint32_t *cp);

/* Writes a character (any value up to 0x10FFFF) and returns its length. */
size_t text_utf8_put(uint32_t cp, char out[TEXT_UTF8_MAX]);

/* Length of the longest prefix that is whole, legal UTF-8. */
size_t text_utf8_valid_prefix(const char *data, size_t size);

/* Unicode's White_Space. */
int text_is_space(uint32_t cp);

/* Whether a letter, mark, digit or underscore stands at the front of the bytes. */
int text_is_word(const char *data, size_t size);

#endif
