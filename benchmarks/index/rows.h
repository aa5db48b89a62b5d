/* Files of vectors as make_vectors.py writes them: int32 rows, int32 dims, then float32. */
#ifndef BENCHMARKS_ROWS_H
#define BENCHMARKS_ROWS_H

#include <stdint.h>

struct rows {
    const float *data; /* mapped for good */
    int32_t n, dims;
};

/* 0, or -1 with the reason printed. */
int rows_map(struct rows *rows, const char *path);

static inline const float *rows_at(const struct rows *rows, int32_t i)
{
    return rows->data + (int64_t)i * rows->dims;
}

#endif
