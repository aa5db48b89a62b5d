/* Records on their way into an index: collected, embedded where they are texts, and written
 * together. */
#ifndef INFER_INDEX_BATCH_H
#define INFER_INDEX_BATCH_H

#include "buffer.h"
#include "index_host.h"

#define INDEX_BATCH_MAX 1024

struct index_batch {
    struct index_host *h;
    size_t n;
    uint64_t n_written;
    /* its own: */
    struct buffer words; /* ids, namespaces, metadata and texts, 0-terminated */
    struct {
        size_t id, ns, metadata, text, metadata_size; /* where they begin in `words` */
    } at[INDEX_BATCH_MAX];
    float *vectors; /* n rows of `dims` */
    int32_t dims;
};

struct index_batch_row {
    const char *id, *ns;
    const float *vector; /* of `dims`; or NULL: that of the text */
    int32_t dims;
    const char *text;
    size_t text_size;
    const char *metadata; /* NULL: none */
    size_t metadata_size;
};

/* Each returns an exit status and has said on stderr what failed. The index is opened with the
 * first row, whose dimensions it takes where it is new. */
int index_batch_add(struct index_batch *batch, const struct index_batch_row *row);
int index_batch_flush(struct index_batch *batch);
void index_batch_free(struct index_batch *batch);

#endif
