/* The options --speculate and --draft-model. */
#ifndef INFER_SPECULATE_ARGS_H
#define INFER_SPECULATE_ARGS_H

#include "args.h"

#include <infer/infer.h>

struct speculate_args {
    const char *how, *path;
    infer_speculation kind; /* what they come to */
    int32_t n;
    infer_model *model; /* of --draft-model */
};

/* Rows for a command's table of options. */
#define SPECULATE_OPTIONS(args)                                                                    \
    ARGS_ROW(ARGS_TEXT, "--speculate", "ngram[:N]", (args).how,                                    \
             "draft from what was said before, up to N tokens a step"),                            \
        ARGS_ROW(ARGS_TEXT, "--draft-model", "MODEL", (args).path,                                 \
                 "a small model of the same vocabulary drafts")

/* Whether they make sense. Returns an exit status, having said what failed. */
int speculate_check(struct speculate_args *args, const char *command);

/* For each request. */
void speculate_request(const struct speculate_args *args, infer_request_options *options);

#endif
