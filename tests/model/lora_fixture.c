/* Adapters: numbers drawn from module names, files in both forms, float64 merging. */
#include "lora_fixture.h"

#include "support/gguf_builder.h"
#include "support/safetensors_writer.h"

#include <math.h>

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* One matrix of the model and its pair. */
struct pair {
    char module[256]; /* "model.layers.0.mlp.up_proj" */
    size_t n, k, rank;
    float *a, *b; /* [rank][k], [n][rank] */
    double scale;
};

/* Whether the weight gets a pair: then its sizes and numbers. GPT-2 stores matrices turned. */
static int pair_make(const struct lora_spec *s, const char *name, const json_t *shape, int turned,
                     struct pair *p)
{
    size_t length = strlen(name) - strlen(".weight");
    double alpha = s->alpha != 0 ? s->alpha : 8;
    int wanted = 0;
    if (!ends_with(name, ".weight") || json_array_size(shape) != 2)
        return 0;
    snprintf(p->module, sizeof p->module, "%.*s", (int)length, name);
    for (size_t i = 0; s->modules[i]; i++)
        wanted |= ends_with(p->module, s->modules[i]);
    if (!wanted)
        return 0;
    p->n = (size_t)json_integer_value(json_array_get(shape, turned ? 1 : 0));
    p->k = (size_t)json_integer_value(json_array_get(shape, turned ? 0 : 1));
    p->rank = s->rank ? (size_t)s->rank : 4;
    if (s->special && ends_with(p->module, s->special)) {
        p->rank = (size_t)s->special_rank;
        alpha = s->special_alpha;
    }
    p->scale = alpha / (s->rslora ? sqrt((double)p->rank) : (double)p->rank);
    p->a = malloc(p->rank * p->k * sizeof(float));
    p->b = malloc(p->n * p->rank * sizeof(float));
    uint64_t state = s->seed * 0x9e3779b97f4a7c15u + 1;
    for (const char *c = p->module; *c; c++)
        state = (state ^ (uint8_t)*c) * 0x100000001b3u;
    for (size_t i = 0; i < p->rank * p->k; i++)
        p->a[i] = 0.3f * test_randf(&state);
    for (size_t i = 0; i < p->n * p->rank; i++)
        p->b[i] = 0.3f * test_randf(&state);
    return 1;
}

static void pair_free(struct pair *p)
{
    free(p->a);
    free(p->b);
}

static int is_turned(const struct arch_fixture *f)
{
    const char *type =
        json_string_value(json_object_get(json_object_get(f->root, "config"), "model_type"));
    return strcmp(type, "gpt2") == 0;
}

/* ------------------------------------------------------------------- PEFT */

static void write_config(const struct lora_spec *s, const char *folder)
{
    char path[600];
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    fprintf(out,
            "{\"peft_type\":\"LORA\",\"bias\":\"none\",\"fan_in_fan_out\":false,%s"
            "\"r\":%d,\"lora_alpha\":%.17g,\"use_rslora\":%s",
            s->members ? s->members : "", s->rank ? s->rank : 4, s->alpha != 0 ? s->alpha : 8,
            s->rslora ? "true" : "false");
    const char *key = s->special_key ? s->special_key : s->special;
    if (key)
        fprintf(out, ",\"rank_pattern\":{\"%s\":%d},\"alpha_pattern\":{\"%s\":%g}", key,
                s->special_rank, key, s->special_alpha);
    fprintf(out, ",\"target_modules\":[");
    for (size_t i = 0; s->modules[i]; i++)
        fprintf(out, "%s\"%s\"", i ? "," : "", s->modules[i]);
    fprintf(out, "]}\n");
    assert_int_equal(fclose(out), 0);
}

void lora_write_peft(const struct lora_spec *s, const struct arch_fixture *f, const char *folder)
{
    struct safetensors_writer *w = safetensors_writer_new();
    const char *dtype = s->dtype ? s->dtype : "F32";
    char path[600], name[400];
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(f->root, "weights"), i, row)
    {
        struct pair p;
        if (!pair_make(s, json_string_value(json_array_get(row, 0)), json_array_get(row, 1),
                       is_turned(f), &p))
            continue;
        snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", p.module);
        safetensors_writer_floats(w, name, dtype, 2, (uint64_t[]){p.rank, p.k}, p.a);
        snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", p.module);
        safetensors_writer_floats(w, name, dtype, 2, (uint64_t[]){p.n, p.rank}, p.b);
        pair_free(&p);
    }
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    safetensors_writer_save(w, path);
    safetensors_writer_free(w);
    write_config(s, folder);
}

/* ------------------------------------------------------------------- GGUF */

