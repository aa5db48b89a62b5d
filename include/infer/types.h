/**
 * @file types.h
 * What every other header needs: export macro, status codes, data types, the
 * host's allocator.
 *
 * Only fixed-width integers, floats, UTF-8 strings and pointer-plus-size cross
 * the border. Enumerations are int32_t with named constants, so later values
 * stay legal for programs compiled today.
 */
#ifndef INFER_TYPES_H
#define INFER_TYPES_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define INFER_API
#elif defined(__GNUC__)
#define INFER_API __attribute__((visibility("default")))
#else
#define INFER_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Result of every call that can fail.
 *
 * 0 is success, positive values are progress, negative values are errors.
 * A value never changes its meaning. After an error infer_last_error() holds
 * one sentence for the calling thread.
 */
typedef int32_t infer_status;

enum {
    INFER_OK = 0,
    INFER_AGAIN = 1, /**< nothing ready yet: call again later */
    INFER_DONE = 2,  /**< finished: nothing more will come */

    INFER_ERR_INVALID = -1,   /**< an argument is wrong; a retry cannot help */
    INFER_ERR_NO_MEMORY = -2, /**< the allocator or a byte budget is exhausted; a retry may help */
    INFER_ERR_NOT_FOUND = -3, /**< a file, tensor, key or name is missing */
    INFER_ERR_UNSUPPORTED = -4, /**< known and legal, but not in this build or version */
    INFER_ERR_FORMAT = -5,      /**< a file or text does not follow its format */
    INFER_ERR_IO = -6,     /**< the operating system failed to read or write; a retry may help */
    INFER_ERR_DEVICE = -7, /**< the device or its driver failed */
    INFER_ERR_BUSY = -8,   /**< queue full or handle in use: retry later */
    INFER_ERR_LIMIT = -9,  /**< larger than a stated limit (context, budget, size) */
    INFER_ERR_CANCELLED = -10, /**< the host cancelled it */
    INFER_ERR_INTERNAL = -11   /**< a defect of the library: please report it */
};

/**
 * Element type of a tensor. Where GGUF knows the type, the value is GGUF's.
 * Quantised types are blocks; doc/layouts.md gives each layout.
 */
typedef int32_t infer_dtype;

enum {
    INFER_DTYPE_F32 = 0,
    INFER_DTYPE_F16 = 1,
    INFER_DTYPE_Q4_0 = 2,
    INFER_DTYPE_Q4_1 = 3,
    INFER_DTYPE_Q5_0 = 6,
    INFER_DTYPE_Q5_1 = 7,
    INFER_DTYPE_Q8_0 = 8,
    INFER_DTYPE_Q2_K = 10,
    INFER_DTYPE_Q3_K = 11,
    INFER_DTYPE_Q4_K = 12,
    INFER_DTYPE_Q5_K = 13,
    INFER_DTYPE_Q6_K = 14,
    INFER_DTYPE_IQ2_XXS = 16,
    INFER_DTYPE_IQ2_XS = 17,
    INFER_DTYPE_IQ3_XXS = 18,
    INFER_DTYPE_IQ1_S = 19,
    INFER_DTYPE_IQ4_NL = 20,
    INFER_DTYPE_IQ3_S = 21,
    INFER_DTYPE_IQ2_S = 22,
    INFER_DTYPE_IQ4_XS = 23,
    INFER_DTYPE_I8 = 24,
    INFER_DTYPE_I16 = 25,
    INFER_DTYPE_I32 = 26,
    INFER_DTYPE_I64 = 27,
    INFER_DTYPE_F64 = 28,
    INFER_DTYPE_IQ1_M = 29,
    INFER_DTYPE_BF16 = 30,
    INFER_DTYPE_TQ1_0 = 34,
    INFER_DTYPE_TQ2_0 = 35,
    INFER_DTYPE_MXFP4 = 39,
    INFER_DTYPE_NVFP4 = 40,
    INFER_DTYPE_F8_E4M3 = 64, /**< from here on: types that GGUF has no number for */
    INFER_DTYPE_F8_E5M2 = 65,
    INFER_DTYPE_F8_128 = 66 /**< blocks of 128 numbers of E4M3 with a scale in F32 */
};

/** A token of a model's vocabulary; ids run from 0 to infer_tokenizer_info.n_tokens - 1. */
typedef int32_t infer_token;

/**
 * The host's memory functions. Both are required; both must be callable from
 * any thread. `alignment` is a power of two. `free` is never called with NULL.
 * A NULL return from `alloc` is a legal answer: the call that needed the memory
 * fails with INFER_ERR_NO_MEMORY and everything else goes on.
 */
typedef struct infer_allocator {
    size_t struct_size;
    void *(*alloc)(size_t bytes, size_t alignment, void *user_data);
    void (*free)(void *ptr, void *user_data);
    void *user_data;
} infer_allocator;

/**
 * Progress of a long call: `fraction` runs from 0 to 1, `stage` is a short
 * English word or two ("reading", "checking").
 * @return 0 to go on, anything else to cancel (INFER_ERR_CANCELLED).
 */
typedef int32_t (*infer_progress_fn)(double fraction, const char *stage, void *user_data);

#ifdef __cplusplus
}
#endif

#endif
