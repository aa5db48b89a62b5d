/* Models of every kind whose weights go and come back between two tokens: the same logits to the
 * last bit, every byte given back, and as much taken again, however often. */
#include "arch_fixture.h"
#include "lora_fixture.h"
#include "support/engine.h"
#include "support/hf_folder.h"
#include "support/test_alloc.h"

#include <dirent.h>

#define N_ANSWER 6
#define N_ROUNDS 3
#define N_PROMPT 20

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define OTHER  "76543210fedcba9876543210fedcba9876543210"

/* Whose copies are of which kind: turned rows, stacked experts, unpacked blocks, vectors that
 * become F32; or nothing but a mapped file. */
static const struct model_case {
    const char *name, *dtype, *path;
    int has_copies;
} models[] = {
    {"tiny", NULL, TINY_MODEL, 0},
    {"llama", "F32", NULL, 1},
    {"llama", "BF16", NULL, 1},
    {"gemma3", "BF16", NULL, 1},
    {"gemma4-26b", "BF16", NULL, 1}, /* scales of experts */
    {"phi3", "F16", NULL, 1},
    {"deepseek-v2", "BF16", NULL, 1},
    {"gpt-oss", "F32", NULL, 1},
    {"mixtral", "BF16", NULL, 1},
    {"falcon-7b", "F32", NULL, 1},
    {"mamba2", "F32", NULL, 1},
    {"granite-hybrid", "BF16", NULL, 1},
    {"qwen3next", "BF16", NULL, 1},
};

/* One model with an allocator that counts. */
struct bench {
    struct test_alloc count;
    infer_allocator allocator;
    struct hf_folder folder;
    struct arch_fixture fixture;
    char path[512];
    infer_device *device;
    infer_model *model;
    infer_session *session;
};

static size_t count_entries(const char *folder)
{
    DIR *d = opendir(folder);
    size_t n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Mappings of files below `path`: how many, and how much of them is in memory. */
static size_t mappings(const char *path, uint64_t *resident)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[1024];
    size_t n = 0;
    int ours = 0;
    assert_non_null(f);
    *resident = 0;
    while (fgets(line, sizeof line, f)) {
        unsigned long long kilobytes;
        if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' ')) {
            ours = strstr(line, path) != NULL;
            n += (size_t)ours;
        } else if (ours && sscanf(line, "Rss: %llu", &kilobytes) == 1) {
            *resident += kilobytes << 10;
        }
    }
    fclose(f);
    return n;
}

static void bench_open(struct bench *b, const struct model_case *m)
{
    memset(b, 0, sizeof *b);
    test_alloc_init(&b->count);
    b->allocator = (infer_allocator){sizeof b->allocator, b->count.alloc.alloc, b->count.alloc.free,
                                     b->count.alloc.user_data};
    hf_folder_make(&b->folder);
    if (m->path) {
        size_t size;
        char *bytes = test_read(test_source(m->path), &size);
        hf_folder_bytes(&b->folder, "model.gguf", bytes, size);
        free(bytes);
        snprintf(b->path, sizeof b->path, "%s/model.gguf", b->folder.path);
    } else {
        arch_fixture_open(&b->fixture, m->name);
        arch_fixture_write(&b->fixture, b->folder.path, m->dtype);
        snprintf(b->path, sizeof b->path, "%s", b->folder.path);
    }
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    assert_ok(infer_device_create(&b->device, 0, &d));
    infer_model_options o = {
        .struct_size = sizeof o, .device = b->device, .allocator = &b->allocator};
    assert_ok(infer_model_load(&b->model, b->path, &o));
    /* The session's own memory is not counted. */
    infer_allocator plain = {sizeof plain, base_alloc_default.alloc, base_alloc_default.free, NULL};
    infer_kv_cache_options k = {
        .struct_size = sizeof k, .budget_bytes = 1 << 20, .allocator = &plain};
    infer_kv_cache *cache = NULL;
    assert_ok(infer_kv_cache_create(&cache, b->model, &k));
    infer_session_options s = {.struct_size = sizeof s,
                               .kv_cache = cache,
                               .allocator = &plain,
                               .max_requests = 4,
                               .step_tokens = 8};
    assert_ok(infer_session_create(&b->session, b->model, &s));
    infer_kv_cache_destroy(&cache);
}

