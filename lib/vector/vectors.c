/* The vectors of one space: chunks, what is appended, sections of a file. */
#include "vector/vectors.h"

#include "base/error.h"
#include "base/thread.h"
#include "vector/sums.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define CHUNK_BYTES (128 << 10) /* about; a chunk has a power of two of rows, 16 at least */
#define STORE_ROWS  16          /* fewer are not shared among threads */
#define LENGTH_MAX  1e18        /* squares and products of lengths stay far from a float's end */

/* Grows by a larger copy; those before stay, since readers may be in them, and are together no
 * larger. */
struct directory {
    struct directory *before;
    int32_t room;
    struct vector_chunk chunks[];
};

struct vector_vectors {
    struct base_alloc alloc;
    struct vector_view shape; /* all but chunks and n, which change */
    int32_t is_fixed;
    int32_t max_rows;
    int32_t n_chunks;
    _Atomic int32_t n;
    _Atomic(struct directory *) directory;
    _Atomic uint64_t bytes;
    /* Of rows that are being appended, for each thread: dims floats, and dims bytes behind them. */
    uint8_t *values;
    int32_t n_values;
};

static int32_t is_binary(const struct vector_shape *shape)
{
    return shape->type == INFER_INDEX_BINARY;
}

static size_t shape_row_bytes(const struct vector_shape *shape)
{
    const size_t dims = (size_t)shape->dims;

    switch (shape->type) {
    case INFER_INDEX_F32:
        return 4 * dims;
    case INFER_INDEX_F16:
    case INFER_INDEX_BF16:
        return 2 * dims;
    case INFER_INDEX_I8: /* tiles take bytes by fours */
        return BASE_ALIGN_UP(dims, (size_t)4);
    default:
        return BASE_DIV_UP(dims, (size_t)64) * 8;
    }
}

static infer_dtype shape_dtype(const struct vector_shape *shape)
{
    switch (shape->type) {
    case INFER_INDEX_F32:
        return INFER_DTYPE_F32;
    case INFER_INDEX_F16:
        return INFER_DTYPE_F16;
    case INFER_INDEX_BF16:
        return INFER_DTYPE_BF16;
    case INFER_INDEX_I8:
        return INFER_DTYPE_I8;
    default:
        return -1;
    }
}

static infer_status new_vectors(struct vector_vectors **out,
                                const struct vector_space_config *config)
{
    struct vector_vectors *v = base_new(config->alloc, 1, sizeof(*v));

    if (!v) {
        return INFER_ERR_NO_MEMORY;
    }
    v->alloc = *config->alloc;
    v->shape.kernels = config->kernels;
    v->shape.shape = config->shape;
    v->shape.dtype = shape_dtype(&config->shape);
    v->shape.row_bytes = shape_row_bytes(&config->shape);
    v->shape.note_bytes = sizeof(struct vector_note);
    v->max_rows = config->max_rows > 0 ? config->max_rows : INT32_MAX;
    v->bytes = sizeof(*v);
    *out = v;
    return INFER_OK;
}

/* A directory with room for so many chunks, and those that are there. */
static infer_status grow_directory(struct vector_vectors *v, int32_t room)
{
    struct directory *before = atomic_load_explicit(&v->directory, memory_order_relaxed);
    const size_t bytes = sizeof(*before) + (size_t)room * sizeof(before->chunks[0]);
    struct directory *d = base_new(&v->alloc, 1, bytes);

    if (!d) {
        return INFER_ERR_NO_MEMORY;
    }
    d->before = before;
    d->room = room;
    if (v->n_chunks > 0) {
        memcpy(d->chunks, before->chunks, (size_t)v->n_chunks * sizeof(d->chunks[0]));
    }
    v->bytes += bytes;
    atomic_store_explicit(&v->directory, d, memory_order_release);
    return INFER_OK;
}

static size_t values_bytes(const struct vector_vectors *v)
{
    return BASE_ALIGN_UP((size_t)v->shape.shape.dims * (sizeof(float) + 1), (size_t)64);
}

static infer_status reserve_values(struct vector_vectors *v, int32_t n_threads)
{
    uint8_t *values;

    if (v->n_values >= n_threads) {
        return INFER_OK;
    }
    values = base_new(&v->alloc, (size_t)n_threads, values_bytes(v));
    if (!values) {
        return INFER_ERR_NO_MEMORY;
    }
    base_free(&v->alloc, v->values);
    v->values = values;
    v->bytes += (size_t)(n_threads - v->n_values) * values_bytes(v);
    v->n_values = n_threads;
    return INFER_OK;
}

