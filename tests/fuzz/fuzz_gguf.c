/* Fuzz target of the GGUF reader: opens the bytes and reads everything that the
 * result offers. Beyond crashes it checks that memory stays within a fixed
 * multiple of the input and that every view lies inside it. */
#include "fuzz.h"
#include "support/test_alloc.h"

#include "base/str.h"
#include "format/gguf.h"

#include <stdlib.h>

struct input {
    const uint8_t *data;
    size_t size;
};

static volatile uint8_t sink; /* keeps the reads alive */

static void touch(const struct input *in, const void *data, uint64_t n)
{
    const uint8_t *p = data;
    fuzz_check(n <= in->size && p >= in->data && p <= in->data + in->size - n);
    for (uint64_t i = 0; i < n; i++)
        sink ^= p[i];
}

static void read_array(const struct input *in, const struct gguf_kv *kv)
{
    struct base_view *texts = calloc(kv->n + 1, sizeof *texts);
    float *floats = calloc(kv->n + 1, sizeof *floats);
    int32_t *ints = calloc(kv->n + 1, sizeof *ints);
    fuzz_check(texts && floats && ints && kv->n <= in->size);
    if (gguf_array_strings(kv, texts) == INFER_OK)
        for (uint64_t i = 0; i < kv->n; i++)
            touch(in, texts[i].data, texts[i].size);
    gguf_array_f32(kv, floats);
    gguf_array_i32(kv, ints);
    free(texts);
    free(floats);
    free(ints);
}

static void read_key(const struct input *in, const struct gguf_file *file, const struct gguf_kv *kv)
{
    char key[65536], name[64];
    struct base_view text;
    int64_t wide;
    int32_t narrow;
    float f;
    fuzz_check(kv->key.size < sizeof key);
    memcpy(key, kv->key.data, kv->key.size);
    key[kv->key.size] = 0;
    fuzz_check(gguf_find(file, key) == kv);
    touch(in, kv->data, kv->bytes);
    fuzz_check(strlen(gguf_kv_type_name(kv, name, sizeof name)) < sizeof name);
    int reads = (gguf_get_i64(file, key, &wide) == INFER_OK) +
                (gguf_get_f32(file, key, &f) == INFER_OK) +
                (gguf_get_bool(file, key, &narrow) == INFER_OK);
    if (gguf_get_i32(file, key, &narrow) == INFER_OK)
        fuzz_check(reads == 1 && wide == narrow);
    if (gguf_get_string(file, key, &text) == INFER_OK) {
        touch(in, text.data, text.size);
        reads++;
    }
    fuzz_check(reads <= 1); /* a value has one type */
    read_array(in, kv);
}

static void read_tensor(const struct input *in, const struct gguf_file *file,
                        const struct gguf_tensor *t, uint32_t flags)
{
    char name[GGUF_NAME_MAX + 1];
    fuzz_check(t->name.size >= 1 && t->name.size <= GGUF_NAME_MAX);
    memcpy(name, t->name.data, t->name.size);
    name[t->name.size] = 0;
    fuzz_check(gguf_find_tensor(file, name) == t);
    fuzz_check(t->n_dims >= 1 && t->n_dims <= GGUF_MAX_DIMS);
    for (int i = 0; i < GGUF_MAX_DIMS; i++)
        fuzz_check(t->dims[i] >= 1 && (i < t->n_dims || t->dims[i] == 1));
    fuzz_check(t->data || (flags & GGUF_OPEN_METADATA_ONLY));
    if (t->data) {
        fuzz_check(t->data == in->data + t->offset && t->offset % 8 == 0);
        touch(in, t->data, t->bytes);
    }
}

static void read_all(const struct input *in, uint32_t flags)
{
    struct gguf_file *file = NULL;
    struct test_alloc t;
    test_alloc_init(&t);
    t.limit_bytes = 12 * in->size + 4096;
    infer_status st = gguf_open_memory(&file, &t.alloc, in->data, in->size, flags);
    fuzz_check(st <= 0 && st != INFER_ERR_NO_MEMORY && st != INFER_ERR_INTERNAL);
    if (st == INFER_OK) {
        fuzz_check(gguf_bytes(file) == in->size);
        for (size_t i = 0; i < gguf_n_kv(file); i++)
            read_key(in, file, gguf_kv_at(file, i));
        for (size_t i = 0; i < gguf_n_tensors(file); i++)
            read_tensor(in, file, gguf_tensor_at(file, i), flags);
        gguf_close(&file);
    }
    fuzz_check(!file && t.live_blocks == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    read_all(&in, 0);
    read_all(&in, GGUF_OPEN_METADATA_ONLY);
    return 0;
}
