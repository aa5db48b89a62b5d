/* Fuzz target of Hugging Face folders: the input is one JSON document with the files of a folder
 * as members, "config", "generation", "tokenizer" and so on, and "tensors": rows of a name, a
 * type, a shape and the byte that fills it.
 *
 * Every folder becomes a model's directory, or an error that begins with its path. A directory is
 * read like a model's: its sizes, its layers, each byte of its tensors. Beyond crashes this checks
 * the memory and that nothing stays allocated. */
#include "fuzz.h"
#include "support/test_alloc.h"

#include "base/error.h"
#include "base/str.h"
#include "kernels/kernels.h"
#include "model/hf.h"
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DATA = 1 << 18, MAX_MEMORY = 64 << 20 };

static volatile uint8_t sink; /* keeps the reads alive */

/* Where the input has none. */
static const char usual_tokenizer[] =
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"ab\":4,\"<s>\":5,"
    "\"</s>\":6,\"<e>\":7},\"merges\":[\"a b\"]},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
    "\"add_prefix_space\":false,\"use_regex\":true}}";

static const struct base_json *parse(struct base_arena *arena, const char *text, size_t size)
{
    const struct base_json *root = NULL;
    return base_json_parse(&root, arena, text, size) == INFER_OK ? root : NULL;
}

/* A safetensors file that grows. */
struct image {
    struct base_str header;
    uint8_t *data;
    size_t n_bytes, n_tensors;
};

static int32_t find_type(struct base_view name)
{
    for (int32_t t = 0; t < SAFETENSORS_TYPES; t++)
        if (base_view_equal(name, safetensors_type_name(t)))
            return t;
    return -1;
}

/* The bytes of a shape; 0 for what is no tensor or too large. */
static size_t count_bytes(const struct base_json *shape, int32_t type)
{
    uint64_t n = 1;
    for (size_t i = 0; base_json_at(shape, i); i++) {
        int64_t dim = 0;
        base_json_i64(base_json_at(shape, i), &dim);
        if (dim < 1 || dim > MAX_DATA || i == SAFETENSORS_MAX_DIMS)
            return 0;
        n *= (uint64_t)dim;
        if (n > MAX_DATA)
            return 0;
    }
    return n * (uint64_t)safetensors_type_bits(type) / 8;
}

static void add_tensor(struct image *f, const struct base_json *row)
{
    struct base_view name, type_name;
    const struct base_json *shape = base_json_at(row, 2);
    int64_t fill = 0x3c; /* about one as half, small as a float, no infinity in any type */
    if (!base_json_string(base_json_at(row, 0), &name) ||
        !base_json_string(base_json_at(row, 1), &type_name))
        return;
    base_json_i64(base_json_at(row, 3), &fill);
    int32_t type = find_type(type_name);
    size_t bytes = type < 0 ? 0 : count_bytes(shape, type);
    if (!bytes || bytes > MAX_DATA - f->n_bytes)
        return;
    fuzz_check(base_str_appendf(&f->header, "%s\"", f->n_tensors++ ? "," : "") == INFER_OK);
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        int plain = c > 0x1f && c < 0x7f && c != '"' && c != '\\';
        fuzz_check(base_str_append(&f->header, plain ? &c : "_", 1) == INFER_OK);
    }
    fuzz_check(base_str_appendf(&f->header, "\":{\"dtype\":\"%s\",\"shape\":[",
                                safetensors_type_name(type)) == INFER_OK);
    for (size_t i = 0; base_json_at(shape, i); i++) {
        int64_t dim = 0;
        base_json_i64(base_json_at(shape, i), &dim);
        fuzz_check(base_str_appendf(&f->header, "%s%d", i ? "," : "", (int)dim) == INFER_OK);
    }
    fuzz_check(base_str_appendf(&f->header, "],\"data_offsets\":[%zu,%zu]}", f->n_bytes,
                                f->n_bytes + bytes) == INFER_OK);
    memset(f->data + f->n_bytes, (int)(fill & 255), bytes);
    f->n_bytes += bytes;
}

/* A block of exactly the file's size, so that a sanitizer sees what reads behind it. */
static uint8_t *write_image(const struct base_json *rows, size_t *size)
{
    struct image f = {.data = malloc(MAX_DATA)};
    fuzz_check(f.data);
    base_str_init(&f.header, &base_alloc_default, 0);
    fuzz_check(base_str_append(&f.header, "{", 1) == INFER_OK);
    for (size_t i = 0; base_json_at(rows, i); i++)
        add_tensor(&f, base_json_at(rows, i));
    fuzz_check(base_str_append(&f.header, "}", 1) == INFER_OK);
    while (f.header.size % 8)
        fuzz_check(base_str_append(&f.header, " ", 1) == INFER_OK);
    *size = 8 + f.header.size + f.n_bytes;
    uint8_t *out = malloc(*size);
    fuzz_check(out);
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)((uint64_t)f.header.size >> 8 * i);
    memcpy(out + 8, f.header.data, f.header.size);
    memcpy(out + 8 + f.header.size, f.data, f.n_bytes);
    base_str_release(&f.header);
    free(f.data);
    return out;
}

