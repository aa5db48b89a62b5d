/* Copying a space to a GPU: its rows in the card's form, those of a partition side by side, and the
 * centres of the partitions as rows of their own. */
#include "base/error.h"
#include "device/cuda_upload.h"
#include "vector/card_state.h"

#include <infer/index.h>
#include <math.h>
#include <string.h>

#define PIECE_BYTES  ((size_t)16 << 20) /* of rows that are brought to their form at a time */
#define UPLOAD_BYTES ((size_t)64 << 20) /* from here on threads fill pinned memory */

void card_copy_clear(struct vector_copy *copy)
{
    device_buffer_free(&copy->tiles);
    device_buffer_free(&copy->notes);
    device_buffer_free(&copy->ids);
    device_buffer_free(&copy->centre_tiles);
    device_buffer_free(&copy->centre_notes);
    device_buffer_free(&copy->centre_ids);
    base_free(&copy->alloc, copy->first_tile);
    copy->first_tile = NULL;
    copy->n_partitions = 0;
}

/* What making a copy takes. */
struct making {
    struct vector_card *card;
    struct vector_view view;
    struct device_upload *upload; /* NULL: few bytes */
    struct device_buffer stage;   /* rows, then what is given of each */
    float *given;
    int32_t *places; /* of all rows; NULL: in their order */
    size_t piece_rows, given_at, places_at;
    int32_t n_tiles;
};

static infer_status put(struct making *m, size_t offset, const void *src, size_t bytes)
{
    return m->upload ? device_upload_put(m->upload, card_at(&m->stage, offset), src, bytes)
                     : device_buffer_upload(&m->stage, offset, src, bytes);
}

/* Rows of one chunk of the view. */
static infer_status put_piece(struct making *m, const struct kern_cuda_vectors *to, int32_t first,
                              int32_t n)
{
    const struct vector_view *view = &m->view;
    void *stream;
    for (int32_t i = 0; i < n && to->form != KERN_CUDA_VECTOR_BITS; i++) {
        const struct vector_note *note = vector_view_note(view, first + i);
        m->given[2 * i] = note->factor;
        m->given[2 * i + 1] =
            view->shape.metric == INFER_METRIC_COSINE ? 1.0f + 0x1p-20f : note->length;
    }
    infer_status st = put(m, 0, vector_view_row(view, first), (size_t)n * view->row_bytes);
    if (st == INFER_OK && to->form != KERN_CUDA_VECTOR_BITS)
        st = put(m, m->given_at, m->given, (size_t)n * 2 * sizeof(float));
    if (st == INFER_OK && m->places)
        st = put(m, m->places_at, m->places + first, (size_t)n * sizeof(int32_t));
    if (st == INFER_OK)
        st = device_cuda_enter(m->card->device, &stream);
    if (st != INFER_OK)
        return st;
    const struct kern_cuda_vector_pack_args pack = {
        .to = *to,
        .from = m->stage.data,
        .stride = view->row_bytes,
        .type = view->dtype,
        .given = card_at(&m->stage, m->given_at),
        .places = m->places ? card_at(&m->stage, m->places_at) : NULL,
        .first_place = first,
        .first_id = first,
        .n = n,
        .squares = view->shape.metric == INFER_METRIC_L2,
    };
    st = device_cuda_check(m->card->device, m->card->kernels->pack(&pack, stream),
                           "a copy of vectors");
    device_cuda_leave(m->card->device);
    return st;
}

static infer_status put_rows(struct making *m, const struct kern_cuda_vectors *to)
{
    const int32_t chunk = m->view.shift < 31 ? 1 << m->view.shift : INT32_MAX;
    infer_status st = INFER_OK;
    for (int32_t at = 0; at < m->view.n && st == INFER_OK;) {
        const int32_t left = BASE_MIN(m->view.n - at, chunk - at % chunk);
        const int32_t n = (int32_t)BASE_MIN((size_t)left, m->piece_rows);
        st = put_piece(m, to, at, n);
        at += n;
    }
    return st;
}

/* Rows of a form without any in them. */
static infer_status make_tiles(struct infer_device *device, struct kern_cuda_vectors *rows,
                               struct device_buffer *tiles, struct device_buffer *notes,
                               struct device_buffer *ids)
{
    const size_t places = (size_t)rows->n_tiles * (size_t)kern_cuda_vector_tile_rows(rows->form);
    const size_t bytes =
        (size_t)rows->n_tiles * kern_cuda_vector_tile_bytes(rows->form, rows->dims);
    const size_t note_bytes =
        rows->form == KERN_CUDA_VECTOR_BITS ? 0 : places * sizeof *rows->notes;
    infer_status st = device_buffer_alloc(device, DEVICE_INDEX, bytes, tiles);
    if (st == INFER_OK && note_bytes)
        st = device_buffer_alloc(device, DEVICE_INDEX, note_bytes, notes);
    if (st == INFER_OK)
        st = device_buffer_alloc(device, DEVICE_INDEX, places * sizeof(int32_t), ids);
    if (st == INFER_OK)
        st = device_buffer_fill(tiles, 0, 0, bytes);
    if (st == INFER_OK && note_bytes)
        st = device_buffer_fill(notes, 0, 0, note_bytes);
    if (st == INFER_OK)
        st = device_buffer_fill(ids, 0, 0xff, places * sizeof(int32_t));
    rows->tiles = tiles->data;
    rows->notes = notes->data;
    rows->ids = ids->data;
    return st;
}

