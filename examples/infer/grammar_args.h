/* The options that say what the generated text must look like. */
#ifndef INFER_GRAMMAR_ARGS_H
#define INFER_GRAMMAR_ARGS_H

#include "args.h"

#include <infer/infer.h>

struct grammar_args {
    const char *grammar, *schema, *regex;
    struct args_list choice;
};

/* Rows for a command's table of options. */
#define GRAMMAR_OPTIONS(args)                                                                      \
    ARGS_ROW(ARGS_TEXT, "--grammar", "FILE", (args).grammar, "only text of this GBNF grammar"),    \
        ARGS_ROW(ARGS_TEXT, "--schema", "FILE", (args).schema, "only JSON of this JSON Schema"),   \
        ARGS_ROW(ARGS_TEXT, "--regex", "EXPR", (args).regex,                                       \
                 "only text that matches this regular expression"),                                \
        ARGS_ROW(ARGS_LIST, "--choice", "TEXT", (args).choice,                                     \
                 "only this text or that of another --choice")

/* Compiles what is given, at most one of them; else *out stays NULL. Returns an exit status,
 * having said what failed. */
int grammar_resolve(const struct grammar_args *args, const char *command, infer_grammar **out);

#endif
