/* Copies of spaces on a GPU. */
#include "base/error.h"
#include "device/cuda_upload.h"
#include "kernels/cuda/cuda_kernels.h"
#include "vector/card_state.h"

#include <infer/index.h>
#include <string.h>

#define PIECE_BYTES  ((size_t)16 << 20) /* of rows that are brought to their form at a time */
#define UPLOAD_BYTES ((size_t)64 << 20) /* from here on threads fill pinned memory */

infer_status vector_card_create(struct vector_card **out, const struct base_alloc *a,
                                struct infer_device *device, int32_t least_rows)
{
    const struct kern_cuda *kernels = device ? device_cuda_kernels(device) : NULL;
    *out = NULL;
    if (!kernels || !kernels->vector.scan)
        return INFER_OK;
    struct vector_card *card = base_new(a, 1, sizeof *card);
    if (!card)
        return INFER_ERR_NO_MEMORY;
    card->alloc = *a;
    card->kernels = &kernels->vector;
    card->least_rows = least_rows ? least_rows : CARD_LEAST_ROWS;
    card->device = device_retain(device);
    pthread_mutex_init(&card->lock, NULL);
    pthread_mutex_init(&card->copying, NULL);
    *out = card;
    return INFER_OK;
}

void vector_card_destroy(struct vector_card **out)
{
    struct vector_card *card = *out;
    *out = NULL;
    if (!card)
        return;
    device_buffer_free(&card->area.card);
    device_cuda_host_free(card->device, card->area.pinned);
    device_release(&card->device);
    pthread_mutex_destroy(&card->lock);
    pthread_mutex_destroy(&card->copying);
    const struct base_alloc a = card->alloc;
    base_free(&a, card);
}

void card_failed(struct vector_card *card, infer_status status)
{
    if (status != INFER_ERR_DEVICE || atomic_load(&card->failed))
        return;
    const char *why = base_error_text();
    const size_t n = strnlen(why, sizeof card->failure - 1);
    memcpy(card->failure, why, n);
    card->failure[n] = 0;
    atomic_store(&card->failed, 1);
}

const char *vector_card_failure(struct vector_card *card)
{
    return card && atomic_load(&card->failed) ? card->failure : NULL;
}

/* ------------------------------------------------------------------- copies */

infer_status vector_copy_create(struct vector_copy **out, const struct base_alloc *a,
                                struct vector_card *card)
{
    struct vector_copy *copy = base_new(a, 1, sizeof *copy);
    if (!copy)
        return INFER_ERR_NO_MEMORY;
    copy->alloc = *a;
    copy->card = card;
    *out = copy;
    return INFER_OK;
}

static void free_buffers(struct vector_copy *copy)
{
    device_buffer_free(&copy->tiles);
    device_buffer_free(&copy->notes);
    device_buffer_free(&copy->ids);
}

void vector_copy_destroy(struct vector_copy **out)
{
    struct vector_copy *copy = *out;
    *out = NULL;
    if (!copy)
        return;
    if (atomic_load(&copy->made)) {
        free_buffers(copy);
        atomic_fetch_add(&copy->card->n_freed, 1);
    }
    const struct base_alloc a = copy->alloc;
    base_free(&a, copy);
}

uint64_t vector_card_bytes(const struct vector_space *space)
{
    return space->copy ? atomic_load(&space->copy->bytes) : 0;
}