static void touch(const uint8_t *data, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        sink ^= data[i];
}

static void read_tensors(const struct gguf_file *file)
{
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        if (!t->matrices)
            touch(t->data, t->bytes);
        for (uint64_t m = 0; t->matrices && m < t->dims[2]; m++)
            touch(t->matrices[m], t->bytes / t->dims[2]);
    }
}

static void check_status(infer_status st)
{
    fuzz_check(st == INFER_OK || st == INFER_ERR_FORMAT || st == INFER_ERR_UNSUPPORTED ||
               st == INFER_ERR_LIMIT || st == INFER_ERR_NOT_FOUND);
}

/* As a model is loaded, without a device. */
static void read_model(const struct gguf_file *file, const struct base_alloc *a)
{
    static struct infer_kernels kernels;
    struct base_arena arena;
    struct base_view name = {"", 0};
    struct model_hparams hp;
    struct model_weights weights = {.layers = NULL};
    struct model_kv_group groups[MODEL_KV_GROUPS_MAX];
    int32_t n_groups = 0;
    const struct gguf_kv *tokens = gguf_find(file, "tokenizer.ggml.tokens");
    fuzz_check(gguf_get_string(file, "general.architecture", &name) == INFER_OK);
    const struct model_arch *arch = model_arch_find(name);
    fuzz_check(arch);
    kern_init_cpu(&kernels, 0);
    base_arena_init(&arena, a);
    infer_status st = model_hparams_read(&hp, &arena, arch, file, tokens ? (int32_t)tokens->n : 8);
    if (st == INFER_OK) {
        weights.layers = base_arena_new(&arena, (size_t)hp.n_layers, sizeof *weights.layers);
        fuzz_check(weights.layers);
        st = model_layers_plan(weights.layers, groups, &n_groups, arch, &hp);
    }
    if (st == INFER_OK)
        st = model_weights_bind(&weights, &arena, arch, &hp, weights.layers, file, &kernels);
    check_status(st);
    base_arena_release(&arena);
}

static void translate(struct hf_dir *dir, const struct base_alloc *a, uint32_t flags)
{
    struct gguf_file *file = NULL;
    infer_status st = model_hf_read(&file, a, dir, flags);
    check_status(st);
    fuzz_check((st == INFER_OK) == (file != NULL));
    if (st != INFER_OK) {
        fuzz_check(strncmp(base_error_text(), "memory: ", 8) == 0);
        return;
    }
    read_tensors(file);
    read_model(file, a);
    gguf_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const members[HF_JSONS] = {
        [HF_CONFIG] = "config",          [HF_GENERATION] = "generation",
        [HF_TOKENIZER] = "tokenizer",    [HF_TOKENIZER_CONFIG] = "tokenizer_config",
        [HF_SPECIAL_TOKENS] = "special", [HF_TEMPLATE_JSON] = "template",
        [HF_QUANT] = "hf_quant",
    };
    const struct base_json *json[HF_JSONS] = {NULL};
    struct base_arena arena;
    struct test_alloc t;
    struct hf_dir *dir;
    size_t n;
    base_arena_init(&arena, &base_alloc_default);
    const struct base_json *root = parse(&arena, (const char *)data, size);
    for (size_t i = 0; i < HF_JSONS; i++)
        if (members[i] && base_json_is(base_json_get(root, members[i]), BASE_JSON_OBJECT))
            json[i] = base_json_get(root, members[i]);
    if (!json[HF_TOKENIZER])
        json[HF_TOKENIZER] = parse(&arena, usual_tokenizer, sizeof usual_tokenizer - 1);
    if (json[HF_CONFIG]) {
        uint8_t *image = write_image(base_json_get(root, "tensors"), &n);
        test_alloc_init(&t);
        t.limit_bytes = MAX_MEMORY;
        infer_status st =
            hf_dir_open_memory(&dir, &t.alloc, json, (struct base_view){(const char *)image, n});
        check_status(st);
        if (st == INFER_OK) {
            translate(dir, &t.alloc, 0);
            translate(dir, &t.alloc, HF_DIR_NO_TENSORS | HF_DIR_NO_TOKENIZER);
        }
        hf_dir_close(&dir);
        fuzz_check(t.live_blocks == 0);
        free(image);
    }
    base_arena_release(&arena);
    return 0;
}
