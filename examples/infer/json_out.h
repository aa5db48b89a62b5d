/* Writing JSON (RFC 8259) into a buffer. Nothing reaches stdout before the
 * whole object is there, so a failure leaves stdout empty. */
#ifndef INFER_JSON_OUT_H
#define INFER_JSON_OUT_H

#include "buffer.h"

#include <infer/types.h>

#include <stdint.h>

struct json_out {
    struct buffer buffer;
    int started; /* the innermost object or array has a member already */
};

/* `key` is the member's name, or NULL inside an array and at the top. */
void json_open(struct json_out *json, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json_out *json, char bracket);                 /* '}' or ']' */
void json_text(struct json_out *json, const char *key, const char *text, size_t size);
void json_string(struct json_out *json, const char *key, const char *text); /* NULL: null */
/* A value that is JSON already. */
void json_raw(struct json_out *json, const char *key, const char *text, size_t size);
void json_int(struct json_out *json, const char *key, int64_t value);
void json_uint(struct json_out *json, const char *key, uint64_t value);
void json_double(struct json_out *json, const char *key, double value);
void json_float(struct json_out *json, const char *key, float value);
void json_tokens(struct json_out *json, const char *key, const infer_token *tokens, size_t n);

/* Writes the value and a newline to stdout and frees it. Returns the exit status. */
int json_print(struct json_out *json);

#endif
