/* Reading lines in chunks; poll() keeps a slow writer from holding up what is in flight. */
#include "line_reader.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK   ((size_t)1 << 16)
#define WAIT_MS 200

/* Room for a chunk behind what is unread, and for a 0. */
static int make_room(struct line_reader *r)
{
    size_t unread = r->end - r->begin, capacity = r->capacity;
    if (r->begin > 0) {
        memmove(r->data, r->data + r->begin, unread);
        r->scanned -= r->begin;
        r->begin = 0;
        r->end = unread;
    }
    while (capacity - unread <= CHUNK)
        capacity = capacity ? 2 * capacity : 4 * CHUNK;
    if (capacity > r->capacity) {
        char *grown = realloc(r->data, capacity);
        if (!grown) {
            errno = ENOMEM;
            return -1;
        }
        r->data = grown;
        r->capacity = capacity;
    }
    return 0;
}

static enum line_result fill(struct line_reader *r, int wait)
{
    struct pollfd ready = {.fd = r->fd, .events = POLLIN};
    ssize_t n;
    /* Waiting ends now and then, for a signal may have come just before it began. */
    if (poll(&ready, 1, wait ? WAIT_MS : 0) <= 0)
        return LINE_LATER;
    if (make_room(r) != 0)
        return LINE_FAILED;
    n = read(r->fd, r->data + r->end, CHUNK);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN ? LINE_LATER : LINE_FAILED;
    r->end += (size_t)n;
    r->ended = n == 0;
    return LINE_READ;
}

/* The line from `begin` to `stop`, which is its newline or the end of the file. */
static enum line_result take(struct line_reader *r, size_t stop, int whole)
{
    enum line_result result = r->skipping || stop - r->begin > r->limit ? LINE_TOO_LONG : LINE_READ;
    r->text = r->data + r->begin;
    r->size = stop - r->begin;
    r->data[stop] = 0;
    r->whole = whole;
    r->number++;
    r->consumed += r->size + (size_t)whole;
    r->begin = r->scanned = stop + (size_t)whole;
    r->skipping = 0;
    return result;
}

enum line_result line_reader_next(struct line_reader *r, int wait)
{
    if (!r->skipping)
        r->offset = r->consumed;
    for (;;) {
        char *newline =
            r->end > r->scanned ? memchr(r->data + r->scanned, '\n', r->end - r->scanned) : NULL;
        if (newline)
            return take(r, (size_t)(newline - r->data), 1);
        r->scanned = r->end;
        if (r->end - r->begin > r->limit) { /* forget what cannot be used */
            r->consumed += r->end - r->begin;
            r->begin = r->end;
            r->skipping = 1;
        }
        if (r->ended)
            return r->end > r->begin || r->skipping ? take(r, r->end, 0) : LINE_END;
        enum line_result result = fill(r, wait);
        if (result != LINE_READ)
            return result;
    }
}

void line_reader_free(struct line_reader *r)
{
    free(r->data);
    r->data = NULL;
}
