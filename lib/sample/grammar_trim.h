/* An automaton without what never ends and without doubles. */
#ifndef SAMPLE_GRAMMAR_TRIM_H
#define SAMPLE_GRAMMAR_TRIM_H

#include "sample/grammar.h"

/* INVALID if no text matches. */
infer_status grammar_trim(struct infer_grammar *g);

/* Fills in the classes of bytes. */
void grammar_classify(struct infer_grammar *g);

#endif
