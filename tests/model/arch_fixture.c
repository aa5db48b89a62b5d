/* Fixtures: weights drawn from their names, folders, comparison. */
#include "arch_fixture.h"

#include "support/safetensors_writer.h"

#include <dirent.h>
#include <math.h>
#include <unistd.h>

static int is_fixture(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && strcmp(dot, ".json") == 0 && strcmp(entry->d_name, "tokenizer.json") != 0;
}

size_t arch_fixture_names(char ***out)
{
    struct dirent **entries;
    int n = scandir(test_source(ARCH_FOLDER), &entries, is_fixture, alphasort);
    if (n < 0) {
        perror(ARCH_FOLDER);
        exit(1);
    }
    *out = calloc((size_t)n + 1, sizeof **out);
    for (int i = 0; i < n; i++) {
        (*out)[i] = strndup(entries[i]->d_name, strlen(entries[i]->d_name) - strlen(".json"));
        free(entries[i]);
    }
    free(entries);
    return (size_t)n;
}

void arch_fixture_open(struct arch_fixture *f, const char *name)
{
    char relative[256];
    json_error_t error;
    memset(f, 0, sizeof *f);
    snprintf(relative, sizeof relative, ARCH_FOLDER "/%s.json", name);
    f->root = json_load_file(test_source(relative), 0, &error);
    if (!f->root)
        fail_msg("%s:%d: %s", relative, error.line, error.text);
    const json_t *tokens = json_object_get(f->root, "tokens");
    f->n_tokens = json_array_size(tokens);
    assert_in_range(f->n_tokens, 2, ARCH_MAX_TOKENS);
    for (size_t i = 0; i < f->n_tokens; i++)
        f->tokens[i] = (infer_token)json_integer_value(json_array_get(tokens, i));
    f->n_vocab = (size_t)json_integer_value(json_object_get(f->root, "n_vocab"));
    f->n_prompt = (size_t)json_integer_value(json_object_get(f->root, "n_prompt"));
    assert_in_range(f->n_prompt, 1, f->n_tokens);
    assert_int_equal(json_array_size(json_object_get(f->root, "rows")), f->n_tokens);
}

void arch_fixture_close(struct arch_fixture *f)
{
    json_decref(f->root);
}

uint64_t arch_hash(const void *data, size_t size)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

static float round_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* As draw() of arch/make.py, to the bit. */
static void draw(const char *name, float scale, float offset, float *out, size_t n)
{
    uint64_t state = arch_hash(name, strlen(name));
    for (size_t i = 0; i < n; i++) {
        float unit = (float)(test_rand(&state) >> 8) * 0x1p-23f - 1.0f;
        out[i] = round_bf16(unit * scale + offset);
    }
}

static void write_weights(const struct arch_fixture *f, const char *path, const char *dtype,
                          arch_change_fn *change, void *user_data)
{
    struct safetensors_writer *w = safetensors_writer_new();
    size_t i, d;
    json_t *row, *size;
    json_array_foreach(json_object_get(f->root, "weights"), i, row)
    {
        const json_t *shape = json_array_get(row, 1);
        uint64_t dims[8];
        size_t n = 1;
        assert_in_range(json_array_size(shape), 0, 8);
        json_array_foreach(shape, d, size)
        {
            dims[d] = (uint64_t)json_integer_value(size);
            n *= dims[d];
        }
        float *values = malloc(n * sizeof *values);
        const char *name = json_string_value(json_array_get(row, 0));
        draw(name, (float)json_number_value(json_array_get(row, 2)),
             (float)json_number_value(json_array_get(row, 3)), values, n);
        if (change)
            change(name, json_array_size(shape), dims, values, user_data);
        safetensors_writer_floats(w, name, dtype, json_array_size(shape), dims, values);
        free(values);
    }
    safetensors_writer_save(w, path);
    safetensors_writer_free(w);
}

