/* Vectors from files of others, row by row: .fvecs, .bvecs and .ivecs (each row: its dimensions as
 * four bytes, then the elements as float, byte or int32), NumPy's .npy, and JSON lines of
 * {"id": "a", "ns": "b", "vector": [0.5, ...], "metadata": {...}}. What a file says is compared
 * with what it holds before it is believed. */
#ifndef INFER_VECTOR_IN_H
#define INFER_VECTOR_IN_H

#include "buffer.h"
#include "json_in.h"
#include "line_reader.h"
#include "vector_npy.h"

#include <stdint.h>
#include <stdio.h>

#define VECTOR_DIMS_MAX   8192
#define VECTOR_LINE_LIMIT ((size_t)8 << 20)
#define VECTOR_WHOLE_MAX  16777216 /* whole numbers up to here are floats without rounding */

enum vector_format {
    VECTOR_FORMAT_NONE,
    VECTOR_FVECS,
    VECTOR_BVECS,
    VECTOR_IVECS,
    VECTOR_NPY,
    VECTOR_JSONL
};

/* "fvecs" ..., or the ending of a path where `name` is NULL; "-" is JSON lines then. */
enum vector_format vector_format_of(const char *name, const char *path);

struct vector_row {
    const char *id; /* in files that have none, the number of the row from 0 on */
    const char *ns; /* "" where there is none */
    const float *vector;
    int32_t dims;
    const char *metadata; /* a JSON object, or NULL */
    size_t metadata_size;
};

struct vector_in {
    enum vector_format format;
    int32_t dims;    /* 0: not known before the first row */
    uint64_t n_rows; /* as the file says; 0: it does not */
    uint64_t number; /* rows that were read */
    char error[768]; /* why the last call failed */
    /* its own: */
    const char *path;
    FILE *file;
    uint64_t size, at; /* of a regular file, and how far it was read */
    int has_size;
    struct vector_npy npy;
    struct line_reader lines;
    struct buffer id, ns;
    unsigned char *raw;
    float *vector;
};

/* `path` stays; "-" is stdin, and `name` is for vector_format_of(). Returns 0 or -1; closing is due
 * either way. */
int vector_in_open(struct vector_in *in, const char *path, const char *name);
/* 1, 0 at the end, or -1. What the row points to is there until the next call. */
int vector_in_next(struct vector_in *in, struct vector_row *row);
void vector_in_close(struct vector_in *in);

#endif
