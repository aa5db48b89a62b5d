/* A grammar from the command line: from a file, or as it is written there. */
#include "grammar_args.h"

#include "buffer.h"
#include "command.h"
#include "host.h"

int grammar_resolve(const struct grammar_args *args, const char *command, infer_grammar **out)
{
    int n = !!args->grammar + !!args->schema + !!args->regex + (args->choice.n > 0);
    infer_grammar_options options = {.struct_size = sizeof options};
    struct buffer file = {0};
    const char *path = args->grammar ? args->grammar : args->schema;
    if (n > 1)
        return args_wrong(command, "only one of --grammar, --schema, --regex and --choice");
    if (n == 0)
        return STATUS_OK;
    if (path && buffer_read(&file, path) != 0)
        return STATUS_FAILED;
    options.kind = args->grammar  ? INFER_GRAMMAR_GBNF
                   : args->schema ? INFER_GRAMMAR_JSON_SCHEMA
                   : args->regex  ? INFER_GRAMMAR_REGEX
                                  : INFER_GRAMMAR_CHOICE;
    options.text = args->regex;
    if (path) {
        options.text = file.size ? file.data : "";
        options.text_size = file.size;
    }
    options.choices = args->choice.n ? args->choice.items : NULL;
    options.n_choices = args->choice.n;
    int status = infer_grammar_create(out, &options) == INFER_OK ? STATUS_OK : host_failed();
    buffer_free(&file);
    return status;
}
