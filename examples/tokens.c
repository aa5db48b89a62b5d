/* Text to tokens and back: prints each token of a text with its bytes. Works on
 * a file that holds a vocabulary alone. */
#include <infer/infer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The pattern of all calls that fill a caller's buffer: ask, allocate, call. */
static infer_token *encode(const infer_tokenizer *tokenizer, const char *text, size_t *n)
{
    infer_token *tokens;
    if (infer_tokenizer_encode(tokenizer, text, strlen(text), NULL, NULL, n) != INFER_OK)
        return NULL;
    tokens = malloc((*n + 1) * sizeof *tokens);
    if (tokens &&
        infer_tokenizer_encode(tokenizer, text, strlen(text), NULL, tokens, n) != INFER_OK) {
        free(tokens);
        tokens = NULL;
    }
    return tokens;
}

static infer_status print_token(const infer_tokenizer *tokenizer, infer_token token)
{
    char bytes[256];
    size_t size = sizeof bytes;
    infer_status status = infer_tokenizer_piece(tokenizer, token, bytes, &size);
    if (status != INFER_OK)
        return status;
    printf("%7d  ", (int)token);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        printf(byte >= 0x20 && byte < 0x7f ? "%c" : "\\x%02x", byte);
    }
    printf("\n");
    return INFER_OK;
}

int main(int argc, char **argv)
{
    infer_model_options options = {.struct_size = sizeof options, .vocabulary_only = 1};
    const infer_tokenizer *tokenizer;
    infer_model *model = NULL;
    infer_token *tokens = NULL;
    infer_status status;
    size_t n = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: tokens MODEL TEXT\n");
        return 2;
    }
    status = infer_model_load(&model, argv[1], &options);
    tokenizer = infer_model_tokenizer(model);
    if (status == INFER_OK && (tokens = encode(tokenizer, argv[2], &n)) == NULL)
        status = INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n && status == INFER_OK; i++)
        status = print_token(tokenizer, tokens[i]);
    if (status != INFER_OK)
        fprintf(stderr, "%s\n", infer_last_error());
    free(tokens);
    infer_model_destroy(&model);
    return status == INFER_OK ? 0 : 1;
}
