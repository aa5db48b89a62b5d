/* Heads of .npy files. The dictionary is Python, of which NumPy writes very little: that little is
 * read, and nothing is evaluated. */
#include "vector_npy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *npy_size(const unsigned char first[NPY_FIRST + 2], size_t *before, size_t *size)
{
    const int version = first[6];
    if (memcmp(first, "\x93NUMPY", 6) != 0)
        return "it does not begin as a .npy file";
    if (version < 1 || version > 3)
        return "versions 1 to 3 of .npy are read";
    *before = version == 1 ? NPY_FIRST : NPY_FIRST + 2;
    *size = first[8] | (size_t)first[9] << 8;
    if (version > 1)
        *size |= (size_t)first[10] << 16 | (size_t)first[11] << 24;
    return *size > NPY_HEAD_MAX ? "its head is too long" : NULL;
}

struct reader {
    const char *at, *end;
};

static void skip_spaces(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n'))
        r->at++;
}

static int take(struct reader *r, const char *text)
{
    const size_t n = strlen(text);
    skip_spaces(r);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, text, n) != 0)
        return 0;
    r->at += n;
    return 1;
}

/* A string in either quotes, without escapes; 0 if there is none or it does not fit. */
static int take_string(struct reader *r, char *out, size_t size)
{
    skip_spaces(r);
    if (r->at == r->end || (*r->at != '\'' && *r->at != '"'))
        return 0;
    const char quote = *r->at++;
    size_t n = 0;
    for (; r->at < r->end && *r->at != quote; r->at++) {
        if (*r->at == '\\' || *r->at == 0 || n + 1 >= size)
            return 0;
        out[n++] = *r->at;
    }
    if (r->at == r->end)
        return 0;
    r->at++;
    out[n] = 0;
    return 1;
}

static int take_number(struct reader *r, uint64_t *out)
{
    skip_spaces(r);
    if (r->at == r->end || *r->at < '0' || *r->at > '9')
        return 0;
    for (*out = 0; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        if (*out > UINT64_MAX / 100)
            return 0;
        *out = *out * 10 + (uint64_t)(*r->at - '0');
    }
    return 1;
}

static const char *take_type(struct reader *r, struct vector_npy *out)
{
    static const struct {
        const char *name;
        enum npy_type type;
        int32_t bytes;
    } types[] = {{"<f8", NPY_F8, 8},
                 {"<f4", NPY_F4, 4},
                 {"<f2", NPY_F2, 2},
                 {"|i1", NPY_I1, 1},
                 {"|u1", NPY_U1, 1}};
    char name[16];
    if (!take_string(r, name, sizeof name))
        return "its elements are no plain numbers";
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(name, types[i].name) == 0) {
            out->type = types[i].type;
            out->element_bytes = types[i].bytes;
            return NULL;
        }
    return "its type is none of <f8, <f4, <f2, |i1 and |u1";
}

static const char *take_shape(struct reader *r, struct vector_npy *out)
{
    if (!take(r, "(") || !take_number(r, &out->rows) || !take(r, ",") ||
        !take_number(r, &out->columns))
        return "its shape is not (rows, dimensions)";
    take(r, ",");
    return take(r, ")") ? NULL : "its shape is not (rows, dimensions)";
}

static const char *take_member(struct reader *r, struct vector_npy *out, unsigned *seen)
{
    static const char *const names[] = {"descr", "fortran_order", "shape"};
    char name[16];
    unsigned which = 0;
    if (!take_string(r, name, sizeof name) || !take(r, ":"))
        return "its head is no dictionary";
    while (which < 3 && strcmp(name, names[which]) != 0)
        which++;
    if (which == 3 || (*seen & 1u << which))
        return "its head has a member too many";
    *seen |= 1u << which;
    if (which == 0)
        return take_type(r, out);
    if (which == 2)
        return take_shape(r, out);
    if (take(r, "True"))
        return "it is in Fortran's order: save numpy.ascontiguousarray() of it";
    return take(r, "False") ? NULL : "its order is neither True nor False";
}

const char *npy_read(struct vector_npy *out, const char *text, size_t size)
{
    struct reader r = {text, text + size};
    unsigned seen = 0;
    if (!take(&r, "{"))
        return "its head is no dictionary";
    while (!take(&r, "}")) {
        const char *wrong = take_member(&r, out, &seen);
        if (wrong)
            return wrong;
        if (!take(&r, ",") && (skip_spaces(&r), r.at == r.end || *r.at != '}'))
            return "its head is no dictionary";
    }
    skip_spaces(&r);
    return seen == 7 && r.at == r.end ? NULL : "its head lacks type, order or shape";
}

static float half(uint32_t bits)
{
    const uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value = exponent == 0    ? ldexpf((float)fraction, -24)
                  : exponent == 31 ? (fraction ? NAN : INFINITY)
                                   : ldexpf((float)(1024 + fraction), (int)exponent - 25);
    return bits >> 15 ? -value : value;
}

/* The machine's own order is the file's where the library runs. */
float npy_element(enum npy_type type, const unsigned char *row, size_t i)
{
    double wide;
    float value;
    switch (type) {
    case NPY_F8:
        memcpy(&wide, row + 8 * i, sizeof wide);
        return (float)wide;
    case NPY_F4:
        memcpy(&value, row + 4 * i, sizeof value);
        return value;
    case NPY_F2:
        return half(row[2 * i] | (uint32_t)row[2 * i + 1] << 8);
    case NPY_I1:
        return (float)(signed char)row[i];
    default:
        return row[i];
    }
}

void npy_write(unsigned char out[NPY_HEAD_MADE], uint64_t rows, uint64_t columns)
{
    char text[NPY_HEAD_MADE - NPY_FIRST + 1];
    const int n = snprintf(text, sizeof text,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                           (unsigned long long)rows, (unsigned long long)columns);
    memset(text + n, ' ', sizeof text - (size_t)n);
    text[sizeof text - 2] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = NPY_HEAD_MADE - NPY_FIRST;
    out[9] = 0;
    memcpy(out + NPY_FIRST, text, NPY_HEAD_MADE - NPY_FIRST);
}
