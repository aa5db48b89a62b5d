/* The stages of a forward pass: how many barriers they are, and that fused ones give the bits of
 * those they replace, with any number of threads. */
#include "base/thread.h"
#include "model/hidden.h"
#include "model/remainder.h"
#include "support/test.h"

#include <infer/model.h>

#define ROWS_MAX 64

struct pass {
    struct infer_device *device;
    struct infer_model *model;
    struct device_workspace scratch;
    struct model_workspace ws;
    struct model_kv_view kv;
    uint8_t *blocks;
};

static void pass_open_packed(struct pass *p, int32_t n_threads, infer_pack pack)
{
    const struct device_config device = {.n_threads = n_threads};
    *p = (struct pass){0};
    assert_ok(device_create(&p->device, &device));
    const struct model_load_config load = {
        .alloc = &base_alloc_default, .device = p->device, .kv_type = -1, .pack = pack};
    assert_ok(model_load(&p->model, test_source("examples/models/tiny-q8_0.gguf"), &load));
    size_t bytes = model_workspace_init(&p->ws, p->model, ROWS_MAX, 1, NULL);
    device_workspace_init(&p->scratch, p->device);
    assert_ok(device_workspace_reserve(&p->scratch, bytes));
    model_workspace_init(&p->ws, p->model, ROWS_MAX, 1, &p->scratch);

    const struct model_kv_group *g = &p->model->kv_groups[0];
    assert_int_equal(p->model->n_kv_groups, 1);
    size_t slots = (size_t)g->n_heads * ROWS_MAX;
    p->kv = (struct model_kv_view){.k_slot = kern_kv_bytes(INFER_DTYPE_F32, g->head_dim),
                                   .v_slot = kern_kv_bytes(INFER_DTYPE_F32, g->head_dim_v),
                                   .block_tokens = ROWS_MAX,
                                   .type = INFER_DTYPE_F32};
    p->kv.v_offset = slots * p->kv.k_slot;
    p->kv.layer_stride = slots * (p->kv.k_slot + p->kv.v_slot);
    p->kv.block_stride = p->kv.layer_stride * (size_t)g->n_layers;
    p->blocks = calloc(1, p->kv.block_stride);
    assert_non_null(p->blocks);
    p->kv.base = p->blocks;
}

static void pass_open(struct pass *p, int32_t n_threads)
{
    pass_open_packed(p, n_threads, INFER_PACK_AUTO);
}

static void pass_close(struct pass *p)
{
    free(p->blocks);
    device_workspace_release(&p->scratch);
    model_release(&p->model);
    device_release(&p->device);
}

/* Barriers of one step over rows at positions 0 and on. */
static uint64_t pass_run(struct pass *p, int32_t rows)
{
    infer_token tokens[ROWS_MAX];
    const int32_t block = 0, *table = &block;
    const struct model_batch_seq seq = {.blocks = &table, .n_rows = rows};
    for (int32_t i = 0; i < rows; i++)
        tokens[i] = (i * 7 + 5) % p->model->hp.n_vocab;
    const struct model_batch batch = {
        .n_rows = rows, .n_seqs = 1, .tokens = tokens, .seqs = &seq, .kv = &p->kv};
    uint64_t before = base_pool_barriers(p->device->pool);
    model_forward(&p->ws, &batch);
    return base_pool_barriers(p->device->pool) - before;
}

static void a_layer_is_few_barriers(void **state)
{
    (void)state;
    struct pass p;
    pass_open(&p, 2);
    uint64_t layers = (uint64_t)p.model->hp.n_layers;
    /* Products of q, k and v, attention, output, hidden rows, down; rows by the caller alone. */
    assert_true(pass_run(&p, 1) <= 5 * layers);
    /* Two norms and the storing of keys besides, and the embedding. */
    assert_true(pass_run(&p, ROWS_MAX) <= 8 * layers + 1);
    pass_close(&p);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 2, 5, 17, ROWS_MAX};
    struct pass one, other;
    pass_open(&one, 1);
    size_t row = (size_t)one.model->hp.n_embd * sizeof(float);
    for (int32_t n = 2; n <= 4; n++) {
        pass_open(&other, n);
        for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
            pass_run(&one, sizes[i]);
            pass_run(&other, sizes[i]);
            assert_memory_equal(one.ws.x, other.ws.x, (size_t)sizes[i] * row);
        }
        pass_close(&other);
    }
    pass_close(&one);
}

/* Random rows as a norm leaves them, quantised. */
static void fill_rows(struct pass *p, int32_t rows)
{
    uint64_t seed = 3;
    int32_t n = p->model->hp.n_embd;
    for (int32_t i = 0; i < rows * n; i++)
        p->ws.xn[i] = test_randf(&seed);
    stage_quantize(&p->ws, p->ws.xn, n, rows);
}

