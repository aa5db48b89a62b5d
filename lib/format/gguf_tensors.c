/* GGUF tensor records: shapes, types and ranges of data, each checked. */
#include "format/gguf_internal.h"

#include "base/array.h"
#include "base/error.h"
#include "format/quant_layout.h"

#include <inttypes.h>

static infer_status read_dims(struct gguf_reader *r, struct gguf_tensor *t)
{
    uint64_t start = r->pos;
    uint32_t n;
    infer_status st = gguf_read_u32(r, &n, "the number of dimensions");
    if (st != INFER_OK)
        return st;
    if (n < 1 || n > GGUF_MAX_DIMS)
        return base_error(INFER_ERR_FORMAT,
                          "%u dimensions at byte %" PRIu64 ", 1 to %d were expected", n, start,
                          GGUF_MAX_DIMS);
    t->n_dims = (int32_t)n;
    for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++)
        t->dims[i] = 1;
    for (uint32_t i = 0; i < n; i++) {
        st = gguf_read_u64(r, &t->dims[i], "a dimension");
        if (st != INFER_OK)
            return st;
        if (t->dims[i] == 0 || t->dims[i] > INT64_MAX)
            return base_error(INFER_ERR_FORMAT,
                              "dimension %u at byte %" PRIu64 " is %" PRIu64
                              ", 1 to 2^63 - 1 was expected",
                              i, r->pos - 8, t->dims[i]);
    }
    return INFER_OK;
}

infer_status gguf_count_elements(const struct gguf_tensor *t, uint64_t *elements)
{
    *elements = 1;
    for (int i = 0; i < GGUF_MAX_DIMS; i++) {
        if (__builtin_mul_overflow(*elements, t->dims[i], elements) || *elements > INT64_MAX)
            return base_error(INFER_ERR_FORMAT,
                              "the shape has more than 2^63 - 1 elements (%" PRIu64 " x %" PRIu64
                              " x %" PRIu64 " x %" PRIu64 ")",
                              t->dims[0], t->dims[1], t->dims[2], t->dims[3]);
    }
    return INFER_OK;
}

infer_status gguf_find_bytes(struct gguf_tensor *t, uint64_t elements)
{
    const struct quant_layout *layout = quant_layout_of(t->type);
    if (t->dims[0] % (uint64_t)layout->block_elements)
        return base_error(INFER_ERR_FORMAT,
                          "rows of %" PRIu64 " elements are not a multiple of %d, the block of %s",
                          t->dims[0], layout->block_elements, layout->name);
    if (__builtin_mul_overflow(elements / (uint64_t)layout->block_elements,
                               (uint64_t)layout->block_bytes, &t->bytes) ||
        t->bytes > INT64_MAX)
        return base_error(INFER_ERR_FORMAT, "%" PRIu64 " elements of %s exceed 2^63 - 1 bytes",
                          elements, layout->name);
    return INFER_OK;
}

/* The type's layout gives the bytes; all products stay below 2^63. */
static infer_status read_type(struct gguf_tensor *t, uint32_t type, uint64_t at, uint32_t flags)
{
    /* From F8 on the numbers are ours: no file has them, but for F8_128, which we write. */
    const char *name = type < INFER_DTYPE_F8_E4M3 || type == INFER_DTYPE_F8_128
                           ? quant_type_name((int32_t)type)
                           : NULL;
    uint64_t elements;

    if (!name)
        return base_error(INFER_ERR_UNSUPPORTED, "element type %u at byte %" PRIu64 " is not known",
                          type, at);
    t->type = (infer_dtype)type;
    infer_status st = gguf_count_elements(t, &elements);
    if (st != INFER_OK)
        return st;
    if (quant_layout_of(t->type))
        return gguf_find_bytes(t, elements);
    if (flags & GGUF_OPEN_METADATA_ONLY)
        return INFER_OK; /* listed without bytes and data */
    return base_error(INFER_ERR_UNSUPPORTED, "element type %s at byte %" PRIu64 " is not supported",
                      name, at);
}

/* The name is set first, so that the caller can say it whatever fails after.
 * `offset` stays as the file has it: relative to the data, whose start is known
 * only behind the last record. */
static infer_status read_tensor(struct gguf_reader *r, struct gguf_tensor *t,
                                const struct gguf_part *part, uint32_t flags)
{
    uint32_t type;
    infer_status st = gguf_read_name(r, &t->name, GGUF_NAME_MAX, "the name");
    if (st != INFER_OK)
        return st;
    st = read_dims(r, t);
    if (st != INFER_OK)
        return st;
    st = gguf_read_u32(r, &type, "the element type");
    if (st != INFER_OK)
        return st;
    st = read_type(t, type, r->pos - 4, flags);
    if (st != INFER_OK)
        return st;
    st = gguf_read_u64(r, &t->offset, "the data offset");
    if (st != INFER_OK)
        return st;
    if (t->offset & (part->alignment - 1))
        return base_error(INFER_ERR_FORMAT,
                          "the data offset %" PRIu64 " at byte %" PRIu64
                          " is not a multiple of the alignment %" PRIu64,
                          t->offset, r->pos - 8, part->alignment);
    return INFER_OK;
}

/* Turns the relative offset into a range of the file. */
static infer_status place_tensor(struct gguf_tensor *t, const struct gguf_part *part,
                                 uint64_t data_start, uint32_t flags)
{
    uint64_t begin, end;
    if (__builtin_add_overflow(data_start, t->offset, &begin) ||
        __builtin_add_overflow(begin, t->bytes, &end) || end > INT64_MAX)
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\": the data offset %" PRIu64 " with %" PRIu64
                          " bytes exceeds 2^63 - 1",
                          GGUF_SHOW(t->name), t->offset, t->bytes);
    t->offset = begin;
    if (end <= part->size && quant_layout_of(t->type))
        t->data = part->data + begin;
    else if (!(flags & GGUF_OPEN_METADATA_ONLY))
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\": its data at bytes %" PRIu64 " to %" PRIu64
                          " lies past the end of the file at %" PRIu64
                          ": the file is cut short or damaged",
                          GGUF_SHOW(t->name), begin, end, part->size);
    return INFER_OK;
}