infer_status vector_vectors_create(struct vector_vectors **out,
                                   const struct vector_space_config *config)
{
    struct vector_vectors *v;
    infer_status status = new_vectors(&v, config);

    if (status) {
        return status;
    }
    v->shape.shift = 4;
    while (v->shape.row_bytes << (v->shape.shift + 1) <= CHUNK_BYTES) {
        v->shape.shift++;
    }
    status = reserve_values(v, 1);
    if (!status) {
        status = grow_directory(v, 8);
    }
    if (status) {
        vector_vectors_destroy(&v);
        return status;
    }
    *out = v;
    return INFER_OK;
}

infer_status vector_vectors_open(struct vector_vectors **out,
                                 const struct vector_space_config *config,
                                 const struct vector_file *file, int32_t n,
                                 const struct vector_note *notes, size_t note_bytes)
{
    struct vector_vectors *v;
    struct directory *d;
    const void *rows, *section = notes;
    infer_status status;

    if (n < 0) {
        return base_error(INFER_ERR_FORMAT, "%s names %d vectors", vector_file_path(file), (int)n);
    }
    status = new_vectors(&v, config);
    if (status) {
        return status;
    }
    v->is_fixed = 1;
    v->shape.shift = 31;
    status = vector_file_array(file, "vectors", &rows, (size_t)n, v->shape.row_bytes);
    if (!status && notes) {
        v->shape.note_bytes = note_bytes;
    } else if (!status && !is_binary(&config->shape)) {
        status = vector_file_array(file, "vector notes", &section, (size_t)n,
                                   sizeof(struct vector_note));
    }
    if (!status) {
        status = grow_directory(v, 1);
    }
    if (status) {
        vector_vectors_destroy(&v);
        return status;
    }
    d = atomic_load_explicit(&v->directory, memory_order_relaxed);
    d->chunks[0] = (struct vector_chunk){rows, section};
    atomic_store_explicit(&v->n, n, memory_order_relaxed);
    *out = v;
    return INFER_OK;
}

/* Of a chunk that grows: rows, and behind them their notes. */
static size_t chunk_bytes(const struct vector_vectors *v, size_t *notes_at)
{
    const size_t rows = (size_t)1 << v->shape.shift;

    *notes_at = BASE_ALIGN_UP(rows * v->shape.row_bytes, (size_t)64);
    return *notes_at + (is_binary(&v->shape.shape) ? 0 : rows * sizeof(struct vector_note));
}

void vector_vectors_destroy(struct vector_vectors **vectors)
{
    struct vector_vectors *v = *vectors;
    struct directory *d;
    size_t notes_at;

    if (!v) {
        return;
    }
    d = atomic_load_explicit(&v->directory, memory_order_relaxed);
    for (int32_t i = 0; i < v->n_chunks; i++) {
        base_free_pages(&v->alloc, (void *)(uintptr_t)d->chunks[i].rows, chunk_bytes(v, &notes_at));
    }
    while (d) {
        struct directory *before = d->before;

        base_free(&v->alloc, d);
        d = before;
    }
    base_free(&v->alloc, v->values);
    base_free(&v->alloc, v);
    *vectors = NULL;
}

static infer_status write_part(const struct vector_view *view, struct vector_file_writer *writer,
                               const char *name, int32_t notes)
{
    const int64_t chunk_rows = (int64_t)1 << view->shift;
    const size_t bytes = notes ? sizeof(struct vector_note) : view->row_bytes;
    infer_status status = vector_file_begin(writer, name, 64);

    for (int64_t first = 0; first < view->n && !status; first += chunk_rows) {
        const struct vector_chunk *chunk = &view->chunks[first >> view->shift];
        const int64_t n = BASE_MIN(chunk_rows, view->n - first);

        status = vector_file_append(writer,
                                    notes ? (const void *)chunk->notes : (const void *)chunk->rows,
                                    (size_t)n * bytes);
    }
    return status;
}

infer_status vector_vectors_write(const struct vector_vectors *vectors, int32_t notes,
                                  struct vector_file_writer *writer)
{
    struct vector_view view;
    infer_status status;

    vector_vectors_view(vectors, &view);
    status = write_part(&view, writer, "vectors", 0);
    if (!status && notes && !is_binary(&view.shape)) {
        status = write_part(&view, writer, "vector notes", 1);
    }
    return status;
}

/* -------------------------------------------------------------- appending */

