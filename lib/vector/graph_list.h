/* Lists of neighbours as they lie in a file: links of as many bits as the number of rows takes,
 * one behind the other, and each list on 8 bytes. */
#ifndef VECTOR_GRAPH_LIST_H
#define VECTOR_GRAPH_LIST_H

#include "base/types.h"

#include <string.h>

#define VECTOR_LIST_TAIL 8 /* bytes behind the last list: links are read as words */

struct vector_list_shape {
    int32_t bits;  /* of a link */
    int32_t most;  /* links of a list */
    uint32_t none; /* all bits: ends a list that is not full; no row has this number */
    size_t bytes;  /* of a list */
};

/* Lists of up to `degree` of n_rows rows. */
struct vector_list_shape vector_list_shape(int32_t n_rows, int32_t degree);
/* n links, `most` at most. */
void vector_list_pack(const struct vector_list_shape *shape, uint8_t *list, const uint32_t *links,
                      int32_t n);

/* A link that begins with bit number `bit` of a list. */
static inline uint32_t vector_list_get(const struct vector_list_shape *shape, const uint8_t *list,
                                       uint32_t bit)
{
    uint64_t word;

    memcpy(&word, list + bit / 8, sizeof(word));
    return (uint32_t)(word >> bit % 8) & shape->none;
}

#endif
