/* Bytes that grow. */
#include "buffer.h"

#include "terminal.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buffer_append(struct buffer *buffer, const char *data, size_t size)
{
    if (buffer->failed)
        return;
    if (buffer->capacity - buffer->size <= size) {
        size_t capacity = buffer->capacity ? buffer->capacity : 256;
        char *grown = NULL;
        while (capacity - buffer->size <= size && capacity < SIZE_MAX / 2)
            capacity *= 2;
        if (capacity - buffer->size > size)
            grown = realloc(buffer->data, capacity);
        if (!grown) {
            buffer->failed = 1;
            return;
        }
        buffer->data = grown;
        buffer->capacity = capacity;
    }
    if (size > 0)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    buffer->data[buffer->size] = 0;
}

void buffer_append_text(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

int buffer_read(struct buffer *buffer, const char *path)
{
    int is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rb");
    char chunk[16384];
    size_t n;
    int bad;
    if (!file) {
        terminal_error("cannot open %s: %s", path, strerror(errno));
        return -1;
    }
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0)
        buffer_append(buffer, chunk, n);
    buffer_append(buffer, "", 0);
    bad = ferror(file) || buffer->failed;
    if (bad)
        terminal_error("cannot read %s: %s", path, buffer->failed ? "no memory" : strerror(errno));
    if (!is_stdin)
        fclose(file);
    return bad ? -1 : 0;
}
