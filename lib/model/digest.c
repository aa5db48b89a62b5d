/* Digests of models. */
#include "model/digest.h"

#include "base/str.h"
#include "format/gguf.h"

#include <string.h>

/* Bytes looked at of a matrix, at so many places from its first to its last ones. */
#define SAMPLE_BYTES  64
#define SAMPLE_PLACES 4

static void add(struct base_hash128 *digest, const void *data, size_t size)
{
    const struct base_hash128 both[2] = {*digest, base_hash128_plain(data, size)};
    *digest = base_hash128_plain(both, sizeof both);
}

/* Who says what about the model, and how it is cut into files. */
static int is_about(const struct base_view key)
{
    static const char general[] = "general.", split[] = "split.";
    if (base_view_equal(key, "general.architecture"))
        return 0;
    return (key.size > sizeof general - 1 && memcmp(key.data, general, sizeof general - 1) == 0) ||
           (key.size > sizeof split - 1 && memcmp(key.data, split, sizeof split - 1) == 0);
}

static void add_matrix(struct base_hash128 *digest, const uint8_t *data, uint64_t bytes)
{
    if (!data || bytes <= (uint64_t)SAMPLE_BYTES * SAMPLE_PLACES) {
        add(digest, data ? data : (const uint8_t *)"", data ? (size_t)bytes : 0);
        return;
    }
    for (uint64_t i = 0; i < SAMPLE_PLACES; i++)
        add(digest, data + (bytes - SAMPLE_BYTES) / (SAMPLE_PLACES - 1) * i, SAMPLE_BYTES);
}

static void add_tensor(struct base_hash128 *digest, const struct gguf_tensor *t)
{
    const uint64_t shape[] = {(uint64_t)t->type, t->dims[0], t->dims[1],
                              t->dims[2],        t->dims[3], t->bytes};
    const uint64_t n = t->matrices ? t->dims[2] : 1;
    add(digest, t->name.data, t->name.size);
    add(digest, shape, sizeof shape);
    for (uint64_t i = 0; i < n; i++)
        add_matrix(digest, t->matrices ? t->matrices[i] : t->data, t->bytes / n);
}

struct base_hash128 model_digest_of(const struct gguf_file *file)
{
    struct base_hash128 digest = {0, 0};
    for (size_t i = 0; i < gguf_n_kv(file); i++) {
        const struct gguf_kv *kv = gguf_kv_at(file, i);
        if (is_about(kv->key))
            continue;
        add(&digest, kv->key.data, kv->key.size);
        add(&digest, kv->data, (size_t)kv->bytes);
    }
    for (size_t i = 0; i < gguf_n_tensors(file); i++)
        add_tensor(&digest, gguf_tensor_at(file, i));
    return digest;
}