static infer_status check_row(const struct vector_shape *shape, const float *x, int32_t row)
{
    const int32_t is_f16 = shape->type == INFER_INDEX_F16 && shape->metric != INFER_METRIC_COSINE;
    const double sum = vector_sum_products(x, x, shape->dims);

    for (int32_t i = 0; i < shape->dims && (is_f16 || !isfinite(sum)); i++) {
        if (!isfinite(x[i])) {
            return base_error(INFER_ERR_INVALID, "element %d of vector %d is not finite", (int)i,
                              (int)row);
        }
        if (is_f16 && fabsf(x[i]) > 65504.0f) {
            return base_error(INFER_ERR_INVALID,
                              "element %d of vector %d is %g, F16 has numbers up to 65504", (int)i,
                              (int)row, (double)x[i]);
        }
    }
    if (sum > LENGTH_MAX * LENGTH_MAX) {
        return base_error(INFER_ERR_INVALID, "vector %d has length %g, at most 1e18 is possible",
                          (int)row, sqrt(sum));
    }
    if (sum == 0.0 && shape->metric == INFER_METRIC_COSINE) {
        return base_error(INFER_ERR_INVALID, "vector %d is all zeros, which has no cosine",
                          (int)row);
    }
    return INFER_OK;
}

infer_status vector_vectors_check(const struct vector_shape *shape, const float *vectors, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const infer_status status = check_row(shape, vectors + (size_t)i * (size_t)shape->dims, i);

        if (status) {
            return status;
        }
    }
    return INFER_OK;
}

static infer_status new_chunk(struct vector_vectors *v)
{
    struct directory *d = atomic_load_explicit(&v->directory, memory_order_relaxed);
    size_t notes_at;
    const size_t bytes = chunk_bytes(v, &notes_at);
    uint8_t *chunk;

    if (v->n_chunks == d->room) {
        const infer_status status = grow_directory(v, 2 * d->room);

        if (status) {
            return status;
        }
        d = atomic_load_explicit(&v->directory, memory_order_relaxed);
    }
    chunk = base_new_pages(&v->alloc, bytes);
    if (!chunk) {
        return INFER_ERR_NO_MEMORY;
    }
    d->chunks[v->n_chunks].rows = chunk;
    d->chunks[v->n_chunks].notes =
        is_binary(&v->shape.shape) ? NULL : (struct vector_note *)(void *)(chunk + notes_at);
    v->n_chunks++;
    v->bytes += bytes;
    return INFER_OK;
}

/* Chunks for n rows more; *first is where they begin. */
static infer_status reserve(struct vector_vectors *v, int32_t n, int32_t *first)
{
    const int32_t size = atomic_load_explicit(&v->n, memory_order_relaxed);

    if (v->is_fixed) {
        return base_error(INFER_ERR_UNSUPPORTED, "vectors in a file do not grow");
    }
    if (n > v->max_rows - size) {
        return base_error(INFER_ERR_LIMIT, "%d vectors and %d more are beyond the limit of %d",
                          (int)size, (int)n, (int)v->max_rows);
    }
    while ((int64_t)v->n_chunks << v->shape.shift < (int64_t)size + n) {
        const infer_status status = new_chunk(v);

        if (status) {
            return status;
        }
    }
    *first = size;
    return INFER_OK;
}

static void store_bits(uint8_t *row, const float *x, int32_t dims, size_t bytes)
{
    memset(row, 0, bytes);
    for (int32_t i = 0; i < dims; i++) {
        if (x[i] >= 0.0f) {
            row[i / 8] |= (uint8_t)(1u << i % 8);
        }
    }
}

/* Bounds are kept a little larger than they were computed. */
static float float_above(double x)
{
    return (float)(x * (1.0 + 0x1p-22));
}

static void store_s8(const struct vector_vectors *v, int8_t *row, const float *values,
                     struct vector_note *note)
{
    const int32_t dims = v->shape.shape.dims;
    double sum = 0.0;

    memset(row, 0, v->shape.row_bytes);
    note->factor = v->shape.kernels->vector.quantize(row, values, dims);
    for (int32_t i = 0; i < dims; i++) {
        sum += (double)row[i] * (double)row[i];
    }
    if (v->shape.shape.metric == INFER_METRIC_COSINE) {
        note->factor = (float)(1.0 / sqrt(sum));
    } else {
        note->length = float_above(sqrt(sum) * (double)note->factor);
    }
    note->scale = 1.0f;
    note->error = 0.0f;
}

/* What a row of floats loses as bytes. */
static void note_bytes(const struct vector_vectors *v, float *values, struct vector_note *note)
{
    const int32_t dims = v->shape.shape.dims;
    const float *x = values;
    int8_t *bytes = (int8_t *)(values + dims);
    float max = 0.0f;
    double sum = 0.0;

    for (int32_t i = 0; i < dims; i++) {
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    }
    note->scale = max < 0x1p-110f ? 0.0f : max / 127.0f;
    v->shape.kernels->vector.code[INFER_DTYPE_F32](
        bytes, x, note->scale > 0.0f ? 1.0f / note->scale : 0.0f, dims);
    for (int32_t i = 0; i < dims; i++) {
        const double lost = (double)x[i] - (double)note->scale * (double)bytes[i];

        sum += lost * lost;
    }
    note->error = float_above(sqrt(sum));
}

