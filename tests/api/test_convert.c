/* Conversion through the public API: types, refusals, cancelling, resuming, failing allocations. */
#include "support/engine.h"
#include "support/gguf_builder.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static char folder[] = "/tmp/infer_convert.XXXXXX";
static char f32[80], out[80], part[96], state_file[112];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/infer_convert.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(f32, sizeof f32, "%s/f32.gguf", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    snprintf(part, sizeof part, "%s.part", out);
    snprintf(state_file, sizeof state_file, "%s.part.state", out);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(f32);
    unlink(out);
    unlink(part);
    unlink(state_file);
    return rmdir(folder);
}

static infer_convert_info convert(const char *from, const char *to, const char *type, int32_t pure)
{
    infer_convert_info info = {.struct_size = sizeof info};
    infer_convert_options options = {.struct_size = sizeof options, .type = type, .pure = pure};
    assert_ok(infer_convert(&info, from, to, &options));
    return info;
}

/* The bundled model with the weights that its blocks mean: where all other types start from. */
static void make_f32(void)
{
    convert(test_source(TINY_MODEL), f32, "f32", 0);
}

static infer_status try_convert(const char *from, infer_convert_options options)
{
    options.struct_size = sizeof options;
    return infer_convert(NULL, from, out, &options);
}

static void assert_says(const char *part_of_it)
{
    if (!strstr(infer_last_error(), part_of_it))
        fail_msg("the sentence \"%s\" lacks \"%s\"", infer_last_error(), part_of_it);
}

static const char *type_of(const infer_model *model, const char *name)
{
    for (size_t i = 0; i < infer_model_tensor_count(model); i++) {
        infer_tensor_info t = {.struct_size = sizeof t};
        assert_ok(infer_model_tensor_at(model, i, &t));
        if (strcmp(t.name, name) == 0)
            return t.type;
    }
    return "absent";
}

static const char *value_of(const infer_model *model, const char *key)
{
    for (size_t i = 0; i < infer_model_metadata_count(model); i++) {
        infer_metadata m = {.struct_size = sizeof m};
        assert_ok(infer_model_metadata_at(model, i, &m));
        if (strcmp(m.key, key) == 0)
            return m.value;
    }
    return "absent";
}

