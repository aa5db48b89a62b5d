/* The vocabulary of every file: sizes, status codes, small macros. */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <infer/types.h>
#include <stddef.h>
#include <stdint.h>

#define BASE_COUNT(a)       (sizeof(a) / sizeof((a)[0]))
#define BASE_MIN(a, b)      ((a) < (b) ? (a) : (b))
#define BASE_MAX(a, b)      ((a) > (b) ? (a) : (b))
#define BASE_DIV_UP(a, b)   (((a) + (b)-1) / (b))
#define BASE_ALIGN_UP(a, b) (BASE_DIV_UP(a, b) * (b))
#define BASE_UNUSED(x)      ((void)(x))

#if defined(__GNUC__)
#define BASE_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define BASE_PRINTF(fmt, first)
#endif

/* Alignment of every buffer that a kernel may read with full-width loads. */
#define BASE_CACHE_LINE 64

/* A borrowed piece of text or bytes: not terminated, not owned. */
struct base_view {
    const char *data;
    size_t size;
};

#endif
