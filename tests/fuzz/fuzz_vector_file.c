/* A file of sections: the input as one, once as it is and once with its checksums put right, as the
 * partitions of a few rows, and as the manifest of an index. */
#include "memory_file.h"

#include "vector/file_layout.h"
#include "vector/manifest.h"
#include "vector/partitions.h"

#include <stdlib.h>
#include <string.h>

/* Checksums of all that lies within the input. */
static void repair(uint8_t *data, size_t size)
{
    if (size < VECTOR_FILE_HEADER)
        return;
    const uint64_t table = base_get_u64(data + HEAD_TABLE);
    const uint64_t bytes = base_get_u64(data + HEAD_TABLE_BYTES);
    const uint64_t n = base_get_u32(data + HEAD_SECTIONS);
    if (table <= size && bytes <= size - table && n <= bytes / VECTOR_FILE_ENTRY) {
        uint64_t sums = n * VECTOR_FILE_ENTRY;
        for (uint64_t i = 0; i < n; i++) {
            const uint8_t *entry = data + table + i * VECTOR_FILE_ENTRY;
            const uint64_t at = base_get_u64(entry + ENTRY_OFFSET);
            const uint64_t length = base_get_u64(entry + ENTRY_BYTES);
            for (uint64_t k = 0;
                 at <= size && length <= size - at && k < length && sums + 8 <= bytes;
                 k += VECTOR_FILE_BLOCK, sums += 8)
                base_put_u64(data + table + sums,
                             base_hash64(data + at + k,
                                         BASE_MIN(length - k, (uint64_t)VECTOR_FILE_BLOCK), 0));
        }
        vector_file_put_sum(data + HEAD_TABLE_SUM, base_hash128_plain(data + table, bytes));
    }
    vector_file_put_sum(data + HEAD_SUM, base_hash128_plain(data, HEAD_SUM));
}

#define ROWS 5 /* of the partitions in the corpus */
#define SLOT 64

/* They cover the rows, and all of it can be read; which rows they name is looked at by who reads.
 */
static void look_at_partitions(const struct vector_file *file)
{
    struct vector_partitions *p = NULL;
    uint32_t next = 0;
    infer_status st = vector_partitions_open(&p, &base_alloc_default, file, ROWS, SLOT);
    fuzz_check(st == INFER_OK || (st == INFER_ERR_FORMAT && !p));
    for (int32_t i = 0; p && i < p->n; i++) {
        fuzz_check(p->begin[i] == next && p->begin[i + 1] >= next);
        for (; next < p->begin[i + 1]; next++) {
            volatile uint32_t row = p->rows[next];
            BASE_UNUSED(row);
        }
        fuzz_check(p->radius[i] >= 0 && p->codes[(size_t)i * SLOT] <= 255);
    }
    fuzz_check(!p || next == ROWS);
    vector_partitions_destroy(&p);
}

static void look(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"numbers", "segments", "texts", "a", "b"};
    const char *path = memory_file(data, size);
    char kind[VECTOR_FILE_NAME_MAX + 1] = {0};
    struct vector_file *file = NULL;
    struct vector_manifest_held manifest;
    if (size >= HEAD_BYTES)
        memcpy(kind, data + HEAD_KIND, sizeof kind - 1);
    if (vector_file_open(&file, &base_alloc_default, path, kind, 0) == INFER_OK) {
        for (size_t i = 0; i < BASE_COUNT(names); i++) {
            const uint8_t *found;
            const void *array;
            size_t n;
            if (vector_file_find(file, names[i], &found, &n) != INFER_OK)
                continue;
            fuzz_check((uintptr_t)found % VECTOR_FILE_ALIGN == 0 && n <= size);
            fuzz_check(memmem(data, size, found, n) != NULL); /* reads each byte */
            fuzz_check(vector_file_array(file, names[i], &array, n, 1) == INFER_OK);
        }
        look_at_partitions(file);
        infer_status st = vector_file_verify(file);
        vector_file_close(&file);
        fuzz_check(vector_file_open(&file, &base_alloc_default, path, kind, 1) == st);
        vector_file_close(&file);
    }
    if (vector_manifest_read(&manifest, &base_alloc_default, path) == INFER_OK) {
        fuzz_check(manifest.is.traits.dims >= 1 && manifest.is.traits.dims <= 8192);
        for (int32_t i = 0; i < manifest.is.n_segments; i++)
            fuzz_check(manifest.is.segments[i] < manifest.is.next_file);
        for (int32_t i = 0; i < manifest.is.n_fields; i++)
            fuzz_check(strlen(manifest.is.fields[i]) <= size);
        vector_manifest_release(&manifest);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(size ? size : 1, 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    look(copy, size);
    repair(copy, size);
    look(copy, size);
    free(copy);
    return 0;
}
