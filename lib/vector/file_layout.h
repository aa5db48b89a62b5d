/* Where the numbers of a file of sections stand (file.h has the table). */
#ifndef VECTOR_FILE_LAYOUT_H
#define VECTOR_FILE_LAYOUT_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "vector/file.h"

#define VECTOR_FILE_ALIGN 64

enum {
    HEAD_FORMAT = 8,
    HEAD_PRODUCER = 12,
    HEAD_BLOCK = 16,
    HEAD_SECTIONS = 20,
    HEAD_KIND = 24,
    HEAD_BYTES = 56,
    HEAD_TABLE = 64,
    HEAD_TABLE_BYTES = 72,
    HEAD_TABLE_SUM = 96,
    HEAD_SUM = 112
};

enum { ENTRY_NAME = 0, ENTRY_OFFSET = 32, ENTRY_BYTES = 40, ENTRY_UNUSED = 48 };

static const char vector_file_magic[8] = {'I', 'N', 'F', 'E', 'R', 'V', 'F', '\n'};

static inline void vector_file_put_sum(uint8_t *p, struct base_hash128 sum)
{
    base_put_u64(p, sum.low);
    base_put_u64(p + 8, sum.high);
}

static inline int vector_file_sum_is(const uint8_t *p, struct base_hash128 sum)
{
    return base_get_u64(p) == sum.low && base_get_u64(p + 8) == sum.high;
}

static inline infer_status vector_file_machine(const char *path)
{
    return base_is_little_endian()
               ? INFER_OK
               : base_error(INFER_ERR_UNSUPPORTED,
                            "%s: the files of an index are for little-endian machines", path);
}

#endif
