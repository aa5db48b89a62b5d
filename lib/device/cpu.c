/* The CPU as a device: the host's memory, its processors, its kernels. */
#include "base/error.h"
#include "base/memory.h"
#include "base/thread.h"
#include "base/topology.h"
#include "device/backend.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

/* Large buffers are read from end to end: huge pages spare the processor the walks through page
 * tables, and the first touch most of its faults. Advice only: no error is worth mentioning. */
static void advise(void *data, size_t bytes)
{
    const size_t huge = (size_t)2 << 20, begin = BASE_ALIGN_UP((uintptr_t)data, huge);
    const size_t end = ((uintptr_t)data + bytes) / huge * huge;
    if (begin < end)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE);
}

static infer_status buffer_alloc(struct infer_device *device, size_t bytes,
                                 struct device_buffer *out)
{
    void *data = base_new_raw(&device->alloc, 1, bytes);
    if (!data)
        return INFER_ERR_NO_MEMORY;
    advise(data, bytes);
    *out = (struct device_buffer){.device = device, .data = data, .bytes = bytes};
    return INFER_OK;
}

static void buffer_free(struct device_buffer *buffer)
{
    base_free(&buffer->device->alloc, buffer->data);
}

static infer_status upload(struct device_buffer *dst, size_t offset, const void *src, size_t bytes)
{
    memcpy((char *)dst->data + offset, src, bytes);
    return INFER_OK;
}

static infer_status download(void *dst, const struct device_buffer *src, size_t offset,
                             size_t bytes)
{
    memcpy(dst, (const char *)src->data + offset, bytes);
    return INFER_OK;
}

static infer_status copy(struct device_buffer *dst, size_t dst_offset,
                         const struct device_buffer *src, size_t src_offset, size_t bytes)
{
    memcpy((char *)dst->data + dst_offset, (const char *)src->data + src_offset, bytes);
    return INFER_OK;
}

static infer_status fill(struct device_buffer *dst, size_t offset, uint8_t value, size_t bytes)
{
    memset((char *)dst->data + offset, value, bytes);
    return INFER_OK;
}

static infer_status finish(struct infer_device *device)
{
    BASE_UNUSED(device);
    return INFER_OK;
}

static infer_status fetch_begin(struct device_fetch *f)
{
    for (; f->launched.i < f->n; f->launched.i++) {
        const struct device_range *r = &f->ranges[f->launched.i];
        memcpy(r->host, (const char *)f->from->data + r->at, r->bytes);
    }
    return INFER_OK;
}

static infer_status fetch_end(struct device_fetch *f)
{
    BASE_UNUSED(f);
    return INFER_OK;
}

static infer_status put(struct device_buffer *to, const struct device_range *ranges, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        memcpy((char *)to->data + ranges[i].at, ranges[i].host, ranges[i].bytes);
    return INFER_OK;
}

/* In all: of the machine. Free: what the machine and the control groups leave. */
static infer_status memory(const struct infer_device *device, uint64_t *total, uint64_t *free)
{
    BASE_UNUSED(device);
    const long page = sysconf(_SC_PAGESIZE), n_pages = sysconf(_SC_PHYS_PAGES);
    *total = page > 0 && n_pages > 0 ? (uint64_t)n_pages * (uint64_t)page : 0;
    *free = base_memory_available("");
    return INFER_OK;
}

static void destroy(struct infer_device *device)
{
    base_pool_destroy(&device->pool);
}

static const struct device_ops cpu_ops = {
    .buffer_alloc = buffer_alloc,
    .buffer_free = buffer_free,
    .upload = upload,
    .download = download,
    .copy = copy,
    .fill = fill,
    .sync = finish,
    .fetch_begin = fetch_begin,
    .fetch_order = fetch_end, /* nothing is under way */
    .fetch_end = fetch_end,
    .put = put,
    .memory = memory,
    .destroy = destroy,
};

/* The processor's own name for itself, without the blanks around it. */
static void read_name(char *out, size_t size)
{
    char brand[49] = "CPU";
#if defined(__x86_64__) || defined(__i386__)
    unsigned words[12];
    if ((unsigned)__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u) {
        for (unsigned i = 0; i < 3; i++)
            __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                        &words[4 * i + 3]);
        memcpy(brand, words, sizeof words);
        brand[48] = 0;
    }
#elif defined(__aarch64__)
    memcpy(brand, "64-bit Arm CPU", sizeof "64-bit Arm CPU");
#endif
    const char *begin = brand + strspn(brand, " ");
    size_t n = strlen(begin);
    while (n > 0 && begin[n - 1] == ' ')
        n--;
    n = BASE_MIN(n, size - 1);
    memcpy(out, begin, n);
    out[n] = 0;
}

static infer_status open_pool(struct infer_device *device, const struct device_config *config)
{
    struct base_cpus cpus;
    base_cpus_usable(&cpus);
    int32_t n = config->n_threads;
    if (!n)
        n = base_cpus_threads(&cpus, base_cpu_quota(""), config->pin_threads);
    if (!config->pin_threads)
        return base_pool_create(&device->pool, &device->alloc, n, NULL);
    if (n > cpus.n)
        return base_error(INFER_ERR_LIMIT, "%d threads cannot be pinned to %d processors", (int)n,
                          (int)cpus.n);
    base_cpus_by_node(&cpus, n);
    return base_pool_create(&device->pool, &device->alloc, n, cpus.cpu);
}

infer_status device_cpu_open(struct infer_device *device, const struct device_config *config)
{
    infer_status st = open_pool(device, config);
    if (st != INFER_OK)
        return st;
    device->kind = DEVICE_CPU;
    device->ops = &cpu_ops;
    read_name(device->name, sizeof device->name);
    kern_init_cpu(&device->kernels, kern_cpu_flags() & ~config->disabled_cpu_flags);
    return INFER_OK;
}
