/* A processor with its memory, its kernels and its threads. Memory and time
 * are one table (device_ops), arithmetic the other (kernels); the CPU is row 0
 * of the registry. Reference-counted: models and sessions hold the device. */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include "base/alloc.h"
#include "kernels/kernels.h"

#include <stdatomic.h>

struct base_pool;
struct infer_device;

enum { DEVICE_CPU = 0, DEVICE_CUDA = 1 };

/* What memory is for: each has a budget. */
enum device_purpose { DEVICE_WEIGHTS, DEVICE_KV, DEVICE_WORKSPACE, DEVICE_INDEX, DEVICE_PURPOSES };

/* Memory of a device; on the CPU `data` is an ordinary pointer. */
struct device_buffer {
    struct infer_device *device; /* not a reference: the owner holds the device */
    void *data;
    size_t bytes;
    enum device_purpose purpose;
};

/* Bytes of a buffer and of the host that belong together. */
struct device_range {
    size_t at; /* in the buffer */
    void *host;
    size_t bytes;
};

/* A place in a list of them. */
struct device_place {
    int32_t i;
    size_t at; /* in range i */
};

/* A list on its way to the host. */
#define DEVICE_FETCH_PIECES 2
struct device_fetch {
    const struct device_buffer *from;
    const struct device_range *ranges;
    int32_t n;
    /* Of a kind that copies beside the steps: pieces under way, oldest first; how far it has come.
     */
    void *pieces[DEVICE_FETCH_PIECES];
    int32_t n_pieces;
    struct device_place launched, arrived;
};

/* Uploads and downloads are done when they return. Copies and fills on a GPU
 * follow in the order of their calls and may still run; sync waits for them.
 * Offsets and sizes are the caller's to check: device_buffer_* below do. */
struct device_ops {
    infer_status (*buffer_alloc)(struct infer_device *device, size_t bytes,
                                 struct device_buffer *out);
    void (*buffer_free)(struct device_buffer *buffer);
    infer_status (*upload)(struct device_buffer *dst, size_t offset, const void *src, size_t bytes);
    infer_status (*download)(void *dst, const struct device_buffer *src, size_t offset,
                             size_t bytes);
    infer_status (*copy)(struct device_buffer *dst, size_t dst_offset,
                         const struct device_buffer *src, size_t src_offset, size_t bytes);
    infer_status (*fill)(struct device_buffer *dst, size_t offset, uint8_t value, size_t bytes);
    infer_status (*sync)(struct infer_device *device);
    /* device_fetch_*() and device_buffer_put(). */
    infer_status (*fetch_begin)(struct device_fetch *fetch);
    infer_status (*fetch_order)(struct device_fetch *fetch);
    infer_status (*fetch_end)(struct device_fetch *fetch);
    infer_status (*put)(struct device_buffer *to, const struct device_range *ranges, int32_t n);
    /* Bytes of memory, in all and unused; 0 where unknown. */
    infer_status (*memory)(const struct infer_device *device, uint64_t *total, uint64_t *free);
    void (*destroy)(struct infer_device *device); /* what the kind added; frees nothing shared */
    /* Bytes that are best moved at a time; 0: what moves is there when begin returns. */
    size_t piece_bytes;
};

struct device_config {
    int32_t index;                     /* in the registry: 0 is the CPU */
    int32_t n_threads;                 /* CPU; 0: as base_cpus_threads() says */
    int32_t pin_threads;               /* CPU: each on a processor of its own */
    uint32_t disabled_cpu_flags;       /* KERN_CPU_* */
    uint64_t budget_bytes;             /* of all buffers together; 0: what the memory gives */
    uint64_t budgets[DEVICE_PURPOSES]; /* the same of those for one purpose */
    const struct base_alloc *alloc;    /* NULL: base_alloc_default */
};

struct device_description {
    const char *name;                 /* borrowed from the device */
    uint64_t total_bytes, free_bytes; /* 0 where unknown */
    uint64_t used_bytes;              /* by buffers of this handle */
    uint64_t used[DEVICE_PURPOSES];
    int32_t kind, index, n_threads, compute_capability;
};

struct infer_device {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    const struct device_ops *ops;
    struct infer_kernels kernels; /* of the host, on a GPU too: for loading and sampling */
    struct base_pool *pool;       /* CPU: the threads; else NULL */
    int32_t kind, index, compute_capability;
    uint64_t budget_bytes, budgets[DEVICE_PURPOSES];
    _Atomic uint64_t used_bytes, used[DEVICE_PURPOSES];
    char name[128];
    void *impl; /* of the kind */
};

/* The CPU is device 0; GPUs follow. Without a driver there are none. */
int32_t device_count(void);
infer_status device_create(struct infer_device **out, const struct device_config *config);
struct infer_device *device_retain(struct infer_device *device);
void device_release(struct infer_device **device); /* NULL-safe, sets NULL */
infer_status device_describe(const struct infer_device *device, struct device_description *out);

/* Memory by device and range; a range outside the buffer is INVALID. The bytes
 * of a new buffer are undefined, its start is aligned to BASE_CACHE_LINE. */
infer_status device_buffer_alloc(struct infer_device *device, enum device_purpose purpose,
                                 size_t bytes, struct device_buffer *out);
void device_buffer_free(struct device_buffer *buffer); /* NULL-safe, empty-safe, empties */
infer_status device_buffer_upload(struct device_buffer *dst, size_t offset, const void *src,
                                  size_t bytes);
infer_status device_buffer_download(void *dst, const struct device_buffer *src, size_t offset,
                                    size_t bytes);
/* Within one device; the ranges do not overlap. */
infer_status device_buffer_copy(struct device_buffer *dst, size_t dst_offset,
                                const struct device_buffer *src, size_t src_offset, size_t bytes);
infer_status device_buffer_fill(struct device_buffer *dst, size_t offset, uint8_t value,
                                size_t bytes);

/* Lists of ranges, in one go. On a GPU the copy engines move them through pinned memory beside what
 * is computed, which nobody waits for; on the CPU they are there when the first call returns.
 *
 * A fetch reads what was written by work launched before begin. The list stays as it is, and its
 * host's side is undefined, until end, which waits for all of it. Begin launches what there are
 * pieces for and never waits; device_fetch_launched() says how many of the ranges that are. After
 * order, what is launched overwrites those no sooner than they have been read; what follows them
 * must stay in place until end. A thread may have several under way, and ends each that it began,
 * whether begin failed or not. */
infer_status device_fetch_begin(struct device_fetch *fetch, const struct device_buffer *from,
                                const struct device_range *ranges, int32_t n);
int32_t device_fetch_launched(const struct device_fetch *fetch);
infer_status device_fetch_order(struct device_fetch *fetch);
infer_status device_fetch_end(struct device_fetch *fetch);
/* When it returns the host's side has been read. What was launched before still sees what was
 * there, and what is launched then what was put. Not from within a fetch. */
infer_status device_buffer_put(struct device_buffer *to, const struct device_range *ranges,
                               int32_t n);

/* cblas_sgemm from OpenBLAS, opened at the first call; UNSUPPORTED where it is
 * absent. OpenBLAS runs threads of its own, as many as its host set. */
typedef void device_sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                             const float *a, int lda, const float *b, int ldb, float beta, float *c,
                             int ldc);
infer_status device_openblas(device_sgemm_fn **out);

#endif
