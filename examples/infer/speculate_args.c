/* How tokens are drafted. */
#include "speculate_args.h"

#include "command.h"

#include <stdlib.h>
#include <string.h>

#define DRAFT_MAX 64

int speculate_check(struct speculate_args *args, const char *command)
{
    const char *number;
    char *end;
    long n;
    if (args->how && args->path)
        return args_wrong(command, "--speculate and --draft-model exclude each other");
    if (args->path)
        args->kind = INFER_SPECULATION_DRAFT;
    if (!args->how)
        return STATUS_OK;
    if (strncmp(args->how, "ngram", 5) != 0 || (args->how[5] && args->how[5] != ':'))
        return args_wrong(command, "--speculate is \"%s\", expected ngram or ngram:N", args->how);
    args->kind = INFER_SPECULATION_NGRAM;
    if (!args->how[5])
        return STATUS_OK;
    number = args->how + 6;
    n = strtol(number, &end, 10);
    if (end == number || *end || n < 1 || n > DRAFT_MAX)
        return args_wrong(command, "--speculate is \"%s\": expected 1 to %d tokens", args->how,
                          DRAFT_MAX);
    args->n = (int32_t)n;
    return STATUS_OK;
}

void speculate_request(const struct speculate_args *args, infer_request_options *options)
{
    options->speculation = args->kind;
    options->max_draft_tokens = args->n;
}