static void copy_file(const char *from, const char *to)
{
    size_t size;
    char *text = test_read(from, &size);
    FILE *out = fopen(to, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
    free(text);
}

/* Published configurations have the word Infinity, which JSON lacks; fixtures quote it. */
static void write_config(const struct arch_fixture *f, const char *path)
{
    static const char word[] = "\"Infinity\"";
    char *text = json_dumps(json_object_get(f->root, "config"), JSON_INDENT(2)), *at;
    FILE *out = fopen(path, "wb");
    assert_non_null(text);
    assert_non_null(out);
    for (const char *rest = text;; rest = at + strlen(word)) {
        at = strstr(rest, word);
        fprintf(out, "%.*s", at ? (int)(at - rest) : -1, rest);
        if (!at)
            break;
        fprintf(out, "Infinity");
    }
    assert_int_equal(fclose(out), 0);
    free(text);
}

void arch_fixture_write(const struct arch_fixture *f, const char *folder, const char *dtype)
{
    arch_fixture_write_changed(f, folder, dtype, NULL, NULL);
}

void arch_fixture_write_changed(const struct arch_fixture *f, const char *folder, const char *dtype,
                                arch_change_fn *change, void *user_data)
{
    char path[512];
    snprintf(path, sizeof path, "%s/config.json", folder);
    write_config(f, path);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    copy_file(test_source(ARCH_FOLDER "/tokenizer.json"), path);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    write_weights(f, path, dtype, change, user_data);
}

void arch_folder_make(char *path, size_t size)
{
    snprintf(path, size, "%s/infer-model-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(path));
}

void arch_folder_remove(const char *path)
{
    static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors",
                                        "model.gguf", "snapshot"};
    char file[600];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(file, sizeof file, "%s/%s", path, files[i]);
        unlink(file);
    }
    assert_int_equal(rmdir(path), 0);
}

void arch_fixture_make(struct arch_fixture *f, const char *name, char *folder, size_t size)
{
    arch_fixture_open(f, name);
    arch_folder_make(folder, size);
    arch_fixture_write(f, folder, "F32");
}

void arch_fixture_remove(struct arch_fixture *f, const char *folder)
{
    arch_folder_remove(folder);
    arch_fixture_close(f);
}

void arch_model_path(const char *name, const char *data, char *path, size_t size)
{
    struct arch_fixture f;
    if (data) {
        snprintf(path, size, "%s", test_data(data));
        return;
    }
    arch_fixture_open(&f, name);
    arch_folder_make(path, size);
    arch_fixture_write(&f, path, "F32");
    arch_fixture_close(&f);
}

void arch_model_remove(const char *data, const char *path)
{
    if (!data)
        arch_folder_remove(path);
}

void arch_error_add(struct arch_error *e, const struct arch_fixture *f, size_t position,
                    const float *logits)
{
    const json_t *row = json_array_get(json_object_get(f->root, "rows"), position);
    const json_t *expected = json_object_get(row, "logits");
    size_t first = (size_t)json_integer_value(json_object_get(row, "first"));
    size_t stride = (size_t)json_integer_value(json_object_get(row, "stride"));
    assert_int_equal(json_integer_value(json_object_get(row, "position")), position);
    assert_in_range(stride, 1, f->n_vocab);
    size_t n = 0;
    for (size_t i = first; i < f->n_vocab; i += stride, n++) {
        double want = json_number_value(json_array_get(expected, n));
        double apart = fabs((double)logits[i] - want);
        apart = isnan(apart) ? INFINITY : apart;
        e->difference = fmax(e->difference, apart);
        e->largest = fmax(e->largest, fabs(want));
    }
    assert_int_equal(n, json_array_size(expected));
    e->numbers += n;
    e->rows++;
}

double arch_error_relative(const struct arch_error *e)
{
    if (e->numbers == 0 || !isfinite(e->difference))
        return INFINITY;
    return e->difference / e->largest;
}
