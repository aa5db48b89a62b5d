/* A safetensors file: 8 bytes of header size, JSON that names the tensors, their bytes. */
#include "support/safetensors_writer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct safetensors_writer {
    json_t *header;
    uint8_t *data;
    size_t size;
};

static void *need(void *p)
{
    if (!p) {
        fprintf(stderr, "safetensors_writer: out of memory\n");
        exit(1);
    }
    return p;
}

struct safetensors_writer *safetensors_writer_new(void)
{
    struct safetensors_writer *w = need(calloc(1, sizeof *w));
    w->header = need(json_object());
    json_object_set_new(w->header, "__metadata__", json_pack("{s:s}", "format", "pt"));
    return w;
}

void safetensors_writer_free(struct safetensors_writer *w)
{
    json_decref(w->header);
    free(w->data);
    free(w);
}

void safetensors_writer_add(struct safetensors_writer *w, const char *name, const char *dtype,
                            size_t n_dims, const uint64_t *dims, const void *data, size_t bytes)
{
    json_t *shape = need(json_array());
    for (size_t i = 0; i < n_dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)dims[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape,
                              "data_offsets", (json_int_t)w->size, (json_int_t)(w->size + bytes));
    json_object_set_new(w->header, name, need(entry));
    w->data = need(realloc(w->data, w->size + bytes + 1));
    memcpy(w->data + w->size, data, bytes);
    w->size += bytes;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Finite numbers of a magnitude below 65520; small ones become subnormal. */
static uint16_t to_f16(float x)
{
    uint32_t bits, sign;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits >= 0x38800000) { /* normal: exponent bias 127 becomes 15, 13 bits are rounded off */
        bits += 0xfff + (bits >> 13 & 1);
        return (uint16_t)(sign | (bits - 0x38000000) >> 13);
    }
    memcpy(&x, &bits, sizeof x);
    x += 0.5f; /* its last bit is 2^-24, as the last bit of a subnormal is */
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(sign | (bits - 0x3f000000));
}

void safetensors_writer_floats(struct safetensors_writer *w, const char *name, const char *dtype,
                               size_t n_dims, const uint64_t *dims, const float *values)
{
    size_t n = 1;
    for (size_t i = 0; i < n_dims; i++)
        n *= (size_t)dims[i];
    if (strcmp(dtype, "F32") == 0) {
        safetensors_writer_add(w, name, dtype, n_dims, dims, values, n * sizeof *values);
        return;
    }
    uint16_t *half = need(malloc(n * sizeof *half + 1));
    int brain = strcmp(dtype, "BF16") == 0;
    for (size_t i = 0; i < n; i++)
        half[i] = brain ? to_bf16(values[i]) : to_f16(values[i]);
    safetensors_writer_add(w, name, dtype, n_dims, dims, half, n * sizeof *half);
    free(half);
}

void safetensors_writer_save(const struct safetensors_writer *w, const char *path)
{
    char *text = need(json_dumps(w->header, JSON_COMPACT));
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    uint8_t head[8];
    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)((uint64_t)padded >> 8 * i);
    FILE *out = fopen(path, "wb");
    int ok = out && fwrite(head, 1, 8, out) == 8 && fprintf(out, "%s", text) == (int)length &&
             fprintf(out, "%*s", (int)(padded - length), "") == (int)(padded - length) &&
             fwrite(w->data, 1, w->size, out) == w->size;
    if (out && fclose(out) != 0)
        ok = 0;
    if (!ok) {
        perror(path);
        exit(1);
    }
    free(text);
}
