/* What a tokenizer is made of; for tokenizer.c, encode.c and token_tree.c. */
#ifndef TEXT_TOKENIZER_INTERNAL_H
#define TEXT_TOKENIZER_INTERNAL_H

#include "text/bpe.h"
#include "text/normalize.h"
#include "text/special.h"
#include "text/spm.h"
#include "text/unigram.h"
#include "text/wordpiece.h"

#include <pthread.h>

struct text_token_tree;

#define TEXT_MAX_ENDS 32

struct text_tokenizer {
    struct base_alloc alloc;
    struct text_vocab vocab;
    struct text_pieces pieces;
    struct text_special special;
    struct text_normalizer normalizer;
    union {
        struct text_bpe bpe;
        struct text_spm spm;
        struct text_wordpiece wordpiece;
        struct text_unigram unigram;
    } as; /* by vocab.kind */
    infer_token ends[TEXT_MAX_ENDS];
    int32_t n_ends;
    pthread_mutex_t tree_lock;
    struct text_token_tree *tree; /* made when first asked for */
};

#endif