static void store_floats(const struct vector_vectors *v, uint8_t *row, float *values,
                         struct vector_note *note)
{
    const struct kern_quant *quant = &v->shape.kernels->quant;
    const int32_t dims = v->shape.shape.dims;
    double length;

    quant->narrow[v->shape.dtype](row, values, dims);
    quant->dequant[v->shape.dtype](values, row, dims);
    length = sqrt(vector_sum_products(values, values, dims));
    note->factor = 1.0f;
    if (v->shape.shape.metric != INFER_METRIC_COSINE) {
        note->length = float_above(length);
    } else if (v->shape.shape.type != INFER_INDEX_F32) {
        note->factor = (float)(1.0 / length);
    }
    note_bytes(v, values, note);
}

static void store_row(const struct vector_vectors *v, int32_t at, const float *x, float *values)
{
    const struct directory *d = atomic_load_explicit(&v->directory, memory_order_relaxed);
    const struct vector_chunk *chunk = &d->chunks[at >> v->shape.shift];
    const size_t inside = (size_t)at & (((size_t)1 << v->shape.shift) - 1);
    const int32_t dims = v->shape.shape.dims;
    uint8_t *row = (uint8_t *)(uintptr_t)chunk->rows + inside * v->shape.row_bytes;
    struct vector_note *note;

    if (is_binary(&v->shape.shape)) {
        store_bits(row, x, dims, v->shape.row_bytes);
        return;
    }
    note = (struct vector_note *)(uintptr_t)&chunk->notes[inside];
    if (v->shape.shape.metric == INFER_METRIC_COSINE) {
        note->length = v->shape.kernels->vector.normalize(values, x, dims);
    } else {
        memcpy(values, x, (size_t)dims * sizeof(*x));
    }
    if (v->shape.shape.type == INFER_INDEX_I8) {
        store_s8(v, (int8_t *)row, values, note);
    } else {
        store_floats(v, row, values, note);
    }
}

struct store {
    const struct vector_vectors *vectors;
    const float *from;
    int32_t at;
};

static void store_some(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct store *s = arg;
    const struct vector_vectors *v = s->vectors;
    float *values = (float *)(void *)(v->values + (size_t)thread * values_bytes(v));

    for (int32_t i = begin; i < end; i++) {
        store_row(v, s->at + i, s->from + (size_t)i * (size_t)v->shape.shape.dims, values);
    }
}

infer_status vector_vectors_add(struct vector_vectors *vectors, const float *from, int32_t n,
                                int32_t *first, struct base_pool *pool)
{
    struct store store = {.vectors = vectors, .from = from};
    int32_t at;
    infer_status status = reserve(vectors, n, &at);

    if (!status) {
        status = reserve_values(vectors, pool ? base_pool_threads(pool) : 1);
    }
    if (status) {
        return status;
    }
    store.at = at;
    if (pool) {
        base_pool_run(pool, store_some, &store, n, STORE_ROWS);
    } else {
        store_some(&store, 0, n, 0);
    }
    *first = at;
    atomic_store_explicit(&vectors->n, at + n, memory_order_release);
    return INFER_OK;
}

infer_status vector_vectors_add_rows(struct vector_vectors *vectors, const struct vector_view *from,
                                     const int32_t *rows, int32_t n, int32_t *first)
{
    struct vector_view to;
    int32_t at;
    const infer_status status = reserve(vectors, n, &at);

    if (status) {
        return status;
    }
    vector_vectors_view(vectors, &to);
    for (int32_t i = 0; i < n; i++) {
        memcpy((void *)(uintptr_t)vector_view_row(&to, at + i), vector_view_row(from, rows[i]),
               to.row_bytes);
        if (!is_binary(&to.shape)) {
            *(struct vector_note *)(uintptr_t)vector_view_note(&to, at + i) =
                *vector_view_note(from, rows[i]);
        }
    }
    *first = at;
    atomic_store_explicit(&vectors->n, at + n, memory_order_release);
    return INFER_OK;
}

int32_t vector_vectors_size(const struct vector_vectors *vectors)
{
    return atomic_load_explicit(&vectors->n, memory_order_acquire);
}

uint64_t vector_vectors_bytes(const struct vector_vectors *vectors)
{
    return atomic_load_explicit(&vectors->bytes, memory_order_relaxed);
}

/* The count first: chunks of all rows that it counts are in a directory read after it. */
void vector_vectors_view(const struct vector_vectors *vectors, struct vector_view *view)
{
    const int32_t n = vector_vectors_size(vectors);

    *view = vectors->shape;
    view->n = n;
    view->chunks = atomic_load_explicit(&vectors->directory, memory_order_acquire)->chunks;
}