/* What making a copy takes. */
struct making {
    struct vector_card *card;
    struct vector_view view;
    struct device_upload *upload; /* NULL: few bytes */
    struct device_buffer stage;   /* rows, then what is given of each */
    float *given;
    size_t piece_rows;
    int32_t squares;
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
    const size_t given_at = BASE_ALIGN_UP(m->piece_rows * view->row_bytes, (size_t)256);
    void *stream;
    for (int32_t i = 0; i < n && to->form != KERN_CUDA_VECTOR_BITS; i++) {
        const struct vector_note *note = vector_view_note(view, first + i);
        m->given[2 * i] = note->factor;
        m->given[2 * i + 1] =
            view->shape.metric == INFER_METRIC_COSINE ? 1.0f + 0x1p-20f : note->length;
    }
    infer_status st = put(m, 0, vector_view_row(view, first), (size_t)n * view->row_bytes);
    if (st == INFER_OK && to->form != KERN_CUDA_VECTOR_BITS)
        st = put(m, given_at, m->given, (size_t)n * 2 * sizeof(float));
    if (st == INFER_OK)
        st = device_cuda_enter(m->card->device, &stream);
    if (st != INFER_OK)
        return st;
    const struct kern_cuda_vector_pack_args pack = {
        .to = *to,
        .from = m->stage.data,
        .stride = view->row_bytes,
        .type = view->dtype,
        .given = card_at(&m->stage, given_at),
        .first_place = first,
        .first_id = first,
        .n = n,
        .squares = m->squares,
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

static infer_status make_buffers(struct vector_copy *copy, struct making *m)
{
    struct infer_device *device = m->card->device;
    const struct vector_shape *shape = &m->view.shape;
    const int32_t form = card_form(shape), rows = kern_cuda_vector_tile_rows(form);
    const int32_t n_tiles = BASE_ALIGN_UP(BASE_DIV_UP(m->view.n, rows), 2);
    const size_t places = (size_t)n_tiles * (size_t)rows;
    const size_t bytes = (size_t)n_tiles * kern_cuda_vector_tile_bytes(form, shape->dims);
    const size_t notes = form == KERN_CUDA_VECTOR_BITS ? 0 : places * sizeof *copy->rows.notes;
    infer_status st = device_buffer_alloc(device, bytes, &copy->tiles);
    if (st == INFER_OK && notes)
        st = device_buffer_alloc(device, notes, &copy->notes);
    if (st == INFER_OK)
        st = device_buffer_alloc(device, places * sizeof(int32_t), &copy->ids);
    if (st == INFER_OK)
        st = device_buffer_fill(&copy->tiles, 0, 0, bytes);
    if (st == INFER_OK && notes)
        st = device_buffer_fill(&copy->notes, 0, 0, notes);
    if (st == INFER_OK)
        st = device_buffer_fill(&copy->ids, 0, 0xff, places * sizeof(int32_t));
    copy->rows = (struct kern_cuda_vectors){.form = form,
                                            .dims = shape->dims,
                                            .n_tiles = n_tiles,
                                            .tiles = copy->tiles.data,
                                            .notes = copy->notes.data,
                                            .ids = copy->ids.data};
    return st;
}

static infer_status fill_copy(struct vector_copy *copy, struct making *m)
{
    struct infer_device *device = m->card->device;
    const size_t row_bytes = m->view.row_bytes, all = (size_t)m->view.n * row_bytes;
    m->piece_rows = BASE_MIN(BASE_MAX(PIECE_BYTES / row_bytes, 1), (size_t)m->view.n);
    m->squares = m->view.shape.metric == INFER_METRIC_L2;
    const size_t stage = BASE_ALIGN_UP(m->piece_rows * row_bytes, (size_t)256) +
                         m->piece_rows * 2 * sizeof(float);
    infer_status st = make_buffers(copy, m);
    if (st == INFER_OK)
        st = device_buffer_alloc(device, stage, &m->stage);
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
    if (st == INFER_OK)
        st = device->ops->sync(device);
    device_buffer_free(&m->stage);
    base_free(&m->card->alloc, m->given);
    return st;
}

/* With `copying`. */
static void make_copy(struct vector_card *card, const struct vector_space *space)
{
    struct vector_copy *copy = space->copy;
    const uint64_t freed = atomic_load(&card->n_freed) + 1;
    struct making m = {.card = card};
    if (atomic_load(&copy->made) || atomic_load(&card->failed) || copy->tried == freed)
        return;
    vector_vectors_view(space->vectors, &m.view);
    if (m.view.n < card->least_rows)
        return;
    const infer_status st = fill_copy(copy, &m);
    if (st != INFER_OK) {
        free_buffers(copy);
        copy->tried = freed;
        card_failed(card, st);
        return;
    }
    copy->n_rows = m.view.n;
    atomic_store(&copy->bytes, copy->tiles.bytes + copy->notes.bytes + copy->ids.bytes);
    atomic_store(&copy->made, 1);
}

int32_t card_copy_ready(struct vector_card *card, const struct vector_space *space)
{
    if (!atomic_load(&space->copy->made) && pthread_mutex_trylock(&card->copying) == 0) {
        make_copy(card, space);
        pthread_mutex_unlock(&card->copying);
    }
    return atomic_load(&space->copy->made) && !atomic_load(&card->failed);
}

void vector_card_keep(const struct vector_space *space)
{
    struct vector_card *card = space->config.card;
    if (!card)
        return;
    pthread_mutex_lock(&card->copying);
    make_copy(card, space);
    pthread_mutex_unlock(&card->copying);
}
