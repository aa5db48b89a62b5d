/**
 * @file embed.h
 * Texts as vectors, and how well texts answer a query: embedding models and
 * rerankers, encoders as well as decoders.
 */
#ifndef INFER_EMBED_H
#define INFER_EMBED_H

#include <infer/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How the vectors of a text's tokens become one. */
typedef int32_t infer_pooling;

enum {
    INFER_POOLING_DEFAULT = 0, /**< as the model's files say */
    INFER_POOLING_MEAN = 1,
    INFER_POOLING_CLS = 2,  /**< that of the first token */
    INFER_POOLING_LAST = 3, /**< that of the last token */
    INFER_POOLING_MAX = 4
};

/** Which of the model's prompts is put before a text. */
typedef int32_t infer_embed_as;

enum {
    INFER_EMBED_AS_IS = 0, /**< none */
    INFER_EMBED_AS_QUERY = 1,
    INFER_EMBED_AS_DOCUMENT = 2
};

typedef struct infer_embed_options {
    size_t struct_size;
    infer_embed_as as;
    const char *prompt; /**< put before each text instead of the model's; NULL: by `as` */
    int32_t dims;       /**< so many leading elements alone, normalised anew where the model
                             normalises, for models that are trained for that; 0: all */
    infer_pooling pooling;
    int32_t no_normalize; /**< 1: vectors keep their length, though the model's files ask for 1 */
    int32_t truncate; /**< 1: a text that is longer than n_context of infer_embedding_info, or of
                           the session where it names one, is cut at its end and counted; special
                           tokens and prompts stay. 0: INFER_ERR_LIMIT */
    uint64_t deadline_ns; /**< so long after the call begins it ends with INFER_ERR_LIMIT; 0: never
                           */
    /* As in infer_request_options: */
    const char *tenant;
    const char *cache_namespace; /**< encoders keep nothing of a text */
    int32_t priority;
    uint32_t reserved; /**< 0 */
    /* What infer_session_rerank() asks a decoder: */
    const char *rerank_template;        /**< NULL: what its file names so */
    const char *rerank_yes, *rerank_no; /**< the two answers, one token each; NULL: "yes", "no" */
} infer_embed_options;

/** The rerank_template of Qwen3-Reranker. */
#define INFER_RERANK_QWEN3                                                                         \
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "    \
    "and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n"   \
    "<|im_start|>user\n<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"        \
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

/** What a call did. */
typedef struct infer_embed_report {
    size_t struct_size;
    uint64_t n_tokens;     /**< of all texts, prompts and special tokens included, without what was
                                cut */
    uint64_t n_cut_texts;  /**< texts that were cut */
    uint64_t n_cut_tokens; /**< tokens that were cut off */
} infer_embed_report;

/** What a model's vectors are; for infer_index_stamp too. */
typedef struct infer_embedding_info {
    size_t struct_size;
    int32_t dims;
    int32_t n_context; /**< tokens that a text may have, special ones and prompt included */
    infer_pooling pooling;
    int32_t normalized;          /**< 1: vectors have length 1 */
    const char *pooling_name;    /**< such as "mean"; "" where the files name none; static */
    const char *query_prompt;    /**< borrowed from the model, or "" */
    const char *document_prompt; /**< borrowed from the model, or "" */
    const char *digest;          /**< of architecture, vocabulary and weights, in hex; borrowed */
    int32_t can_embed;           /**< 0: its files name no pooling: options must */
    int32_t can_rerank;          /**< 1: it has a head that scores pairs of texts, or its file names
                                      what to ask it; any decoder can be asked by rerank_template */
} infer_embedding_info;

/** Set info->struct_size first. @return INFER_OK or INFER_ERR_INVALID.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_model_get_embedding_info(infer_model *model,
                                                      infer_embedding_info *info);

/**
 * The vectors of `n` texts, computed together without padding, also with those of other calls and,
 * where the model is a decoder, with requests. A vector does not depend on what it is computed
 * with: INFER_NUMERICS_STABLE holds for it to the last bit on the CPU; on a GPU its last bits may
 * vary with what else is in the step, but for an encoder's with INFER_NUMERICS_INVARIANT.
 * @param vectors  receives n rows of options.dims or the model's dims floats; of no meaning after
 *                 an error
 * @param texts    UTF-8; control tokens in them are plain text
 * @param sizes    bytes of each text; NULL: up to their terminating 0
 * @param options  NULL: all defaults
 * @param report   NULL: not wanted; set report->struct_size first
 * @return INFER_OK; INFER_ERR_INVALID (nothing to compute, dims, a model that names no pooling);
 *         INFER_ERR_LIMIT (a text is longer than the context, by its index; the deadline);
 *         INFER_ERR_CANCELLED (the session was destroyed), or as infer_session_submit()
 * Thread-safety: safe; concurrent calls are computed together. Since: 0.1
 */
INFER_API infer_status infer_session_embed(float *vectors, infer_session *session,
                                           const char *const *texts, const size_t *sizes, size_t n,
                                           const infer_embed_options *options,
                                           infer_embed_report *report);

/**
 * How well each of `n` texts answers the query, by a model with a head for pairs, such as a
 * cross-encoder, or by a decoder that was trained to say yes or no, such as Qwen3-Reranker.
 *
 * A decoder reads the template (of the options, else the one that its GGUF file names "rerank"),
 * in which {query}, {document} and, where it is there, {instruction} stand for texts; control
 * tokens written in the template are such, those in texts are not. The score is the share of
 * rerank_yes in the softmax of the logits of both answers behind it.
 * @param scores   receives n numbers from 0 to 1, larger is better: the head's one output through
 *                 the sigmoid, or that share; of no meaning after an error
 * @param query    UTF-8, 0-terminated; it is never cut
 * @param options  truncate, deadline_ns, tenant, priority; for decoders those of reranking too,
 *                 cache_namespace, and `prompt` as the {instruction} (NULL: "Given a web search
 *                 query, retrieve relevant passages that answer the query"); the rest is of no
 *                 meaning here
 * @return as infer_session_embed(); INFER_ERR_UNSUPPORTED without such a head or template, or where
 *         an answer is not one token
 * Thread-safety: safe; concurrent calls are computed together. Since: 0.1
 */
INFER_API infer_status infer_session_rerank(float *scores, infer_session *session,
                                            const char *query, const char *const *texts,
                                            const size_t *sizes, size_t n,
                                            const infer_embed_options *options,
                                            infer_embed_report *report);

#ifdef __cplusplus
}
#endif

#endif
