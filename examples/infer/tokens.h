/* Arrays of token ids: read from the command line, encoded from text. */
#ifndef INFER_TOKENS_H
#define INFER_TOKENS_H

#include <infer/infer.h>

struct tokens {
    infer_token *ids;
    size_t n;
};

/* Reads "1,2,3" (commas, spaces or both). Returns an exit status. */
int tokens_parse(struct tokens *tokens, const char *command, const char *option, const char *text);

/* Encodes text. Returns an exit status, having said what failed. */
int tokens_encode(struct tokens *tokens, const infer_model *model, const char *text, size_t size,
                  const infer_encode_options *options);

void tokens_free(struct tokens *tokens);

#endif