static void bench_close(struct bench *b)
{
    uint64_t resident;
    infer_session_destroy(&b->session);
    infer_model_destroy(&b->model);
    infer_device_destroy(&b->device);
    assert_int_equal(b->count.live_bytes, 0);
    assert_int_equal(mappings(b->folder.path, &resident), 0);
    if (b->fixture.root)
        arch_fixture_close(&b->fixture);
    hf_folder_remove(&b->folder);
}

static infer_model_info info_of(const struct bench *b)
{
    infer_model_info info = {.struct_size = sizeof info};
    assert_ok(infer_model_get_info(b->model, &info));
    return info;
}

static infer_request *submit(struct bench *b, const infer_adapter *adapter)
{
    infer_token tokens[N_PROMPT];
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = tokens,
                               .n_tokens = N_PROMPT,
                               .max_tokens = N_ANSWER,
                               .ignore_eos = 1,
                               .want_logits = 1,
                               .adapter = adapter};
    infer_request *request = NULL;
    for (size_t i = 0; i < N_PROMPT; i++)
        tokens[i] = b->fixture.n_tokens ? b->fixture.tokens[i % b->fixture.n_tokens]
                                        : (infer_token)(300 + 7 * i);
    assert_ok(infer_session_submit(&request, b->session, &o));
    return request;
}

/* Logits of each token, as hashes; the model goes and comes after so many of them. */
static void collect(struct bench *b, infer_request *request, int when, uint64_t *hashes)
{
    infer_event event = {.struct_size = sizeof event};
    for (int i = 0; i < N_ANSWER; i++) {
        if (i == when) {
            assert_ok(infer_model_evict(b->model));
            assert_int_equal(infer_session_step(b->session), INFER_AGAIN);
            assert_ok(infer_model_restore(b->model, NULL));
        }
        assert_ok(infer_request_next(request, &event));
        hashes[i] = arch_hash(event.logits, event.n_logits * sizeof *event.logits);
    }
    infer_request_destroy(&request);
}

/* ------------------------------------------------------------------------------ memory */

struct memory {
    size_t live_bytes, n_mappings;
    uint64_t resident, mapped, private_bytes;
};

static struct memory memory_of(const struct bench *b)
{
    struct memory m = {.live_bytes = b->count.live_bytes};
    m.n_mappings = mappings(b->folder.path, &m.resident);
    m.mapped = info_of(b).mapped_bytes;
    m.private_bytes = info_of(b).private_bytes;
    return m;
}

static void check_memory(struct bench *b, const struct model_case *m)
{
    uint64_t hashes[N_ANSWER];
    struct memory full = memory_of(b), empty = {0}, back = {0};
    size_t n_files = count_entries("/proc/self/fd");
    uint64_t weights = info_of(b).weight_bytes;
    for (int round = 0; round < N_ROUNDS; round++) {
        assert_ok(infer_model_evict(b->model));
        struct memory now = memory_of(b);
        assert_int_equal(info_of(b).evicted, 1);
        assert_int_equal(count_entries("/proc/self/fd"), n_files);
        if (round) {
            assert_int_equal(now.live_bytes, empty.live_bytes);
            assert_int_equal(now.n_mappings, empty.n_mappings);
            assert_int_equal(now.mapped, empty.mapped);
        }
        empty = now;
        assert_ok(infer_model_restore(b->model, NULL));
        now = memory_of(b);
        if (round) {
            assert_int_equal(now.live_bytes, back.live_bytes);
            assert_int_equal(now.n_mappings, back.n_mappings);
            assert_int_equal(now.mapped, back.mapped);
        }
        back = now;
        collect(b, submit(b, NULL), -1, hashes);
    }
    print_message("  %s %s: weights %.1f KB; mapped %.1f -> %.1f, resident %.1f -> %.1f, heap "
                  "%.1f -> %.1f -> %.1f KB\n",
                  m->name, m->dtype ? m->dtype : "", (double)weights / 1e3,
                  (double)full.mapped / 1e3, (double)empty.mapped / 1e3,
                  (double)full.resident / 1e3, (double)empty.resident / 1e3,
                  (double)full.live_bytes / 1e3, (double)empty.live_bytes / 1e3,
                  (double)back.live_bytes / 1e3);
    assert_true(empty.live_bytes < full.live_bytes);
    assert_true(empty.private_bytes < full.private_bytes);
    assert_true(empty.resident <= empty.mapped);
    if (m->has_copies) { /* of a folder nothing is mapped but tensors */
        assert_int_equal(empty.mapped, 0);
        assert_int_equal(empty.n_mappings, 0);
        assert_int_equal(back.live_bytes, full.live_bytes);
    } else {
        assert_true(full.mapped - empty.mapped > weights - 65536);
        assert_true(back.live_bytes - full.live_bytes < 256); /* who owns the second mapping */
    }
}

