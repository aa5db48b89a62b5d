/* Reranking by language models that say yes or no (Qwen3-Reranker): each text with its query in a
 * template, and how likely yes is beside no. */
#ifndef LIB_JUDGE_H
#define LIB_JUDGE_H

#include "engine/session.h"

struct judge_how {
    const char *template_text; /* with {query} and {document}, and {instruction} perhaps */
    const char *instruction, *query;
    const char *yes, *no; /* a token each */
    int32_t limit;        /* tokens that a text may have with all that belongs to it */
    int32_t truncate;
    struct request_config base; /* all but the tokens */
};

struct judge_report {
    uint64_t n_tokens, n_cut_texts, n_cut_tokens;
};

infer_status judge_run(float *scores, struct infer_session *s, const struct judge_how *how,
                       const char *const *texts, const size_t *sizes, size_t n,
                       struct judge_report *report);

#endif