static void sift_down(int32_t *order, size_t root, size_t n, const struct gguf_tensor *t)
{
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= n)
            return;
        if (child + 1 < n && t[order[child + 1]].offset > t[order[child]].offset)
            child++;
        if (t[order[root]].offset >= t[order[child]].offset)
            return;
        int32_t swap = order[root];
        order[root] = order[child];
        order[child] = swap;
        root = child;
    }
}

/* Heapsort: no hostile order makes it quadratic, and it needs no memory of its
 * own, where the C library's qsort may call malloc behind the allocator's back. */
static void sort_by_offset(int32_t *order, size_t n, const struct gguf_tensor *t)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(order, i, n, t);
    for (size_t end = n; end-- > 1;) {
        int32_t swap = order[0];
        order[0] = order[end];
        order[end] = swap;
        sift_down(order, 0, end, t);
    }
}

static infer_status check_pair(const struct gguf_tensor *low, const struct gguf_tensor *high)
{
    if (low->offset + low->bytes <= high->offset)
        return INFER_OK;
    return base_error(INFER_ERR_FORMAT, "tensors \"%.*s\" and \"%.*s\" overlap at byte %" PRIu64,
                      GGUF_SHOW(low->name), GGUF_SHOW(high->name), high->offset);
}

/* No two tensors of one part may share bytes. Files nearly always list tensors
 * in the order of their data, so a sort is the exception. */
static infer_status check_overlap(const struct gguf_tensor *t, size_t n, const struct base_alloc *a)
{
    infer_status st = INFER_OK;
    size_t i = 1;
    while (i < n && t[i - 1].offset <= t[i].offset)
        i++;
    if (i >= n) {
        for (i = 1; i < n && st == INFER_OK; i++)
            st = check_pair(&t[i - 1], &t[i]);
        return st;
    }

    int32_t *order = base_new_raw(a, n, sizeof *order);
    if (!order)
        return INFER_ERR_NO_MEMORY;
    for (i = 0; i < n; i++)
        order[i] = (int32_t)i;
    sort_by_offset(order, n, t);
    for (i = 1; i < n && st == INFER_OK; i++)
        st = check_pair(&t[order[i - 1]], &t[order[i]]);
    base_free(a, order);
    return st;
}

static infer_status enter_name(struct gguf_file *file, const struct gguf_tensor *t, size_t i)
{
    infer_status st = base_map_add(&file->tensor_index, t->name.data, t->name.size, (int32_t)i);
    if (st != INFER_AGAIN)
        return st;
    const struct gguf_tensor *first =
        &file->tensors[base_map_get(&file->tensor_index, t->name.data, t->name.size, 0)];
    uint64_t at = (uint64_t)((const uint8_t *)t->name.data - file->parts[t->file].data);
    if (first->file == t->file)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" at byte %" PRIu64 " appears twice",
                          GGUF_SHOW(t->name), at);
    return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" at byte %" PRIu64 " is already in part %d",
                      GGUF_SHOW(t->name), at, (int)first->file + 1);
}

infer_status gguf_parse_tensors(struct gguf_file *file, int32_t index)
{
    const struct gguf_part *part = &file->parts[index];
    struct gguf_reader r = {.data = part->data, .size = part->size, .pos = part->keys_end};
    size_t first = file->n_tensors, n = (size_t)part->n_tensors;
    infer_status st;

    if (part->n_tensors > gguf_left(&r) / GGUF_TENSOR_RECORD_MIN)
        return base_error(INFER_ERR_FORMAT,
                          "%" PRIu64 " tensor records are expected at byte %" PRIu64
                          ", the file has room for at most %" PRIu64,
                          part->n_tensors, r.pos, gguf_left(&r) / GGUF_TENSOR_RECORD_MIN);
    if (n > GGUF_MAX_TENSORS - first)
        return base_error(INFER_ERR_LIMIT, "the parts hold more than %d tensors", GGUF_MAX_TENSORS);
    if (!n)
        return INFER_OK;
    st = base_array_grow(&file->alloc, (void **)&file->tensors, first, &file->tensors_capacity,
                         sizeof *file->tensors, n);
    if (st != INFER_OK)
        return st;
    if (!file->tensor_index.slots)
        st = base_map_init(&file->tensor_index, &file->alloc, n);
    if (st != INFER_OK)
        return st;

    struct gguf_tensor *tensors = file->tensors + first;
    for (size_t i = 0; i < n; i++) {
        struct gguf_tensor *t = &tensors[i];
        *t = (struct gguf_tensor){.file = index};
        st = read_tensor(&r, t, part, file->flags);
        if (st != INFER_OK && t->name.size)
            return base_error_prefix(st, "tensor \"%.*s\"", GGUF_SHOW(t->name));
        if (st != INFER_OK)
            return base_error_prefix(st, "tensor %zu of %zu", i + 1, n);
        st = enter_name(file, t, first + i);
        if (st != INFER_OK)
            return st;
    }
    uint64_t data_start = BASE_ALIGN_UP(r.pos, part->alignment);
    for (size_t i = 0; i < n; i++) {
        st = place_tensor(&tensors[i], part, data_start, file->flags);
        if (st != INFER_OK)
            return st;
    }
    file->n_tensors = first + n;
    return check_overlap(tensors, n, &file->alloc);
}