static void test_model(void **state)
{
    const struct model_case *m = *state;
    struct bench b;
    uint64_t plain[N_ANSWER], hashes[N_ANSWER];
    bench_open(&b, m);
    collect(&b, submit(&b, NULL), -1, plain);
    for (int when = 0; when < N_ANSWER; when += 2) {
        collect(&b, submit(&b, NULL), when, hashes);
        assert_memory_equal(hashes, plain, sizeof plain);
    }
    check_memory(&b, m);
    bench_close(&b);
}

/* ---------------------------------------------------------------------------- failures */

/* The n-th allocation of a restoration fails: the model stays evicted, nothing is kept, and the
 * next call succeeds. */
static void fail_each(struct bench *b)
{
    uint64_t plain[N_ANSWER], hashes[N_ANSWER];
    collect(b, submit(b, NULL), 2, plain);
    infer_request *request = submit(b, NULL);
    assert_int_equal(infer_session_step(b->session), INFER_OK);
    assert_ok(infer_model_evict(b->model));
    size_t empty = b->count.live_bytes, n = 0;
    infer_status st;
    do {
        b->count.n_calls = 0;
        b->count.fail_at = ++n;
        st = infer_model_restore(b->model, NULL);
        b->count.fail_at = 0;
        if (st == INFER_OK)
            break;
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_int_equal(b->count.live_bytes, empty);
        assert_int_equal(info_of(b).evicted, 1);
        assert_int_equal(infer_session_step(b->session), INFER_AGAIN);
    } while (n < 100000);
    assert_true(n > 8 && n < 100000);
    print_message("  %zu allocations, each failed once\n", n - 1);
    collect(b, request, -1, hashes);
    assert_memory_equal(hashes, plain, sizeof plain);
}

static void test_failures(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, &models[0]);
    fail_each(&b);
    bench_close(&b);
    bench_open(&b, &models[2]);
    fail_each(&b);
    bench_close(&b);
}

/* ---------------------------------------------------------------------------- adapters */

