/* Bytes that grow: files read whole, text collected from events. After a failed
 * allocation a buffer keeps what it has and says so; callers look once, at the end. */
#ifndef INFER_BUFFER_H
#define INFER_BUFFER_H

#include <stddef.h>

struct buffer {
    char *data; /* 0-terminated once anything was appended */
    size_t size, capacity;
    int failed;
};

void buffer_append(struct buffer *buffer, const char *data, size_t size);
void buffer_append_text(struct buffer *buffer, const char *text);
void buffer_free(struct buffer *buffer);

/* Reads a file, or stdin for "-". Returns 0, or -1 after an error on stderr. */
int buffer_read(struct buffer *buffer, const char *path);

#endif
