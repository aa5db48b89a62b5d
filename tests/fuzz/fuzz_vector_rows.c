/* Vectors from files of others, as the infer command reads them: the first byte chooses the
 * format, the rest is the file. */
#include "memory_file.h"

#include "vector_in.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"fvecs", "bvecs", "ivecs", "npy", "jsonl"};
    struct vector_in in;
    struct vector_row row;
    int32_t dims = 0;
    int got = 0;
    uint64_t n = 0;
    if (!size)
        return 0;
    if (vector_in_open(&in, memory_file(data + 1, size - 1), formats[(data[0] - '0') % 5u]) == 0)
        while ((got = vector_in_next(&in, &row)) == 1) {
            fuzz_check(row.dims >= 1 && row.dims <= VECTOR_DIMS_MAX);
            fuzz_check(!dims || row.dims == dims);
            fuzz_check(row.id[0] && strlen(row.id) <= 255 && strlen(row.ns) <= 255);
            fuzz_check(!row.metadata || row.metadata[row.metadata_size - 1] == '}');
            for (int32_t i = 0; i < row.dims; i++)
                fuzz_check(isfinite(row.vector[i]));
            dims = row.dims;
            fuzz_check(++n <= size); /* a row is at least a byte */
        }
    else
        got = -1;
    fuzz_check((got < 0) == (in.error[0] != 0));
    fuzz_check(got < 0 || !in.n_rows || in.n_rows == n);
    vector_in_close(&in);
    return 0;
}