/* Partitions begin with a tile. Of a damaged file they may name rows that are not there, or one
 * twice: rows stay in their order then, and are searched without them. */
static infer_status find_places(struct vector_copy *copy, struct making *m,
                                const struct vector_partitions *p)
{
    const struct base_alloc *a = &copy->alloc;
    const int32_t rows = kern_cuda_vector_tile_rows(copy->rows.form);
    int32_t tile = 0;
    m->n_tiles = BASE_DIV_UP(m->view.n, rows);
    if (!p || p->n_rows != m->view.n || copy->rows.form == KERN_CUDA_VECTOR_BITS)
        return INFER_OK;
    m->places = base_new_raw(a, (size_t)m->view.n, sizeof *m->places);
    copy->first_tile = base_new_raw(a, (size_t)p->n + 1, sizeof *copy->first_tile);
    if (!m->places || !copy->first_tile)
        return INFER_ERR_NO_MEMORY;
    memset(m->places, 0xff, (size_t)m->view.n * sizeof *m->places);
    for (int32_t i = 0; i < p->n; i++) {
        copy->first_tile[i] = tile;
        for (uint32_t at = p->begin[i]; at < p->begin[i + 1]; at++) {
            const uint32_t row = p->rows[at];
            if (row >= (uint32_t)m->view.n || m->places[row] >= 0) {
                base_free(a, m->places);
                m->places = NULL;
                return INFER_OK;
            }
            m->places[row] = tile * rows + (int32_t)(at - p->begin[i]);
        }
        tile += BASE_DIV_UP((int32_t)(p->begin[i + 1] - p->begin[i]), rows);
    }
    copy->first_tile[p->n] = tile;
    copy->n_partitions = p->n;
    m->n_tiles = tile;
    return INFER_OK;
}

/* ------------------------------------------------------------------ centres */

/* The mean of each partition's rows, and 1 and its length; under COSINE at length 1. */
static void make_centres(const struct making *m, const struct vector_partitions *p, float *sums,
                         float *given)
{
    const int32_t dims = m->view.shape.dims;
    for (int32_t i = 0; i < p->n; i++) {
        float *sum = sums + (size_t)i * (size_t)dims;
        const double n = (double)(p->begin[i + 1] - p->begin[i]);
        double square = 0.0, scale = n > 0.0 ? 1.0 / n : 0.0;
        for (int32_t d = 0; d < dims; d++)
            square += (double)sum[d] * (double)sum[d];
        if (m->view.shape.metric == INFER_METRIC_COSINE)
            scale = square > 0.0 ? 1.0 / sqrt(square) : 0.0;
        for (int32_t d = 0; d < dims; d++)
            sum[d] = (float)((double)sum[d] * scale);
        given[2 * i] = 1.0f;
        given[2 * i + 1] = (float)(sqrt(square) * scale);
    }
}

