/* Ways of a step of one row through the layers of a model: kernel by kernel with or without what is
 * fused, and as one launch. All mean the same, and what cannot be one launch goes as it did. */
#include "support/test.h"

#include "base/error.h"
#include "engine/kv_cache.h"
#include "model/forward.h"
#include "model/gpu/run.h"

#include <math.h>

#define TINY_MODEL "examples/models/tiny-q8_0.gguf"

/* Sums in other orders, and what follows where a code of a quantised row falls to the other side.
 */
#define BOUND 1e-3

#define LENGTH 32

/* Multiprocessors of the emulated card; a real one has its own. */
void emulated_set_processors(int n) __attribute__((weak));

/* Set where kernels are emulated, which takes a thousand times as long: a part of the work. */
static int brief(void)
{
    return getenv("TEST_BRIEF") != NULL;
}

/* Steps that are walked, captured and replayed. */
static int32_t n_steps(void)
{
    return brief() ? 2 : 4;
}

struct ways_test {
    struct infer_device *device;
    struct infer_model *model;
    struct infer_kv_cache *kv;
    struct model_workspace ws;
    struct cache_table table;
    const int32_t *ids[CACHE_GROUPS_MAX];
    int32_t position;
};

static void open_all(struct ways_test *t, infer_dtype type)
{
    *t = (struct ways_test){0};
    const struct device_config device = {.index = 1};
    assert_ok(device_create(&t->device, &device));
    const struct model_load_config load = {
        .alloc = &base_alloc_default, .device = t->device, .kv_type = type};
    assert_ok(model_load(&t->model, test_source(TINY_MODEL), &load));
    const struct kv_cache_config kv = {.alloc = &base_alloc_default,
                                       .type = type,
                                       .block_tokens = KV_CACHE_BLOCK_TOKENS,
                                       .budget_bytes =
                                           kv_cache_budget_for(t->model, type, 1, LENGTH)};
    assert_ok(kv_cache_create(&t->kv, t->model, &kv));
    const struct model_workspace_config ws = {
        .max_rows = 1, .max_outputs = 1, .max_seqs = 1, .max_tokens = LENGTH};
    assert_ok(model_workspace_open(&t->ws, t->model, &ws));
    assert_ok(cache_table_init(&t->table, t->kv->blocks, LENGTH));
    assert_ok(cache_table_reserve(&t->table, LENGTH));
    for (int32_t g = 0; g < CACHE_GROUPS_MAX; g++)
        t->ids[g] = t->table.ids[g];
}

static void close_all(struct ways_test *t)
{
    cache_table_release(&t->table);
    model_workspace_close(&t->ws);
    kv_cache_release(&t->kv);
    model_release(&t->model);
    device_release(&t->device);
}

static int32_t first_of_highest(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

/* Logits of the last of n steps, which chooses its token too; caller frees. */
static float *logits_of(struct ways_test *t, uint32_t ways, int32_t n)
{
    size_t bytes = (size_t)t->model->hp.n_vocab * sizeof(float);
    int32_t row = 0;
    t->model->gpu->ways = ways;
    for (size_t i = 0; i < BASE_COUNT(t->ws.gpu->slots); i++)
        t->ws.gpu->slots[i].chosen[0] = -2; /* nobody's answer */
    for (t->position = 0; t->position < n; t->position++) {
        infer_token token = 300 + t->position * 17;
        const struct model_batch_seq seq = {t->ids, t->position, 0, 1};
        const struct model_batch batch = {.n_rows = 1,
                                          .n_seqs = 1,
                                          .tokens = &token,
                                          .seqs = &seq,
                                          .kv = t->kv->views,
                                          .chooses = t->position == n - 1};
        assert_ok(model_forward(&t->ws, &batch));
    }
    assert_ok(model_chosen(&t->ws, model_step(&t->ws)));
    const int32_t chosen = t->ws.chosen.tokens[0];
    assert_ok(model_head(&t->ws, &row, 1, NULL));
    assert_int_equal(chosen, first_of_highest(t->ws.logits, t->model->hp.n_vocab));
    float *logits = malloc(bytes);
    memcpy(logits, t->ws.logits, bytes);
    return logits;
}

static void check_near(const struct ways_test *t, const float *got, const float *want)
{
    double difference = 0, largest = 0;
    for (int32_t i = 0; i < t->model->hp.n_vocab; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        difference = d <= difference ? difference : isnan(d) ? INFINITY : d;
        largest = fmax(largest, fabs((double)want[i]));
    }
    if (!(difference <= BOUND * largest))
        fail_msg("logits are %g off, the largest is %g", difference, largest);
}

static int need_gpu(const char *test)
{
    if (device_count() > 1)
        return 1;
    print_message("skipped: no GPU for %s\n", test);
    skip();
    return 0;
}

static void all_ways_mean_the_same(void **state)
{
    static const infer_dtype types[] = {INFER_DTYPE_F16, INFER_DTYPE_BF16, INFER_DTYPE_Q8_0};
    (void)state;
    need_gpu(__func__);
    if (emulated_set_processors)
        emulated_set_processors(3);
    for (size_t i = 0; i < (brief() ? 1 : BASE_COUNT(types)); i++) {
        static const uint32_t ways[] = {GPU_WAY_MEGA | GPU_WAYS_FEW, GPU_WAY_MEGA, GPU_WAYS_DEFAULT,
                                        GPU_WAYS_DEFAULT | GPU_WAYS_FEW};
        struct ways_test t;
        open_all(&t, types[i]);
        float *plain = logits_of(&t, 0, n_steps());
        for (size_t w = 0; w < (brief() ? 1 : BASE_COUNT(ways)); w++) {
            float *got = logits_of(&t, ways[w], n_steps());
            check_near(&t, got, plain);
            assert_int_equal(t.ws.gpu->mega.launch.n_ops > 0, (ways[w] & GPU_WAY_MEGA) != 0);
            free(got);
        }
        free(plain);
        close_all(&t);
    }
}

/* The cache is of a type that attention of one launch does not read. */
static void what_cannot_be_one_launch_is_many(void **state)
{
    struct ways_test t;
    (void)state;
    need_gpu(__func__);
    open_all(&t, INFER_DTYPE_F32);
    if (brief()) {
        free(logits_of(&t, GPU_WAY_MEGA, 1));
        assert_int_equal(t.ws.gpu->mega.launch.n_ops, 0);
        close_all(&t);
        return;
    }
    float *usual = logits_of(&t, GPU_WAYS_DEFAULT, n_steps()),
          *got = logits_of(&t, GPU_WAY_MEGA | GPU_WAYS_DEFAULT, n_steps());
    assert_int_equal(t.ws.gpu->mega.launch.n_ops, 0);
    assert_memory_equal(got, usual, (size_t)t.model->hp.n_vocab * sizeof *got);
    free(got);
    free(usual);
    close_all(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ways_mean_the_same),
        cmocka_unit_test(what_cannot_be_one_launch_is_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