static const struct {
    const char *module, *gguf;
} gguf_names[] = {
    {"self_attn.q_proj", "attn_q"},     {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},     {"self_attn.o_proj", "attn_output"},
    {"self_attn.qkv_proj", "attn_qkv"}, {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.gate_proj", "ffn_gate"},      {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

static void gguf_name(char *out, size_t size, const char *module)
{
    int layer = 0;
    if (strcmp(module, "lm_head") == 0) {
        snprintf(out, size, "output.weight");
        return;
    }
    assert_int_equal(sscanf(module, "model.layers.%d.", &layer), 1);
    for (size_t i = 0; i < sizeof gguf_names / sizeof *gguf_names; i++)
        if (ends_with(module, gguf_names[i].module)) {
            snprintf(out, size, "blk.%d.%s.weight", layer, gguf_names[i].gguf);
            return;
        }
    fail_msg("%s has no name in GGUF here", module);
}

/* Llama's queries and keys: reshape(heads, 2, half, rank), swap the middle two. */
static float *permute_rows(const float *b, size_t n, size_t rank, size_t heads)
{
    float *out = malloc(n * rank * sizeof *out);
    size_t half = n / heads / 2;
    for (size_t h = 0; h < heads; h++)
        for (size_t part = 0; part < 2; part++)
            for (size_t i = 0; i < half; i++)
                memcpy(out + ((h * half + i) * 2 + part) * rank,
                       b + ((h * 2 + part) * half + i) * rank, rank * sizeof *out);
    return out;
}

static size_t heads_of(const json_t *config, const char *type, const char *module)
{
    if (strcmp(type, "llama") != 0)
        return 0;
    if (ends_with(module, "q_proj"))
        return (size_t)json_integer_value(json_object_get(config, "num_attention_heads"));
    if (ends_with(module, "k_proj"))
        return (size_t)json_integer_value(json_object_get(config, "num_key_value_heads"));
    return 0;
}

void lora_write_gguf(const struct lora_spec *s, const struct arch_fixture *f, const char *path)
{
    const json_t *config = json_object_get(f->root, "config");
    const char *type = json_string_value(json_object_get(config, "model_type"));
    struct gguf_builder *g = gguf_builder_new();
    size_t i;
    json_t *row;
    gguf_builder_string(g, "general.architecture", strcmp(type, "gemma3_text") ? type : "gemma3");
    gguf_builder_string(g, "general.type", "adapter");
    gguf_builder_string(g, "general.name", "An adapter");
    gguf_builder_string(g, "adapter.type", "lora");
    gguf_builder_float(g, "adapter.lora.alpha", GGUF_F32, s->alpha != 0 ? s->alpha : 8);
    json_array_foreach(json_object_get(f->root, "weights"), i, row)
    {
        struct pair p;
        char matrix[200], name[220];
        if (!pair_make(s, json_string_value(json_array_get(row, 0)), json_array_get(row, 1), 0, &p))
            continue;
        size_t heads = heads_of(config, type, p.module);
        float *b = permute_rows(p.b, p.n, p.rank, heads ? heads : 1);
        gguf_name(matrix, sizeof matrix, p.module);
        snprintf(name, sizeof name, "%s.lora_a", matrix);
        gguf_builder_tensor(g, name, INFER_DTYPE_F32, 2, (uint64_t[]){p.k, p.rank}, p.a,
                            p.k * p.rank * sizeof(float));
        snprintf(name, sizeof name, "%s.lora_b", matrix);
        gguf_builder_tensor(g, name, INFER_DTYPE_F32, 2, (uint64_t[]){p.rank, p.n}, heads ? b : p.b,
                            p.n * p.rank * sizeof(float));
        free(b);
        pair_free(&p);
    }
    gguf_builder_write(g, path);
    gguf_builder_free(g);
}

/* ------------------------------------------------------------------ merge */

struct merging {
    const struct lora_spec *spec;
    double strength;
    int turned;
};

static void merge(const char *name, size_t n_dims, const uint64_t *dims, float *values,
                  void *user_data)
{
    const struct merging *m = user_data;
    json_t *shape = json_array();
    struct pair p;
    for (size_t d = 0; d < n_dims; d++)
        json_array_append_new(shape, json_integer((json_int_t)dims[d]));
    if (pair_make(m->spec, name, shape, m->turned, &p)) {
        for (size_t n = 0; n < p.n; n++)
            for (size_t k = 0; k < p.k; k++) {
                double sum = 0;
                for (size_t r = 0; r < p.rank; r++)
                    sum += (double)p.b[n * p.rank + r] * (double)p.a[r * p.k + k];
                float *w = m->turned ? &values[k * p.n + n] : &values[n * p.k + k];
                *w = (float)((double)*w + m->strength * p.scale * sum);
            }
        pair_free(&p);
    }
    json_decref(shape);
}

void lora_write_merged(const struct lora_spec *s, const struct arch_fixture *f, double strength,
                       const char *folder)
{
    struct merging m = {s, strength, is_turned(f)};
    arch_fixture_write_changed(f, folder, "F32", merge, &m);
}
