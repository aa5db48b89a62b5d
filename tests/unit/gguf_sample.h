/* A small GGUF file with a bit of everything, and how its tests look at failures. */
#ifndef TESTS_UNIT_GGUF_SAMPLE_H
#define TESTS_UNIT_GGUF_SAMPLE_H

#include "support/gguf_builder.h"
#include "support/test.h"

#include "base/str.h"
#include "format/gguf.h"

#include <math.h>

static const uint64_t one_dim[] = {8};

static inline void assert_says(const char *part)
{
    if (!strstr(test_error_text(), part))
        fail_msg("the sentence \"%s\" lacks \"%s\"", test_error_text(), part);
}

/* Finishes and frees the builder; the bytes must outlive the file. */
static inline struct gguf_file *open_built(struct gguf_builder *b, uint8_t **bytes)
{
    struct gguf_file *file = NULL;
    size_t size;
    *bytes = gguf_builder_finish(b, &size);
    gguf_builder_free(b);
    assert_ok(gguf_open_memory(&file, &base_alloc_default, *bytes, size, 0));
    return file;
}

/* A small file with a bit of everything. */
static inline struct gguf_builder *sample(void)
{
    static const char *const words[] = {"<s>", "", "two words"};
    static const float scores[] = {-1.5f, 0, INFINITY};
    static const int16_t small[] = {-32768, 0, 32767};
    static const uint64_t dims[] = {32, 2};
    static const float ramp[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct gguf_builder *b = gguf_builder_new();
    gguf_builder_string(b, "general.architecture", "llama");
    gguf_builder_int(b, "u8", GGUF_U8, 255);
    gguf_builder_int(b, "i8", GGUF_I8, -128);
    gguf_builder_int(b, "u16", GGUF_U16, 65535);
    gguf_builder_int(b, "i16", GGUF_I16, -32768);
    gguf_builder_int(b, "u32", GGUF_U32, 4294967295);
    gguf_builder_int(b, "i32", GGUF_I32, -2147483647 - 1);
    gguf_builder_int(b, "u64", GGUF_U64, INT64_MAX);
    gguf_builder_int(b, "u64.big", GGUF_U64, -1);
    gguf_builder_int(b, "i64", GGUF_I64, INT64_MIN);
    gguf_builder_float(b, "f32", GGUF_F32, 0.1f);
    gguf_builder_float(b, "f64", GGUF_F64, 1e-5);
    gguf_builder_float(b, "f64.big", GGUF_F64, 1e39);
    gguf_builder_float(b, "f32.nan", GGUF_F32, NAN);
    gguf_builder_int(b, "true", GGUF_BOOL, 1);
    gguf_builder_int(b, "false", GGUF_BOOL, 0);
    gguf_builder_string(b, "empty", "");
    gguf_builder_strings(b, "words", words, 3);
    gguf_builder_array(b, "scores", GGUF_F32, scores, 3);
    gguf_builder_array(b, "small", GGUF_I16, small, 3);
    gguf_builder_array(b, "none", GGUF_U64, NULL, 0);
    gguf_builder_strings(b, "no words", NULL, 0);
    gguf_builder_tensor(b, "a.weight", INFER_DTYPE_Q8_0, 2, dims, NULL, 68);
    gguf_builder_tensor(b, "b.bias", INFER_DTYPE_F32, 1, one_dim, ramp, sizeof ramp);
    return b;
}

/* Where the first tensor record's offset field lies: searched by its name. */
static inline uint8_t *offset_field(uint8_t *bytes, size_t size, const char *name, int n_dims)
{
    uint8_t *p = memmem(bytes, size, name, strlen(name));
    assert_non_null(p);
    return p + strlen(name) + 4 + 8 * n_dims + 4;
}

#endif
