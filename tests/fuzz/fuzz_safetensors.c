/* Fuzz target of the safetensors reader: opens the bytes and reads everything that the result
 * offers. Beyond crashes it checks the memory and that the tensors cover the data exactly. */
#include "fuzz.h"
#include "support/test_alloc.h"

#include "format/safetensors.h"

static volatile uint8_t sink; /* keeps the reads alive */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct test_alloc t;
    struct safetensors_file *file = NULL;
    test_alloc_init(&t);
    t.limit_bytes = 128 * size + 256 * 1024;
    infer_status st = safetensors_open_memory(&file, &t.alloc, data, size);
    fuzz_check(st == INFER_OK || st == INFER_ERR_FORMAT || st == INFER_ERR_LIMIT);
    if (st == INFER_OK) {
        uint64_t sum = 0, header = 0;
        for (int i = 7; i >= 0; i--)
            header = header << 8 | data[i];
        for (size_t i = 0; i < safetensors_n_tensors(file); i++) {
            const struct safetensors_tensor *e = safetensors_at(file, i);
            fuzz_check(safetensors_find(file, e->name) == e);
            fuzz_check(e->data >= data + 8 + header && e->bytes <= size);
            fuzz_check(e->data <= data + size - e->bytes);
            for (uint64_t k = 0; k < e->bytes; k++)
                sink ^= e->data[k];
            sum += e->bytes;
        }
        fuzz_check(8 + header + sum == size);
    }
    safetensors_close(&file);
    fuzz_check(t.live_blocks == 0);
    return 0;
}
