/* Speculative decoding (Leviathan et al., arXiv:2211.17192): tokens that are likely to come are
 * computed as rows of the same step, and kept as far as sampling gives the same ones. Which numbers
 * a position is drawn with depends on nothing but seed and position, so an answer is, to the last
 * bit, what it is without. Functions are the stepping thread's but for init and release. */
#ifndef ENGINE_DRAFT_H
#define ENGINE_DRAFT_H

#include "engine/session.h"

#define DRAFT_TOKENS     16
#define DRAFT_TOKENS_MAX 64

/* Resolves what the request asks for, and allocates. */
infer_status draft_init(struct infer_request *r, const struct request_config *config);
void draft_release(struct infer_request *r);

/* Adds drafts to the parts that decode, within what the picked requests leave of the step's tokens
 * and blocks. */
void draft_run(struct infer_session *s);

/* When all outputs of a step that computed for so long are handled. */
void draft_finish(struct infer_session *s, uint64_t ns);

/* It gives its blocks back. */
void draft_drop(struct infer_request *r);

#endif
