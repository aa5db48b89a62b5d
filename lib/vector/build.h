/* Putting rows into the graph. */
#ifndef VECTOR_BUILD_H
#define VECTOR_BUILD_H

#include "vector/walk.h"

/* Memory of one thread that builds. */
struct vector_builder;

infer_status vector_builder_create(struct vector_builder **out, const struct base_alloc *a,
                                   const struct vector_shape *shape,
                                   const struct vector_coder *coder, int32_t degree,
                                   int32_t effort);
void vector_builder_destroy(struct vector_builder **builder);
uint64_t vector_builder_bytes(const struct vector_builder *builder);
/* Before rows below n_rows are put in. */
infer_status vector_builder_reserve(struct vector_builder *builder, int32_t n_rows);

/* The code of a row of the view. */
void vector_builder_code(struct vector_builder *builder, struct vector_graph *graph,
                         const struct vector_view *vectors, int32_t row);
/* Links a row of the view, whose code is there, with others that are linked. Several threads may do
 * so for different rows. */
void vector_builder_insert(struct vector_builder *builder, struct vector_graph *graph,
                           const struct vector_view *vectors, int32_t row);
/* Gives a row that is linked neighbours among the `n` rows given, and links back from these. */
void vector_builder_choose(struct vector_builder *builder, struct vector_graph *graph,
                           const struct vector_view *vectors, int32_t row, const int32_t *among,
                           int32_t n);

#endif
