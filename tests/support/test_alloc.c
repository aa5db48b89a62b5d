/* An allocator that counts, and refuses on demand. */
#include "support/test_alloc.h"

#include <stdlib.h>

/* Before every block, one alignment unit long at least, so that the block stays aligned. */
struct head {
    void *start;
    size_t bytes;
};

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct test_alloc *t = user_data;
    size_t front = BASE_ALIGN_UP(sizeof(struct head), alignment);

    t->n_calls++;
    if (t->n_calls == t->fail_at)
        return NULL;
    if (t->limit_bytes && (bytes > t->limit_bytes || t->live_bytes > t->limit_bytes - bytes))
        return NULL;
    /* Exactly as long as asked, so that a sanitizer sees the first byte behind it. */
    char *start = NULL;
    if (posix_memalign((void **)&start, BASE_MAX(alignment, sizeof(void *)), front + bytes) != 0)
        return NULL;
    struct head *head = (struct head *)(void *)(start + front) - 1;
    head->start = start;
    head->bytes = bytes;
    t->live_bytes += bytes;
    t->live_blocks++;
    t->peak_bytes = BASE_MAX(t->peak_bytes, t->live_bytes);
    return start + front;
}

static void counting_free(void *ptr, void *user_data)
{
    struct test_alloc *t = user_data;
    struct head *head = (struct head *)ptr - 1;
    t->live_bytes -= head->bytes;
    t->live_blocks--;
    free(head->start);
}

void test_alloc_init(struct test_alloc *t)
{
    *t = (struct test_alloc){.alloc = {counting_alloc, counting_free, t}};
}