/* first: the partitions' tiles, then sums, then what is given of each, in one stretch. */
static infer_status put_centres(struct vector_copy *copy, struct making *m,
                                const struct vector_partitions *p, struct device_buffer *room,
                                float *host)
{
    struct vector_card *card = m->card;
    const size_t n = (size_t)p->n, dims = (size_t)m->view.shape.dims;
    const size_t sums_at = BASE_ALIGN_UP((n + 1) * sizeof(int32_t), (size_t)256);
    const size_t given_at = sums_at + BASE_ALIGN_UP(n * dims * sizeof(float), (size_t)256);
    const struct kern_cuda_vector_sums_args sums = {copy->rows, card_at(room, 0),
                                                    card_at(room, sums_at), p->n};
    const struct kern_cuda_vector_pack_args pack = {
        .to = copy->centres,
        .from = card_at(room, sums_at),
        .stride = dims * sizeof(float),
        .type = INFER_DTYPE_F32,
        .given = card_at(room, given_at),
        .n = p->n,
        .squares = m->view.shape.metric == INFER_METRIC_L2,
    };
    void *stream;
    infer_status st =
        device_buffer_upload(room, 0, copy->first_tile, (n + 1) * sizeof *copy->first_tile);
    if (st == INFER_OK)
        st = device_cuda_enter(card->device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(card->device, card->kernels->sums(&sums, stream), "sums of partitions");
    device_cuda_leave(card->device);
    if (st == INFER_OK)
        st = device_buffer_download(host, room, sums_at, n * dims * sizeof(float));
    if (st != INFER_OK)
        return st;
    make_centres(m, p, host, host + n * dims);
    st = device_buffer_upload(room, sums_at, host, n * dims * sizeof(float));
    if (st == INFER_OK)
        st = device_buffer_upload(room, given_at, host + n * dims, n * 2 * sizeof(float));
    if (st == INFER_OK)
        st = device_cuda_enter(card->device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(card->device, card->kernels->pack(&pack, stream), "a copy of centres");
    device_cuda_leave(card->device);
    return st;
}

static infer_status fill_centres(struct vector_copy *copy, struct making *m,
                                 const struct vector_partitions *p)
{
    const size_t n = (size_t)p->n, dims = (size_t)m->view.shape.dims;
    const size_t bytes = (n + 1) * 4 + n * dims * sizeof(float) + n * 8 + 1024;
    struct device_buffer room = {0};
    float *host = base_new_raw(&copy->alloc, n * (dims + 2), sizeof *host);
    copy->centres = (struct kern_cuda_vectors){.form = KERN_CUDA_VECTOR_HALF,
                                               .dims = m->view.shape.dims,
                                               .n_tiles = BASE_ALIGN_UP(BASE_DIV_UP(p->n, 16), 2)};
    infer_status st = host ? INFER_OK : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = make_tiles(m->card->device, &copy->centres, &copy->centre_tiles, &copy->centre_notes,
                        &copy->centre_ids);
    if (st == INFER_OK)
        st = device_buffer_alloc(m->card->device, DEVICE_INDEX, bytes, &room);
    if (st == INFER_OK)
        st = put_centres(copy, m, p, &room, host);
    if (st == INFER_OK)
        st = m->card->device->ops->sync(m->card->device);
    device_buffer_free(&room);
    base_free(&copy->alloc, host);
    return st;
}

/* -------------------------------------------------------------------- filling */

static infer_status fill_rows(struct vector_copy *copy, struct making *m)
{
    struct infer_device *device = m->card->device;
    const size_t row_bytes = m->view.row_bytes, all = (size_t)m->view.n * row_bytes;
    m->piece_rows = BASE_MIN(BASE_MAX(PIECE_BYTES / row_bytes, 1), (size_t)m->view.n);
    m->given_at = BASE_ALIGN_UP(m->piece_rows * row_bytes, (size_t)256);
    m->places_at = m->given_at + BASE_ALIGN_UP(m->piece_rows * 2 * sizeof(float), (size_t)256);
    copy->rows.n_tiles = BASE_ALIGN_UP(m->n_tiles + 1, 2); /* no partition has the last */
    infer_status st = make_tiles(device, &copy->rows, &copy->tiles, &copy->notes, &copy->ids);
    if (st == INFER_OK)
        st = device_buffer_alloc(device, DEVICE_INDEX,
                                 m->places_at + m->piece_rows * sizeof(int32_t), &m->stage);
    if (st == INFER_OK && all >= UPLOAD_BYTES)
        st = device_upload_create(&m->upload, device);
    if (st == INFER_OK)
        m->given = base_new_raw(&m->card->alloc, m->piece_rows * 2, sizeof(float));
    if (st == INFER_OK && !m->given)
        st = INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = put_rows(m, &copy->rows);
    const infer_status ended = device_upload_destroy(&m->upload);
    if (st == INFER_OK)
        st = ended;
    return st == INFER_OK ? device->ops->sync(device) : st;
}

infer_status card_copy_fill(struct vector_copy *copy, const struct vector_space *space)
{
    const struct vector_partitions *p =
        atomic_load_explicit(&space->partitions, memory_order_acquire);
    struct making m = {.card = copy->card};
    vector_vectors_view(space->vectors, &m.view);
    copy->n_rows = m.view.n;
    copy->rows =
        (struct kern_cuda_vectors){.form = card_form(&m.view.shape), .dims = m.view.shape.dims};
    infer_status st = find_places(copy, &m, p);
    if (st == INFER_OK)
        st = fill_rows(copy, &m);
    if (st == INFER_OK && copy->n_partitions)
        st = fill_centres(copy, &m, p);
    device_buffer_free(&m.stage);
    base_free(&m.card->alloc, m.given);
    base_free(&m.card->alloc, m.places);
    if (st != INFER_OK)
        return st;
    atomic_store(&copy->bytes, copy->tiles.bytes + copy->notes.bytes + copy->ids.bytes +
                                   copy->centre_tiles.bytes + copy->centre_notes.bytes +
                                   copy->centre_ids.bytes);
    return INFER_OK;
}
