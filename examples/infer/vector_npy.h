/* The head of a .npy file (NumPy enhancement proposal 1): a Python dictionary of type, order and
 * shape. */
#ifndef INFER_VECTOR_NPY_H
#define INFER_VECTOR_NPY_H

#include <stddef.h>
#include <stdint.h>

#define NPY_FIRST     10 /* bytes from which the length of the head can be told, and 2 more */
#define NPY_HEAD_MAX  65536
#define NPY_HEAD_MADE 128

enum npy_type { NPY_F8, NPY_F4, NPY_F2, NPY_I1, NPY_U1 };

struct vector_npy {
    enum npy_type type;
    int32_t element_bytes;
    uint64_t rows, columns;
};

/* From the first 12 bytes: how many there are in front of the dictionary and in it. Returns NULL,
 * or what is wrong. */
const char *npy_size(const unsigned char first[NPY_FIRST + 2], size_t *before, size_t *size);
/* The dictionary. Returns NULL, or what is wrong. */
const char *npy_read(struct vector_npy *out, const char *text, size_t size);
/* Element i of a row as float. */
float npy_element(enum npy_type type, const unsigned char *row, size_t i);
/* The whole head of a file of floats, version 1. */
void npy_write(unsigned char out[NPY_HEAD_MADE], uint64_t rows, uint64_t columns);

#endif
