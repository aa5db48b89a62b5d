/* Arrays of token ids. */
#include "tokens.h"

#include "args.h"
#include "command.h"
#include "host.h"
#include "terminal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int tokens_parse(struct tokens *tokens, const char *command, const char *option, const char *text)
{
    static const char separators[] = ", \t\r\n";
    /* Two characters hold one id at least. */
    infer_token *ids = malloc((strlen(text) / 2 + 1) * sizeof *ids);
    size_t n = 0;
    if (!ids) {
        terminal_error("no memory for the ids of %s", option);
        return STATUS_FAILED;
    }
    text += strspn(text, separators);
    while (*text) {
        size_t size = strcspn(text, separators);
        char *end;
        long id;
        errno = 0;
        id = strtol(text, &end, 10);
        if (end != text + size || errno || id < 0 || id > INT32_MAX) {
            free(ids);
            return args_wrong(command, "%s has \"%.*s\", expected token ids such as 1,2,3", option,
                              (int)(size < 40 ? size : 40), text);
        }
        ids[n++] = (infer_token)id;
        text += size;
        text += strspn(text, separators);
    }
    if (n == 0) {
        free(ids);
        return args_wrong(command, "%s is empty, expected token ids such as 1,2,3", option);
    }
    *tokens = (struct tokens){.ids = ids, .n = n};
    return STATUS_OK;
}

int tokens_encode(struct tokens *tokens, const infer_model *model, const char *text, size_t size,
                  const infer_encode_options *options)
{
    const infer_tokenizer *tokenizer = infer_model_tokenizer(model);
    infer_token *ids;
    size_t n = 0;
    if (infer_tokenizer_encode(tokenizer, text, size, options, NULL, &n) != INFER_OK)
        return host_failed();
    ids = malloc((n + 1) * sizeof *ids);
    if (!ids) {
        terminal_error("no memory for %zu tokens", n);
        return STATUS_FAILED;
    }
    if (infer_tokenizer_encode(tokenizer, text, size, options, ids, &n) != INFER_OK) {
        free(ids);
        return host_failed();
    }
    *tokens = (struct tokens){.ids = ids, .n = n};
    return STATUS_OK;
}

void tokens_free(struct tokens *tokens)
{
    free(tokens->ids);
    *tokens = (struct tokens){0};
}
