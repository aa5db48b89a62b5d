/* Spaces on a GPU: copies of vectors that no longer change, and searches over these. What a search
 * finds on the card is what may be among the best by the bound on what the card's form of the
 * vectors loses (kernels/cuda/cuda_vector.h); the processor scores it as it is kept. So scores, and
 * of exact searches hits and the order of equals, are those without a card, bit by bit.
 *
 * Nothing depends on a card: what does not fit, what a card has no way for, and what it fails in is
 * searched without. */
#ifndef VECTOR_CARD_H
#define VECTOR_CARD_H

#include "base/thread.h"
#include "vector/space.h"

struct vector_card; /* of an index */
struct vector_copy; /* of a space */

/* Keeps a reference to the device; *out is NULL where that is no GPU. Spaces of fewer rows than
 * least_rows stay without a copy, and what is copied is searched there whether that pays or not; 0:
 * by what pays. */
infer_status vector_card_create(struct vector_card **out, const struct base_alloc *a,
                                struct infer_device *device, int32_t least_rows);
/* After the spaces. NULL-safe. */
void vector_card_destroy(struct vector_card **card);
/* Why the card is used no more, or NULL; as long as the card. */
const char *vector_card_failure(struct vector_card *card);

/* A place for a copy, without one. */
infer_status vector_copy_create(struct vector_copy **out, const struct base_alloc *a,
                                struct vector_card *card);
void vector_copy_destroy(struct vector_copy **copy); /* NULL-safe */
/* Bytes of the space's copy; 0: there is none. */
uint64_t vector_card_bytes(const struct vector_space *space);

/* Copies a space that no longer changes, where there is room. Searches do so too, of spaces that
 * were not copied before there was room. */
void vector_card_keep(const struct vector_space *space);

/* Does what the card does better, of checked searches over a space: is_done[i] is set to 1 of
 * these. */
infer_status vector_card_search(const struct vector_space *space, struct base_pool *pool,
                                const struct vector_search *searches, int32_t n,
                                struct vector_found *const *found, int32_t *n_found,
                                struct vector_how *how, uint8_t *is_done);

#endif
