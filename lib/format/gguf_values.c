/* Typed reads of GGUF metadata: what fits is converted, what does not is named. */
#include "format/gguf_internal.h"

#include "base/error.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    uint32_t bytes; /* 0: not fixed */
} value_types[] = {
    [GGUF_U8] = {"u8", 1},     [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},   [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},   [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"str", 0},
    [GGUF_ARRAY] = {"arr", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

uint32_t gguf_value_bytes(uint32_t type)
{
    return type < BASE_COUNT(value_types) ? value_types[type].bytes : 0;
}

const char *gguf_kv_type_name(const struct gguf_kv *kv, char *buffer, size_t size)
{
    if (kv->type == GGUF_ARRAY)
        snprintf(buffer, size, "arr[%s,%" PRIu64 "]", value_types[kv->element_type].name, kv->n);
    else
        snprintf(buffer, size, "%s", value_types[kv->type].name);
    return buffer;
}

static infer_status wrong_type(const struct gguf_kv *kv, const char *expected)
{
    char name[48];
    return base_error(INFER_ERR_FORMAT, "key \"%.*s\" has the type %s, %s was expected",
                      GGUF_SHOW(kv->key), gguf_kv_type_name(kv, name, sizeof name), expected);
}

static infer_status absent(const char *key)
{
    return base_error(INFER_ERR_NOT_FOUND, "key \"%s\" is absent", key);
}

static int is_integer(int32_t type)
{
    switch (type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_U16:
    case GGUF_I16:
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_U64:
    case GGUF_I64:
        return 1;
    default:
        return 0;
    }
}

static uint16_t le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* One integer of a type for which is_integer() holds; false if it exceeds int64. */
static int read_integer(int32_t type, const uint8_t *p, int64_t *out)
{
    switch (type) {
    case GGUF_U8:
        *out = p[0];
        break;
    case GGUF_I8:
        *out = (int8_t)p[0];
        break;
    case GGUF_U16:
        *out = le16(p);
        break;
    case GGUF_I16:
        *out = (int16_t)le16(p);
        break;
    case GGUF_U32:
        *out = gguf_le32(p);
        break;
    case GGUF_I32:
        *out = (int32_t)gguf_le32(p);
        break;
    case GGUF_I64:
        *out = (int64_t)gguf_le64(p);
        break;
    default: /* GGUF_U64 */
        if (gguf_le64(p) > INT64_MAX)
            return 0;
        *out = (int64_t)gguf_le64(p);
    }
    return 1;
}

static double read_float(int32_t type, const uint8_t *p)
{
    float f;
    double d;
    if (type == GGUF_F32) {
        uint32_t bits = gguf_le32(p);
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    uint64_t bits = gguf_le64(p);
    memcpy(&d, &bits, sizeof d);
    return d;
}

static struct base_view read_string(const uint8_t *p)
{
    return (struct base_view){(const char *)p + 8, (size_t)gguf_le64(p)};
}

infer_status gguf_kv_i64(const struct gguf_kv *kv, int64_t *out)
{
    if (!is_integer(kv->type))
        return wrong_type(kv, "an integer");
    if (!read_integer(kv->type, kv->data, out))
        return base_error(INFER_ERR_FORMAT, "key \"%.*s\" is %" PRIu64 ", at most 2^63 - 1 fits",
                          GGUF_SHOW(kv->key), gguf_le64(kv->data));
    return INFER_OK;
}

infer_status gguf_get_i64(const struct gguf_file *file, const char *key, int64_t *out)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    return kv ? gguf_kv_i64(kv, out) : absent(key);
}

infer_status gguf_get_i32(const struct gguf_file *file, const char *key, int32_t *out)
{
    int64_t wide;
    infer_status st = gguf_get_i64(file, key, &wide);
    if (st != INFER_OK)
        return st;
    if (wide < INT32_MIN || wide > INT32_MAX)
        return base_error(INFER_ERR_FORMAT,
                          "key \"%s\" is %" PRId64 ", -2^31 to 2^31 - 1 was expected", key, wide);
    *out = (int32_t)wide;
    return INFER_OK;
}

infer_status gguf_get_f32(const struct gguf_file *file, const char *key, float *out)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv)
        return absent(key);
    if (kv->type != GGUF_F32 && kv->type != GGUF_F64)
        return wrong_type(kv, "f32 or f64");
    double value = read_float(kv->type, kv->data);
    if (!(fabs(value) <= FLT_MAX)) /* also refuses NaN */
        return base_error(INFER_ERR_FORMAT, "key \"%s\" is %g, a finite f32 was expected", key,
                          value);
    *out = (float)value;
    return INFER_OK;
}

infer_status gguf_get_bool(const struct gguf_file *file, const char *key, int32_t *out)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv)
        return absent(key);
    if (kv->type != GGUF_BOOL)
        return wrong_type(kv, "bool");
    *out = kv->data[0];
    return INFER_OK;
}

infer_status gguf_get_string(const struct gguf_file *file, const char *key, struct base_view *out)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv)
        return absent(key);
    if (kv->type != GGUF_STRING)
        return wrong_type(kv, "str");
    *out = read_string(kv->data);
    return INFER_OK;
}

infer_status gguf_array_strings(const struct gguf_kv *kv, struct base_view *out)
{
    if (kv->type != GGUF_ARRAY || kv->element_type != GGUF_STRING)
        return wrong_type(kv, "an array of str");
    const uint8_t *p = kv->data;
    for (uint64_t i = 0; i < kv->n; i++) {
        out[i] = read_string(p);
        p += 8 + out[i].size;
    }
    return INFER_OK;
}

infer_status gguf_array_f32(const struct gguf_kv *kv, float *out)
{
    int32_t type = kv->element_type;
    if (kv->type != GGUF_ARRAY || (type != GGUF_F32 && type != GGUF_F64))
        return wrong_type(kv, "an array of f32 or f64");
    uint32_t size = gguf_value_bytes((uint32_t)type);
    for (uint64_t i = 0; i < kv->n; i++) {
        double value = read_float(type, kv->data + i * size);
        if (!(fabs(value) <= FLT_MAX) && type == GGUF_F64 && isfinite(value))
            return base_error(INFER_ERR_FORMAT,
                              "element %" PRIu64 " of key \"%.*s\" is %g, which exceeds f32", i,
                              GGUF_SHOW(kv->key), value);
        out[i] = (float)value;
    }
    return INFER_OK;
}

infer_status gguf_array_i32(const struct gguf_kv *kv, int32_t *out)
{
    int32_t type = kv->element_type;
    if (kv->type == GGUF_ARRAY && type == GGUF_BOOL) {
        for (uint64_t i = 0; i < kv->n; i++)
            out[i] = kv->data[i];
        return INFER_OK;
    }
    if (kv->type != GGUF_ARRAY || !is_integer(type))
        return wrong_type(kv, "an array of integers");
    uint32_t size = gguf_value_bytes((uint32_t)type);
    for (uint64_t i = 0; i < kv->n; i++) {
        int64_t wide;
        if (!read_integer(type, kv->data + i * size, &wide) || wide < INT32_MIN || wide > INT32_MAX)
            return base_error(INFER_ERR_FORMAT, "element %" PRIu64 " of key \"%.*s\" exceeds i32",
                              i, GGUF_SHOW(kv->key));
        out[i] = (int32_t)wide;
    }
    return INFER_OK;
}
