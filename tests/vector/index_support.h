/* For tests of the index: folders that go away, and a simple model in memory of what an index
 * should hold. */
#ifndef TESTS_VECTOR_INDEX_SUPPORT_H
#define TESTS_VECTOR_INDEX_SUPPORT_H

#include "support/test.h"
#include "vector/hits.h"
#include "vector/index.h"

#define MODEL_DIMS   8
#define MODEL_SPACES 3
#define MODEL_IDS    150

/* A new empty folder; the caller removes it. */
char *index_folder(void);
void index_folder_remove(char *path);
void index_folder_copy(const char *from, const char *to); /* plain files */

/* What a record holds follows from its seed. */
struct model_record {
    uint64_t seed; /* 0: it is not there */
};

struct model {
    struct model_record records[MODEL_SPACES][MODEL_IDS];
    uint64_t random, next_seed;
};

struct base_view model_space(int space);
const char *model_id(int id, char out[32]);
void model_vector(uint64_t seed, float out[MODEL_DIMS]);
const char *model_metadata(uint64_t seed, char out[64]); /* NULL: none */
int model_kind(uint64_t seed);                           /* "kind" of its metadata; -1: none */

struct vector_index_config model_config(const struct base_alloc *a, const char *path);

/* Random writes to both (index NULL: to the model alone); fails the test where the index refuses.
 */
void model_upsert(struct model *m, struct infer_index *index, int n);
void model_delete(struct model *m, struct infer_index *index, int n);
void model_delete_kind(struct model *m, struct infer_index *index);
/* Everything that can be asked is as the model says. */
void model_check(struct model *m, struct infer_index *index);
/* Whether the index holds what the model does. */
int model_is(const struct model *m, struct infer_index *index);

#endif