/* Five layers, embedding and output in one matrix. */
static void test_mixes(void **state)
{
    (void)state;
    static const struct {
        const char *type, *file_type, *embedding, *value0, *value2, *down4, *output, *gate;
    } cases[] = {
        {"F16", "1", "F16", "F16", "F16", "F16", "F16", "F16"},
        {"bf16", "32", "BF16", "BF16", "BF16", "BF16", "BF16", "BF16"},
        {"Q8_0", "7", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"},
        {"Q4_0", "2", "Q6_K", "Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q4_0"},
        {"Q6_K", "18", "Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K"},
        {"Q5_K_M", "17", "Q6_K", "Q5_K", "Q6_K", "Q6_K", "Q5_K", "Q5_K"},
        {"Q4_K_M", "15", "Q6_K", "Q4_K", "Q6_K", "Q6_K", "Q4_K", "Q4_K"},
        {"q4_k", "15", "Q6_K", "Q4_K", "Q6_K", "Q6_K", "Q4_K", "Q4_K"},
        {"Q4_K_S", "14", "Q6_K", "Q5_K", "Q5_K", "Q4_K", "Q4_K", "Q4_K"},
        {"Q3_K_L", "13", "Q6_K", "Q5_K", "Q5_K", "Q5_K", "Q5_K", "Q3_K"},
        {"Q3_K_M", "12", "Q6_K", "Q5_K", "Q4_K", "Q4_K", "Q4_K", "Q3_K"},
        {"Q3_K_S", "11", "Q6_K", "Q3_K", "Q3_K", "Q3_K", "Q3_K", "Q3_K"},
        {"Q2_K", "10", "Q6_K", "Q3_K", "Q3_K", "Q3_K", "Q3_K", "Q2_K"},
        {"IQ4_XS", "30", "Q6_K", "IQ4_XS", "IQ4_XS", "IQ4_XS", "IQ4_XS", "IQ4_XS"},
        {"MXFP4_MOE", "38", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"},
    };
    make_f32();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += TEST_SANITIZED ? 5 : 1) {
        infer_model *model = NULL;
        infer_convert_info info = convert(f32, out, cases[i].type, 0);
        assert_int_equal(info.n_tensors, 47);
        assert_int_equal(info.n_fallback, 0);
        assert_int_equal(info.n_resumed, 0);
        assert_ok(infer_model_load(&model, out, NULL));
        assert_string_equal(value_of(model, "general.file_type"), cases[i].file_type);
        assert_string_equal(value_of(model, "general.quantization_version"), "2");
        assert_string_equal(value_of(model, "general.architecture"), "llama");
        assert_string_equal(type_of(model, "token_embd.weight"), cases[i].embedding);
        assert_string_equal(type_of(model, "blk.0.attn_v.weight"), cases[i].value0);
        assert_string_equal(type_of(model, "blk.2.attn_v.weight"), cases[i].value2);
        assert_string_equal(type_of(model, "blk.4.ffn_down.weight"), cases[i].down4);
        assert_string_equal(type_of(model, "blk.3.attn_output.weight"), cases[i].output);
        assert_string_equal(type_of(model, "blk.1.ffn_gate.weight"), cases[i].gate);
        assert_string_equal(type_of(model, "blk.1.attn_norm.weight"), "F32");
        assert_string_equal(type_of(model, "output_norm.weight"), "F32");
        infer_model_destroy(&model);
    }
}

static void test_overrides(void **state)
{
    (void)state;
    infer_model *model = NULL;
    make_f32();
    convert(f32, out, "Q4_K_M", 1);
    assert_ok(infer_model_load(&model, out, NULL));
    assert_string_equal(type_of(model, "token_embd.weight"), "Q4_K");
    assert_string_equal(type_of(model, "blk.2.attn_v.weight"), "Q4_K");
    infer_model_destroy(&model);
    assert_ok(try_convert(
        f32,
        (infer_convert_options){.type = "Q4_0", .embedding_type = "q5_1", .output_type = "F16"}));
    assert_ok(infer_model_load(&model, out, NULL));
    assert_string_equal(type_of(model, "token_embd.weight"), "Q5_1");
    assert_string_equal(type_of(model, "blk.2.attn_v.weight"), "Q4_0");
    infer_model_destroy(&model);
}

/* What has the type already is copied byte for byte, whatever else is asked. */
static void test_keep(void **state)
{
    (void)state;
    size_t n, m;
    char *first, *second;
    convert(test_source(TINY_MODEL), out, NULL, 0);
    convert(test_source(TINY_MODEL), f32, "Q8_0", 0);
    first = test_read(out, &n);
    second = test_read(f32, &m);
    assert_int_equal(n, m);
    assert_memory_equal(first, second, n);
    free(first);
    free(second);
    infer_model *a = NULL, *b = NULL;
    assert_ok(infer_model_load(&a, test_source(TINY_MODEL), NULL));
    assert_ok(infer_model_load(&b, out, NULL));
    assert_int_equal(infer_model_tensor_count(a), infer_model_tensor_count(b));
    assert_int_equal(infer_model_metadata_count(a), infer_model_metadata_count(b));
    for (size_t i = 0; i < infer_model_tensor_count(a); i++) {
        infer_tensor_info t = {.struct_size = sizeof t}, u = t;
        assert_ok(infer_model_tensor_at(a, i, &t));
        assert_ok(infer_model_tensor_at(b, i, &u));
        assert_string_equal(t.name, u.name);
        assert_string_equal(t.type, u.type);
        assert_int_equal(t.bytes, u.bytes);
    }
    infer_model_destroy(&a);
    infer_model_destroy(&b);
}

static void test_refusals(void **state)
{
    (void)state;
    const char *tiny = test_source(TINY_MODEL);
    assert_int_equal(try_convert(tiny, (infer_convert_options){.type = "Q4_K_M"}),
                     INFER_ERR_INVALID);
    assert_says("\"token_embd.weight\" is Q8_0 already");
    assert_ok(try_convert(tiny, (infer_convert_options){.type = "Q4_K_M", .allow_requantize = 1}));
    unlink(out);
    assert_int_equal(try_convert(tiny, (infer_convert_options){.type = "Q9"}), INFER_ERR_INVALID);
    assert_says("\"Q9\" is not known (known: keep, F32,");
    assert_int_equal(try_convert(tiny, (infer_convert_options){.type = "iq2_xs"}),
                     INFER_ERR_UNSUPPORTED);
    assert_says("IQ2_XS files are read, but not written");
    assert_int_equal(try_convert(tiny, (infer_convert_options){.output_type = "Q9"}),
                     INFER_ERR_INVALID);
    assert_int_equal(try_convert("/nowhere.gguf", (infer_convert_options){0}), INFER_ERR_NOT_FOUND);
    assert_says("/nowhere.gguf");
    assert_int_equal(try_convert(test_source("COPYING"), (infer_convert_options){0}),
                     INFER_ERR_FORMAT);
    assert_int_equal(infer_convert(NULL, NULL, out, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_convert(NULL, tiny, NULL, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_convert(NULL, tiny, "/nowhere/out.gguf", NULL), INFER_ERR_IO);
    assert_says("/nowhere/out.gguf.part: cannot create");
    infer_convert_info info = {0};
    assert_int_equal(infer_convert(&info, tiny, out, NULL), INFER_ERR_INVALID);
    assert_int_not_equal(access(out, F_OK), 0);
    assert_int_not_equal(access(part, F_OK), 0);
}

/* Values that a type does not hold are named; types that hold them take them. */
static void test_values(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        float value;
        infer_status status;
    } cases[] = {
        {"F16", 65520, INFER_ERR_FORMAT},
        {"F16", 65519, INFER_OK},
        {"Q8_0", 70000, INFER_ERR_FORMAT},
        {"BF16", 70000, INFER_OK},
        {"Q4_0", NAN, INFER_ERR_FORMAT},
        {"BF16", INFINITY, INFER_ERR_FORMAT},
        {"MXFP4", 1e30f, INFER_OK},
        {"NVFP4", -2689, INFER_ERR_FORMAT},
        {NULL, NAN, INFER_OK},
    };
    static const uint64_t dims[] = {64, 64};
    static float weights[64 * 64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_builder *b = gguf_builder_new();
        weights[3 * 64 + 5] = cases[i].value;
        gguf_builder_string(b, "general.architecture", "none that can be run");
        gguf_builder_tensor(b, "some.weight", INFER_DTYPE_F32, 2, dims, weights, sizeof weights);
        gguf_builder_write(b, f32);
        gguf_builder_free(b);
        infer_status st = try_convert(f32, (infer_convert_options){.type = cases[i].type});
        if (st != cases[i].status)
            fail_msg("%g to %s gave %d (%s)", (double)cases[i].value, cases[i].type, (int)st,
                     infer_last_error());
        if (st != INFER_OK)
            assert_says("tensor \"some.weight\" has the value ");
        if (st != INFER_OK)
            assert_says("in row 3, column 5, which ");
        unlink(out);
    }
}

static int32_t cancel_at(double fraction, const char *stage, void *user_data)
{
    (void)stage;
    return fraction >= *(double *)user_data;
}

static void assert_same(const char *want, size_t want_size)
{
    size_t size;
    char *got = test_read(out, &size);
    assert_int_equal(size, want_size);
    assert_memory_equal(got, want, size);
    free(got);
    assert_int_not_equal(access(part, F_OK), 0);
    assert_int_not_equal(access(state_file, F_OK), 0);
}

/* Cancelled anywhere, then finished: the same bytes; with any number of threads. */
static void test_resumed(void **state)
{
    (void)state;
    const char *mixed = TEST_SANITIZED ? "Q8_0" : "Q4_K_S"; /* which searches for its scales */
    size_t size;
    make_f32();
    convert(f32, out, mixed, 0);
    char *want = test_read(out, &size);
    for (double at = 0; at < 1; at += 0.19) {
        infer_convert_options o = {.type = mixed, .progress = cancel_at};
        o.progress_user_data = &at;
        unlink(out);
        assert_int_equal(try_convert(f32, o), INFER_ERR_CANCELLED);
        assert_int_not_equal(access(out, F_OK), 0);
        assert_int_equal(access(part, F_OK), 0);
        infer_convert_info info = convert(f32, out, mixed, 0);
        assert_true(at < 0.2 || info.n_resumed > 0);
        assert_same(want, size);
    }
    double half = 0.5; /* other options, then none of it */
    infer_convert_options o = {.type = "Q4_0", .progress = cancel_at};
    o.progress_user_data = &half;
    assert_int_equal(try_convert(f32, o), INFER_ERR_CANCELLED);
    assert_int_equal(convert(f32, out, mixed, 0).n_resumed, 0);
    assert_same(want, size);
    o.type = mixed;
    assert_int_equal(try_convert(f32, o), INFER_ERR_CANCELLED);
    assert_ok(try_convert(f32, (infer_convert_options){.type = mixed, .disable_resume = 1}));
    assert_same(want, size);
    for (int32_t threads = 1; threads <= 5; threads += 2) {
        infer_device *device = NULL;
        infer_device_options d = {.struct_size = sizeof d, .n_threads = threads};
        assert_ok(infer_device_create(&device, 0, &d));
        assert_ok(try_convert(f32, (infer_convert_options){.type = mixed, .device = device}));
        infer_device_destroy(&device);
        assert_same(want, size);
    }
    free(want);
}

static void test_disk_full(void **state)
{
    (void)state;
    struct rlimit old, small;
    size_t size;
    make_f32();
    convert(f32, out, "Q8_0", 0);
    char *want = test_read(out, &size);
    unlink(out);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = size / 2;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    infer_status st = try_convert(f32, (infer_convert_options){.type = "Q8_0"});
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(st, INFER_ERR_IO);
    assert_says(part);
    assert_true(convert(f32, out, "Q8_0", 0).n_resumed > 0);
    assert_same(want, size);
    free(want);
}

struct counter {
    long n_calls, live, fail_at;
};

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct counter *c = user_data;
    void *p = NULL;
    if (++c->n_calls == c->fail_at)
        return NULL;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    c->live++;
    return p;
}

static void counting_free(void *ptr, void *user_data)
{
    ((struct counter *)user_data)->live--;
    free(ptr);
}

/* Each allocation refused in turn: NO_MEMORY, nothing leaks, and then it works. */
static void test_no_memory(void **state)
{
    (void)state;
    struct counter c = {0};
    infer_allocator allocator = {sizeof allocator, counting_alloc, counting_free, &c};
    infer_device *device = NULL;
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    infer_status st = INFER_ERR_NO_MEMORY;
    long n = 0;
    assert_ok(infer_device_create(&device, 0, &d));
    while (st != INFER_OK) {
        c = (struct counter){.fail_at = ++n};
        st = try_convert(test_source(TINY_MODEL),
                         (infer_convert_options){.allocator = &allocator, .device = device});
        if (st != INFER_OK)
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_int_equal(c.live, 0);
        assert_true(n < 1000);
    }
    assert_true(n > 20);
    infer_device_destroy(&device);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_mixes),  TEST(test_overrides), TEST(test_keep),      TEST(test_refusals),
        TEST(test_values), TEST(test_resumed),   TEST(test_disk_full), TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
