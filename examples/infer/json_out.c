/* Writing JSON: commas, escapes, numbers. Bytes that are no UTF-8 become U+FFFD,
 * so that the output is valid whatever a model says. */
#include "json_out.h"

#include "command.h"
#include "terminal.h"
#include "utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void begin_value(struct json_out *json, const char *key)
{
    if (json->started)
        buffer_append(&json->buffer, ",", 1);
    json->started = 1;
    if (key) {
        buffer_append(&json->buffer, "\"", 1);
        buffer_append_text(&json->buffer, key);
        buffer_append(&json->buffer, "\":", 2);
    }
}

void json_open(struct json_out *json, const char *key, char bracket)
{
    begin_value(json, key);
    buffer_append(&json->buffer, &bracket, 1);
    json->started = 0;
}

void json_close(struct json_out *json, char bracket)
{
    buffer_append(&json->buffer, &bracket, 1);
    json->started = 1;
}

static void append_escaped(struct buffer *buffer, unsigned char c)
{
    static const char names[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    const char *found = c ? strchr(names, c) : NULL;
    char text[8];
    if (found)
        snprintf(text, sizeof text, "\\%c", letters[found - names]);
    else
        snprintf(text, sizeof text, "\\u%04x", c);
    buffer_append_text(buffer, text);
}

void json_text(struct json_out *json, const char *key, const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    begin_value(json, key);
    buffer_append(&json->buffer, "\"", 1);
    for (size_t i = 0; i < size;) {
        size_t skip;
        size_t n = utf8_character(s + i, size - i, &skip);
        if (n == 0)
            buffer_append_text(&json->buffer, "\xef\xbf\xbd");
        else if (n == 1 && (s[i] < 0x20 || s[i] == '"' || s[i] == '\\'))
            append_escaped(&json->buffer, s[i]);
        else
            buffer_append(&json->buffer, text + i, n);
        i += n ? n : skip;
    }
    buffer_append(&json->buffer, "\"", 1);
}

void json_string(struct json_out *json, const char *key, const char *text)
{
    if (text) {
        json_text(json, key, text, strlen(text));
        return;
    }
    begin_value(json, key);
    buffer_append_text(&json->buffer, "null");
}

void json_raw(struct json_out *json, const char *key, const char *text, size_t size)
{
    begin_value(json, key);
    buffer_append(&json->buffer, text, size);
}

void json_int(struct json_out *json, const char *key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    begin_value(json, key);
    buffer_append_text(&json->buffer, text);
}

void json_uint(struct json_out *json, const char *key, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    begin_value(json, key);
    buffer_append_text(&json->buffer, text);
}

/* JSON has no NaN and no infinity. */
static void append_number(struct json_out *json, const char *key, double value, int digits)
{
    char text[40] = "null";
    if (isfinite(value))
        snprintf(text, sizeof text, "%.*g", digits, value);
    begin_value(json, key);
    buffer_append_text(&json->buffer, text);
}

void json_double(struct json_out *json, const char *key, double value)
{
    append_number(json, key, value, 15);
}

void json_float(struct json_out *json, const char *key, float value)
{
    append_number(json, key, value, 9);
}

void json_tokens(struct json_out *json, const char *key, const infer_token *tokens, size_t n)
{
    json_open(json, key, '[');
    for (size_t i = 0; i < n; i++)
        json_int(json, NULL, tokens[i]);
    json_close(json, ']');
}

int json_print(struct json_out *json)
{
    int status = json->buffer.failed ? STATUS_FAILED : STATUS_OK;
    if (status == STATUS_OK)
        printf("%s\n", json->buffer.data);
    else
        terminal_error("no memory for the output");
    fflush(stdout);
    buffer_free(&json->buffer);
    json->started = 0;
    return status;
}