static void hidden_rows_are_those_of_single_stages(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 3, ROWS_MAX};
    for (int32_t n_threads = 1; n_threads <= 3; n_threads++) {
        struct pass p;
        pass_open(&p, n_threads);
        const struct model_layer *layer = &p.model->weights.layers[0];
        const struct model_weight *up = model_layer_weight(layer, MODEL_FFN_UP);
        const struct model_weight *gate = model_layer_weight(layer, MODEL_FFN_GATE);
        const struct stage_product products[] = {{up, NULL, p.ws.up, 0},
                                                 {gate, NULL, p.ws.gate, 0}};
        size_t floats = (size_t)ROWS_MAX * (size_t)up->n, q8 = kern_act_q8_bytes(up->n);
        float *y = malloc(floats * sizeof *y);
        uint8_t *y8 = calloc(ROWS_MAX, q8);
        assert_true(y && y8);
        for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
            int32_t rows = sizes[i];
            fill_rows(&p, rows);
            stage_products(&p.ws, products, 2, p.ws.xn, rows);
            stage_gate(&p.ws, stage_act(&p.ws), p.ws.gate, p.ws.gate, p.ws.up, up->n, rows, 1);
            memcpy(y, p.ws.gate, (size_t)rows * (size_t)up->n * sizeof *y);
            memcpy(y8, p.ws.q8, (size_t)rows * q8);
            fill_rows(&p, rows);
            model_hidden_dense(&p.ws, &products[0], &products[1], p.ws.xn, rows, 1);
            assert_memory_equal(p.ws.gate, y, (size_t)rows * (size_t)up->n * sizeof *y);
            for (int32_t r = 0; r < rows; r++) { /* what lies between rows is nobody's */
                size_t used = (size_t)up->n + (size_t)up->n / 32 * 4 + (size_t)up->n / 16 * 2;
                assert_memory_equal(p.ws.q8 + (size_t)r * q8, y8 + (size_t)r * q8, used);
            }
        }
        free(y);
        free(y8);
        pass_close(&p);
    }
}

/* Every third row has an element that is a hundred times the others. */
#define IS_COARSE(row) ((row) % 3 == 1)

static void fill_coarse_rows(struct pass *p)
{
    int32_t n = p->model->hp.n_embd;
    fill_rows(p, ROWS_MAX);
    for (int32_t i = 0; i < ROWS_MAX; i++)
        if (IS_COARSE(i))
            p->ws.xn[i * n + (i * 5) % n] = i % 2 ? 100 : -100;
    stage_quantize(&p->ws, p->ws.xn, n, ROWS_MAX);
}

/* The square of what a row of the product is off. */
static double error_of(const struct pass *p, const struct model_weight *w, const float *y,
                       int32_t row)
{
    float weights[1024];
    double error = 0;
    assert_true(w->k <= 1024);
    for (int32_t j = 0; j < w->n; j++) {
        double sum = 0;
        model_weight_row(&p->device->kernels, w, j, weights);
        for (int32_t i = 0; i < w->k; i++)
            sum += (double)weights[i] * (double)p->ws.xn[row * w->k + i];
        sum -= (double)y[(size_t)row * (size_t)w->n + (size_t)j];
        error += sum * sum;
    }
    return error;
}

static void check_remainders(struct pass *p, const struct model_weight *up,
                             const struct model_weight *gate)
{
    const struct stage_product products[] = {{up, NULL, p->ws.up, 0}, {gate, NULL, p->ws.gate, 0}};
    const size_t n = (size_t)up->n, bytes = (size_t)ROWS_MAX * n * sizeof(float);
    struct model_remainder *remainders = aligned_alloc(64, ROWS_MAX * sizeof *remainders);
    float *plain = malloc(bytes), *fused = malloc(bytes);
    assert_true(remainders && plain && fused);
    fill_coarse_rows(p);
    stage_products(&p->ws, products, 2, p->ws.xn, ROWS_MAX);
    memcpy(plain, p->ws.up, bytes);
    p->ws.remainders = remainders;
    fill_coarse_rows(p);
    model_hidden_dense(&p->ws, &products[0], &products[1], p->ws.xn, ROWS_MAX, 1);
    assert_null(p->ws.remainders_of); /* what is quantised now has none */
    memcpy(fused, p->ws.gate, bytes);
    fill_coarse_rows(p);
    stage_products(&p->ws, products, 2, p->ws.xn, ROWS_MAX);
    for (int32_t i = 0; i < ROWS_MAX; i++) {
        const double before = error_of(p, up, plain, i), after = error_of(p, up, p->ws.up, i);
        assert_int_equal(remainders[i].block >= 0, IS_COARSE(i));
        if (IS_COARSE(i))
            assert_true(after < before / 16);
        else
            assert_memory_equal(p->ws.up + (size_t)i * n, plain + (size_t)i * n, n * sizeof *plain);
    }
    stage_gate(&p->ws, stage_act(&p->ws), p->ws.gate, p->ws.gate, p->ws.up, up->n, ROWS_MAX, 0);
    assert_memory_equal(p->ws.gate, fused, bytes);
    free(remainders);
    free(plain);
    free(fused);
}

/* What quantising took from a row's coarsest block is multiplied too, and rows without such a
 * block are what they were. */
static void remainders_are_added(void **state)
{
    static const infer_pack packs[] = {INFER_PACK_OFF, INFER_PACK_ON};
    (void)state;
    for (int32_t i = 0; i < 4; i++) {
        struct pass p;
        pass_open_packed(&p, 1 + i / 2, packs[i % 2]);
        const struct model_layer *layer = &p.model->weights.layers[0];
        check_remainders(&p, model_layer_weight(layer, MODEL_FFN_UP),
                         model_layer_weight(layer, MODEL_FFN_GATE));
        pass_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_is_few_barriers),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(hidden_rows_are_those_of_single_stages),
        cmocka_unit_test(remainders_are_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
