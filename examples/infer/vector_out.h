/* Rows of vectors into the files that vector_in.h reads. Files are written beside and put in their
 * place when they are whole; only JSON lines have room for ids and metadata. */
#ifndef INFER_VECTOR_OUT_H
#define INFER_VECTOR_OUT_H

#include "json_out.h"
#include "vector_in.h"

struct vector_out {
    enum vector_format format;
    uint64_t n_rows;
    int32_t dims;    /* of the first row, and so of all */
    char error[768]; /* why the last call failed */
    /* its own: */
    const char *path;
    char *part;
    FILE *file;
    struct json_out json;
    unsigned char *raw;
};

/* `path` stays; "-" is stdout, and `name` is for vector_format_of(). Returns 0 or -1; closing is
 * due either way. */
int vector_out_open(struct vector_out *out, const char *path, const char *name);
int vector_out_row(struct vector_out *out, const struct vector_row *row);
/* With `keep` the file is finished: 0, or -1 and nothing is left. Without it nothing is left. */
int vector_out_close(struct vector_out *out, int keep);

#endif
