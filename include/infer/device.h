/**
 * @file device.h
 * Processors: the CPU and NVIDIA GPUs. Optional: without one, models run on
 * the CPU with one thread per core that this process may use.
 */
#ifndef INFER_DEVICE_H
#define INFER_DEVICE_H

#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_device infer_device;

typedef int32_t infer_device_kind;

enum { INFER_DEVICE_CPU = 0, INFER_DEVICE_CUDA = 1 };

/** CPU features that infer_device_options.disable_cpu_features can switch off (tests, comparisons).
 */
enum {
    INFER_CPU_AVX2 = 1 << 0,
    INFER_CPU_AVX512 = 1 << 1,
    INFER_CPU_AVX512VNNI = 1 << 2,
    INFER_CPU_AVX512BF16 = 1 << 3,
    INFER_CPU_NEON = 1 << 4,
    INFER_CPU_AMX = 1 << 5,          /**< tiles of 8-bit integers and of BF16 */
    INFER_CPU_NEON_DOTPROD = 1 << 6, /**< dot products of bytes (FEAT_DotProd) */
    INFER_CPU_NEON_I8MM = 1 << 7     /**< products of small matrices of bytes (FEAT_I8MM) */
};

typedef struct infer_device_options {
    size_t struct_size;
    int32_t n_threads; /**< CPU threads, the caller's included; 0: one per core that this process
                            may use (affinity, limits of its control groups) and that adds speed */
    uint32_t disable_cpu_features;    /**< INFER_CPU_* not to be used */
    const infer_allocator *allocator; /**< NULL: the C library's; copied */
    int32_t pin_threads;   /**< 1: each of the device's threads stays on a processor of its own, and
                                slow processors get smaller parts; the caller's thread is not moved */
    uint32_t reserved;     /**< 0 */
    uint64_t budget_bytes; /**< of all memory that this handle takes on the device, beyond which
                                calls give INFER_ERR_LIMIT; 0: what the device has. Of the CPU, of
                                what is counted here: not weights that stay in their file's map */
    uint64_t weights_budget_bytes;   /**< of it for weights and adapters; 0: as budget_bytes, as the
                                          next ones */
    uint64_t kv_budget_bytes;        /**< for KV caches */
    uint64_t workspace_budget_bytes; /**< for steps: activations, logits, scratch */
    uint64_t index_budget_bytes;     /**< for copies of vector indexes, on a GPU; what does not fit
                                          is searched on the CPU */
} infer_device_options;

typedef struct infer_device_info {
    size_t struct_size;
    const char *name;    /**< such as "AMD EPYC 9654"; borrowed from the device */
    const char *kernels; /**< strongest kernel level in use, such as "avx512vnni", or "cuda";
                              borrowed */
    uint64_t total_bytes, free_bytes; /**< memory of the device; 0 if unknown. Of the CPU's, free is
                                           what can be had without swapping, by the machine and by
                                           the control groups of the process */
    infer_device_kind kind;
    int32_t index;              /**< as given to infer_device_create() */
    int32_t n_threads;          /**< CPU threads, or 0 */
    int32_t compute_capability; /**< CUDA: major * 10 + minor, or 0 */
    uint64_t used_bytes; /**< by this handle, as far as budgets count it; and of it for each */
    uint64_t weights_bytes, kv_bytes, workspace_bytes, index_bytes;
} infer_device_info;

/**
 * Number of devices. Index 0 is the CPU; GPUs follow. A missing driver is no
 * error: there are then no GPUs.
 * Thread-safety: safe. Since: 0.1
 */
INFER_API int32_t infer_device_count(void);

/**
 * Opens a device. Each handle of a GPU has a CUDA context of its own, which a failure of the GPU
 * can end: what needs the GPU through that handle then gives INFER_ERR_DEVICE, and other handles
 * go on. To recover, destroy the handle and the sessions, caches, models and indexes on it, in any
 * order, and create them anew; INFER_ERR_DEVICE then means that the driver asks for a new process.
 * @param out      receives the handle; the caller destroys it
 * @param index    0 .. infer_device_count() - 1
 * @param options  NULL for all defaults
 * @return INFER_OK, INFER_ERR_INVALID, INFER_ERR_NO_MEMORY, INFER_ERR_DEVICE, INFER_ERR_LIMIT
 *         (threads cannot be started, or more are to be pinned than there are processors)
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_device_create(infer_device **out, int32_t index,
                                           const infer_device_options *options);

/**
 * Drops the caller's reference and sets *device to NULL. Models keep theirs,
 * so any order of destruction is legal. NULL-safe.
 * Thread-safety: safe, once per handle. Since: 0.1
 */
INFER_API void infer_device_destroy(infer_device **device);

/**
 * Describes a device. Set info->struct_size first.
 * @return INFER_OK, INFER_ERR_INVALID or INFER_ERR_DEVICE
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_device_get_info(const infer_device *device, infer_device_info *info);

#ifdef __cplusplus
}
#endif

#endif
