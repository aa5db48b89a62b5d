/* Partitions in memory and in files. */
#include "vector/partitions.h"

#include "base/error.h"

#include <math.h>
#include <string.h>

void vector_partitions_destroy(struct vector_partitions **partitions)
{
    struct vector_partitions *p = *partitions;

    *partitions = NULL;
    if (p) {
        const struct base_alloc a = p->alloc;

        base_free(&a, p->own);
        base_free(&a, p);
    }
}

/* ------------------------------------------------------------------ files */

struct partitions_head {
    int32_t n, n_rows;
    float far;
    uint32_t zero;
    struct {
        float reach;
        int32_t n_rows;
    } reach[VECTOR_PACE_KS][VECTOR_PACE_LEVELS];
};

static struct partitions_head head_of(const struct vector_partitions *p)
{
    struct partitions_head head = {
        .n = p->n,
        .n_rows = p->n_rows,
        .far = atomic_load_explicit(&p->far, memory_order_relaxed),
    };

    for (int32_t i = 0; i < VECTOR_PACE_KS; i++) {
        for (int32_t j = 0; j < VECTOR_PACE_LEVELS; j++) {
            const struct vector_reach *reach = &p->reach[i][j];

            head.reach[i][j].reach = atomic_load_explicit(&reach->reach, memory_order_relaxed);
            head.reach[i][j].n_rows = atomic_load_explicit(&reach->n_rows, memory_order_relaxed);
        }
    }
    return head;
}

static infer_status take_head(struct vector_partitions *p, const struct partitions_head *head,
                              const char *path)
{
    for (int32_t i = 0; i < VECTOR_PACE_KS; i++) {
        for (int32_t j = 0; j < VECTOR_PACE_LEVELS; j++) {
            const float reach = head->reach[i][j].reach;
            const int32_t n = head->reach[i][j].n_rows;

            if (!(reach >= -1e3f) || n < 0 || n > p->n_rows) {
                return base_error(INFER_ERR_FORMAT,
                                  "%s is damaged: a reach of %g takes %d of %d rows", path,
                                  (double)reach, (int)n, (int)p->n_rows);
            }
            p->reach[i][j].reach = reach;
            p->reach[i][j].n_rows = n;
        }
    }
    p->far = head->far;
    return INFER_OK;
}

infer_status vector_partitions_write(const struct vector_partitions *p,
                                     struct vector_file_writer *writer)
{
    const struct partitions_head head = head_of(p);
    const size_t n = (size_t)p->n;
    infer_status status = vector_file_section(writer, "partitions.head", &head, sizeof(head));

    if (!status) {
        status =
            vector_file_section(writer, "partitions.begin", p->begin, (n + 1) * sizeof(*p->begin));
    }
    if (!status) {
        status = vector_file_section(writer, "partitions.rows", p->rows,
                                     (size_t)p->n_rows * sizeof(*p->rows));
    }
    if (!status) {
        status =
            vector_file_section(writer, "partitions.radius", p->radius, n * sizeof(*p->radius));
    }
    return status ? status : vector_file_section(writer, "partitions.codes", p->codes, n * p->slot);
}

static infer_status check_begin(const struct vector_partitions *p, const char *path)
{
    for (int32_t i = 0; i < p->n; i++) {
        if (p->begin[i] > p->begin[i + 1]) {
            return base_error(INFER_ERR_FORMAT,
                              "%s is damaged: partition %d begins at row %u, "
                              "behind the next at %u",
                              path, (int)i, (unsigned)p->begin[i], (unsigned)p->begin[i + 1]);
        }
        if (!(p->radius[i] >= 0.0f && p->radius[i] < 1e20f)) {
            return base_error(INFER_ERR_FORMAT, "%s is damaged: partition %d has a radius of %g",
                              path, (int)i, (double)p->radius[i]);
        }
    }
    return p->begin[0] == 0 && p->begin[p->n] == (uint32_t)p->n_rows
               ? INFER_OK
               : base_error(INFER_ERR_FORMAT,
                            "%s is damaged: its partitions hold rows %u to %u, not 0 to %d", path,
                            (unsigned)p->begin[0], (unsigned)p->begin[p->n], (int)p->n_rows);
}

/* What lies in the file as it is used. */
static infer_status find_arrays(struct vector_partitions *p, const struct vector_file *file)
{
    const void *begin = NULL, *rows = NULL, *radius = NULL, *codes = NULL;
    const size_t n = (size_t)p->n;
    infer_status status =
        vector_file_array(file, "partitions.begin", &begin, n + 1, sizeof(uint32_t));

    if (!status) {
        status =
            vector_file_array(file, "partitions.rows", &rows, (size_t)p->n_rows, sizeof(uint32_t));
    }
    if (!status) {
        status = vector_file_array(file, "partitions.radius", &radius, n, sizeof(float));
    }
    if (!status) {
        status = vector_file_array(file, "partitions.codes", &codes, n, p->slot);
    }
    p->begin = begin;
    p->rows = rows;
    p->radius = radius;
    p->codes = codes;
    return status;
}

infer_status vector_partitions_open(struct vector_partitions **out, const struct base_alloc *a,
                                    const struct vector_file *file, int32_t n_rows, size_t slot)
{
    const char *path = vector_file_path(file);
    struct partitions_head head;
    struct vector_partitions *p;
    const uint8_t *data;
    size_t size;
    infer_status status = vector_file_find(file, "partitions.head", &data, &size);

    *out = NULL;
    if (status) {
        return status == INFER_ERR_NOT_FOUND ? INFER_OK : status;
    }
    if (size != sizeof(head)) {
        return base_error(INFER_ERR_FORMAT,
                          "%s: section \"partitions.head\" has %zu bytes, %zu were expected", path,
                          size, sizeof(head));
    }
    memcpy(&head, data, sizeof(head));
    if (head.n < 1 || head.n > n_rows || head.n_rows != n_rows) {
        return base_error(INFER_ERR_FORMAT, "%s has %d partitions of %d rows over %d vectors", path,
                          (int)head.n, (int)head.n_rows, (int)n_rows);
    }
    p = base_new(a, 1, sizeof(*p));
    if (!p) {
        return INFER_ERR_NO_MEMORY;
    }
    p->alloc = *a;
    p->n = head.n;
    p->n_rows = n_rows;
    p->slot = slot;
    p->bytes = sizeof(*p);
    status = find_arrays(p, file);
    if (!status) {
        status = take_head(p, &head, path);
    }
    if (!status) {
        status = check_begin(p, path);
    }
    if (status) {
        vector_partitions_destroy(&p);
        return status;
    }
    *out = p;
    return INFER_OK;
}
