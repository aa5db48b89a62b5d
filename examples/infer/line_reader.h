/* Lines of a file or a pipe, with bounded memory and without waiting unless told to. */
#ifndef INFER_LINE_READER_H
#define INFER_LINE_READER_H

#include <stddef.h>
#include <stdint.h>

enum line_result {
    LINE_READ,     /* text and size are a line, without its end */
    LINE_TOO_LONG, /* a line beyond `limit`, which is left out */
    LINE_LATER,    /* nothing yet, or a signal came */
    LINE_END,
    LINE_FAILED /* errno says why, or memory is short (ENOMEM) */
};

struct line_reader {
    int fd;
    size_t limit;      /* bytes of a line; set by the user, as fd is */
    const char *text;  /* a 0 byte follows; valid until the next call */
    size_t size;       /* of the text */
    uint64_t number;   /* of the line, from 1 */
    uint64_t offset;   /* of its first byte, from where reading began */
    uint64_t consumed; /* bytes up to the line's end */
    int whole;         /* a newline ended it */
    char *data;
    size_t begin, end, scanned,
        capacity; /* of data: what is unread, how far newlines were sought */
    int ended, skipping;
};

enum line_result line_reader_next(struct line_reader *reader, int wait);
void line_reader_free(struct line_reader *reader);

#endif
