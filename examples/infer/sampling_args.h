/* The options that choose how tokens are drawn. What is not given stays as the
 * model's files recommend. */
#ifndef INFER_SAMPLING_ARGS_H
#define INFER_SAMPLING_ARGS_H

#include "args.h"

#include <infer/infer.h>

struct sampling_args {
    double temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
    int64_t top_k;
    uint64_t seed;
    struct {
        int temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
        int top_k, seed;
    } given;
};

#define SAMPLING_ROW(args, option, member, type, what, text)                                       \
    {                                                                                              \
        .name = option, .value = what, .help = text, .kind = type, .target = &(args).member,       \
        .given = &(args).given.member                                                              \
    }

/* Rows for a command's table of options. */
#define SAMPLING_OPTIONS(args)                                                                     \
    SAMPLING_ROW(args, "--temperature", temperature, ARGS_NUMBER, "X",                             \
                 "0: the most likely token"),                                                      \
        SAMPLING_ROW(args, "--top-k", top_k, ARGS_COUNT, "N", "keep the N most likely tokens"),    \
        SAMPLING_ROW(args, "--top-p", top_p, ARGS_NUMBER, "X", "keep a share X of probability"),   \
        SAMPLING_ROW(args, "--min-p", min_p, ARGS_NUMBER, "X",                                     \
                     "keep tokens at least X times as likely as the first"),                       \
        SAMPLING_ROW(args, "--repeat-penalty", repeat_penalty, ARGS_NUMBER, "X",                   \
                     "above 1: discourage tokens already seen"),                                   \
        SAMPLING_ROW(args, "--frequency-penalty", frequency_penalty, ARGS_NUMBER, "X",             \
                     "subtracted per occurrence of a token"),                                      \
        SAMPLING_ROW(args, "--presence-penalty", presence_penalty, ARGS_NUMBER, "X",               \
                     "subtracted once from tokens already seen"),                                  \
        SAMPLING_ROW(args, "--seed", seed, ARGS_SEED, "N", "same seed, same request: same tokens")

/* Returns an exit status, having said what failed. */
int sampling_resolve(const struct sampling_args *args, const infer_model *model,
                     infer_sampling *out);

#endif