/* Loaded before, and while the weights are away; used across both. */
static void test_adapters(void **state)
{
    (void)state;
    static const char *const modules[] = {"q_proj", "down_proj", NULL};
    const struct lora_spec spec = {.modules = modules, .seed = 3};
    const struct model_case m = {"llama", "F32", NULL, 1};
    struct bench b;
    uint64_t plain[N_ANSWER], with[N_ANSWER], hashes[N_ANSWER];
    infer_adapter *adapters[2] = {NULL, NULL};
    struct hf_folder f;
    bench_open(&b, &m);
    hf_folder_make(&f);
    lora_write_peft(&spec, &b.fixture, f.path);
    collect(&b, submit(&b, NULL), -1, plain);
    assert_ok(infer_adapter_load(&adapters[0], b.model, f.path, NULL));
    collect(&b, submit(&b, adapters[0]), -1, with);
    assert_memory_not_equal(plain, with, sizeof plain);
    collect(&b, submit(&b, adapters[0]), 3, hashes);
    assert_memory_equal(hashes, with, sizeof with);
    assert_ok(infer_model_evict(b.model));
    assert_ok(infer_adapter_load(&adapters[1], b.model, f.path, NULL));
    infer_request *request = submit(&b, adapters[1]);
    assert_ok(infer_model_restore(b.model, NULL));
    collect(&b, request, 1, hashes);
    assert_memory_equal(hashes, with, sizeof with);
    /* Another model comes, if only by name: the request keeps its adapter, which fits no other. */
    infer_model *other = NULL;
    request = submit(&b, adapters[0]);
    assert_ok(infer_model_load(&other, b.path, NULL));
    assert_ok(infer_session_swap_model(b.session, other, NULL));
    collect(&b, submit(&b, NULL), -1, hashes);
    assert_memory_equal(hashes, plain, sizeof plain);
    infer_request_options o = {
        .struct_size = sizeof o, .tokens = b.fixture.tokens, .n_tokens = 4, .adapter = adapters[0]};
    infer_request *refused = NULL;
    assert_int_equal(infer_session_submit(&refused, b.session, &o), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "was loaded for another model"));
    collect(&b, request, -1, hashes);
    assert_memory_equal(hashes, with, sizeof with);
    infer_model_destroy(&other);
    infer_adapter_destroy(&adapters[0]);
    infer_adapter_destroy(&adapters[1]);
    hf_folder_remove(&f);
    bench_close(&b);
}

/* A name of the hub means what it meant at load, whatever it means now. */
static void test_hub(void **state)
{
    (void)state;
    struct hf_folder hub;
    struct arch_fixture f;
    struct engine_answer answers[2];
    infer_model *model = NULL;
    hf_folder_make(&hub);
    hf_folder_subfolder(&hub, "models--org--repo");
    hf_folder_subfolder(&hub, "models--org--repo/refs");
    hf_folder_subfolder(&hub, "models--org--repo/snapshots");
    hf_folder_subfolder(&hub, "models--org--repo/snapshots/" COMMIT);
    hf_folder_text(&hub, "models--org--repo/refs/main", COMMIT);
    arch_fixture_open(&f, "llama");
    arch_fixture_write(&f, hf_folder_path(&hub, "models--org--repo/snapshots/" COMMIT), "F32");
    infer_model_options o = {.struct_size = sizeof o, .hub_dir = hub.path};
    assert_ok(infer_model_load(&model, "org/repo", &o));
    hf_folder_text(&hub, "models--org--repo/refs/main", OTHER);
    struct engine e = {.model = model};
    assert_ok(infer_session_create(&e.session, model, NULL));
    for (int i = 0; i < 2; i++) {
        engine_greedy(&e, f.tokens, 8, 4, &answers[i]);
        assert_ok(infer_model_evict(model));
        assert_ok(infer_model_restore(model, NULL));
    }
    assert_memory_equal(answers[0].logprobs, answers[1].logprobs, 4 * sizeof(float));
    engine_answer_free(&answers[0]);
    engine_answer_free(&answers[1]);
    engine_close(&e);
    arch_fixture_close(&f);
    hf_folder_remove(&hub);
}

int main(void)
{
    struct CMUnitTest tests[sizeof models / sizeof *models + 3];
    char names[sizeof models / sizeof *models][64];
    size_t n = 0;
    for (; n < sizeof models / sizeof *models; n++) {
        snprintf(names[n], sizeof names[n], "%s %s", models[n].name,
                 models[n].dtype ? models[n].dtype : "GGUF");
        tests[n] = (struct CMUnitTest){
            .name = names[n], .test_func = test_model, .initial_state = (void *)&models[n]};
    }
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_failures);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_adapters);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_hub);
    return _cmocka_run_group_tests("life of models", tests, n, NULL, NULL);
}
