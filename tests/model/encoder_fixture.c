/* Tiny encoders. */
#include "encoder_fixture.h"

#include "model/convert.h"

#include <math.h>

json_t *encoder_fixture(const char *name)
{
    char path[256];
    json_error_t error;
    snprintf(path, sizeof path, ENCODER_FOLDER "/%s.json", name);
    json_t *root = json_load_file(test_source(path), 0, &error);
    if (!root)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return root;
}

void encoder_open(struct encoder_case *e, const char *path, const struct encoder_setup *setup)
{
    const struct device_config device = {.index = setup->device,
                                         .n_threads = setup->n_threads ? setup->n_threads : 1,
                                         .disabled_cpu_flags = setup->disabled_cpu_flags};
    *e = (struct encoder_case){0};
    assert_ok(device_create(&e->device, &device));
    const struct model_load_config load = {
        .alloc = &base_alloc_default, .device = e->device, .kv_type = -1, .pack = setup->pack};
    assert_ok(model_load(&e->model, path, &load));
    assert_true(model_is_encoder(e->model));
    assert_ok(model_encoder_open(&e->encoder, &base_alloc_default, e->model,
                                 setup->max_tokens ? setup->max_tokens : 512, setup->fast,
                                 setup->invariant));
}

void encoder_close(struct encoder_case *e)
{
    model_encoder_close(&e->encoder);
    model_release(&e->model);
    device_release(&e->device);
}

void encoder_convert(const char *from, const char *to, const char *type)
{
    struct encoder_case e;
    struct model_convert_result result;
    encoder_open(&e, from, &(const struct encoder_setup){.n_threads = 2, .pack = INFER_PACK_OFF});
    assert_ok(model_convert(&result, e.model->file, to,
                            &(const struct model_convert_config){
                                .alloc = &base_alloc_default, .device = e.device, .type = type}));
    encoder_close(&e);
}

void encoder_texts_make(struct encoder_texts *t, json_t *list)
{
    size_t n = json_array_size(list), total = 0, i, k;
    json_t *text, *value;
    assert_in_range(n, 1, ENCODER_TEXTS_MAX);
    *t = (struct encoder_texts){.list = list};
    json_array_foreach(list, i, text)
    {
        total += json_array_size(json_object_get(text, "tokens"));
        t->offsets[i + 1] = (int32_t)total;
    }
    t->tokens = calloc(total, sizeof *t->tokens);
    t->types = calloc(total, 1);
    json_array_foreach(list, i, text)
    {
        json_array_foreach(json_object_get(text, "tokens"), k, value)
        {
            const json_t *type = json_array_get(json_object_get(text, "types"), k);
            t->tokens[(size_t)t->offsets[i] + k] = (infer_token)json_integer_value(value);
            t->types[(size_t)t->offsets[i] + k] = (uint8_t)json_integer_value(type);
        }
    }
    t->batch = (struct model_encode_batch){t->tokens, t->types, t->offsets, (int32_t)n};
}

void encoder_texts_free(struct encoder_texts *t)
{
    free(t->tokens);
    free(t->types);
}

double encoder_difference(const struct encoder_texts *t, int32_t i, const char *key,
                          const float *got)
{
    const json_t *want = json_object_get(json_array_get(t->list, (size_t)i), key), *value;
    double apart = 0, largest = 0;
    size_t k;
    assert_true(json_array_size(want) > 0);
    json_array_foreach(want, k, value)
    {
        double difference = fabs((double)got[k] - json_number_value(value));
        apart = difference <= apart ? apart : isnan(difference) ? INFINITY : difference;
        largest = fmax(largest, fabs(json_number_value(value)));
    }
    return apart / largest;
}

double encoder_labels_difference(const struct encoder_case *e, const struct encoder_texts *t)
{
    const int32_t n = model_head_labels(e->model);
    float *out = calloc((size_t)t->batch.n_texts * (size_t)n, sizeof *out);
    double worst = 0;
    assert_ok(model_encoder_classify(e->encoder, &t->batch, out));
    for (int32_t i = 0; i < t->batch.n_texts; i++)
        worst = fmax(worst, encoder_difference(t, i, "logits", out + (size_t)i * (size_t)n));
    free(out);
    return worst;
}

double encoder_distance(const float *a, const float *b, int32_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int32_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return 1 - ab / sqrt(aa * bb);
}

void encoder_make(struct encoder_made *f, const char *name, const char *dtype,
                  arch_change_fn *change, void *user_data)
{
    *f = (struct encoder_made){.fixture = {.root = encoder_fixture(name)}};
    arch_folder_make(f->path, sizeof f->path);
    arch_fixture_write_changed(&f->fixture, f->path, dtype, change, user_data);
}

void encoder_made_remove(struct encoder_made *f)
{
    arch_folder_remove(f->path);
    json_decref(f->fixture.root);
}
