/* One call to the card: queries go up, passes or items are compared, what was kept comes back.
 *
 * Rows are compared in passes, each sixteen times as many as those before it and spread over all:
 * what the passes before found says what is worth keeping of the next one, so that few scores are
 * written anywhere. */
#include "vector/card_state.h"

#define RUN_ROWS                                                                                   \
    32 /* that a warp compares one behind the other: little, so that passes end alike */

static size_t place(size_t *at, size_t bytes)
{
    const size_t here = *at;
    *at = BASE_ALIGN_UP(here + bytes, (size_t)256);
    return here;
}

static struct card_layout layout_of(const struct card_call *c)
{
    const int32_t form = c->copy->rows.form, dims = c->view.shape.dims;
    const size_t n = (size_t)c->n;
    const size_t query = kern_cuda_vector_query_bytes(form, dims);
    const size_t half = c->probes ? kern_cuda_vector_query_bytes(KERN_CUDA_VECTOR_HALF, dims) : 0;
    struct card_layout l = {0};
    size_t at = 0;
    l.values = place(&at, form == KERN_CUDA_VECTOR_BITS ? n * query : n * (size_t)dims * 4);
    l.mask = place(&at, ((size_t)c->n_rows + 63) / 64 * 8);
    l.best = place(&at, n * (size_t)c->keep * 8);
    l.lost = place(&at, n * 4);
    l.pinned_bytes = at;
    l.queries = place(&at, form == KERN_CUDA_VECTOR_BITS ? 0 : n * BASE_MAX(query, half));
    l.notes = place(&at, n * sizeof(struct kern_cuda_vector_note));
    l.keys = place(&at, n * (size_t)c->room * 8);
    l.least = place(&at, n * 8);
    l.counts = place(&at, n * 4);
    l.bytes = at;
    return l;
}

infer_status card_area_grow(struct vector_card *card, struct card_area *area, size_t bytes,
                            size_t pinned_bytes)
{
    infer_status st = INFER_OK;
    if (area->card.bytes < bytes) {
        device_buffer_free(&area->card);
        st = device_buffer_alloc(card->device, DEVICE_INDEX, bytes, &area->card);
    }
    if (st == INFER_OK && area->pinned_bytes < pinned_bytes) {
        void *pinned = NULL;
        device_cuda_host_free(card->device, area->pinned);
        area->pinned = NULL;
        area->pinned_bytes = 0;
        st = device_cuda_host_alloc(card->device, pinned_bytes, &pinned);
        if (st == INFER_OK) {
            area->pinned = pinned;
            area->pinned_bytes = pinned_bytes;
        }
    }
    return st;
}

/* Rows that may be found, by bits. Whether there are others. */
static int32_t make_mask(const struct vector_search *s, int32_t n_rows, uint64_t *mask)
{
    const struct vector_rows *allowed = &s->allowed;
    for (int32_t word = 0; (allowed->bits || s->dead) && word < (n_rows + 63) / 64; word++) {
        const int32_t covered = allowed->n - word * 64;
        uint64_t bits = ~(uint64_t)0;
        if (allowed->bits) {
            bits = covered > 0 ? allowed->bits[word] : 0;
            bits &= covered >= 64 || covered <= 0 ? ~(uint64_t)0 : ((uint64_t)1 << covered) - 1;
        }
        if (s->dead)
            bits &= ~atomic_load_explicit(&s->dead[word], memory_order_relaxed);
        mask[word] = bits;
    }
    return allowed->bits || s->dead;
}

/* Queries in the form of what they are compared with. */
static infer_status ready_queries(const struct card_call *c, const struct card_layout *l,
                                  int32_t form)
{
    struct device_buffer *area = &c->card->area.card;
    const struct kern_cuda_vector_queries_args args = {
        .to = card_at(area, l->queries),
        .notes = card_at(area, l->notes),
        .from = card_at(area, l->values),
        .rounding = card_rounding(&c->view),
        .form = form,
        .dims = c->view.shape.dims,
        .n = c->n,
    };
    void *stream;
    infer_status st =
        form == KERN_CUDA_VECTOR_BITS ? INFER_DONE : device_cuda_enter(c->card->device, &stream);
    if (st != INFER_OK)
        return st == INFER_DONE ? INFER_OK : st;
    st = device_cuda_check(c->card->device, c->card->kernels->queries(&args, stream),
                           "making queries ready");
    device_cuda_leave(c->card->device);
    return st;
}

infer_status card_forget(const struct card_call *c, const struct card_layout *l)
{
    struct device_buffer *area = &c->card->area.card;
    infer_status st = device_buffer_fill(area, l->least, 0, l->bytes - l->least);
    return st == INFER_OK ? device_buffer_fill(area, l->lost, 0, (size_t)c->n * 4) : st;
}

infer_status card_begin(struct card_call *c, struct card_layout *l, int32_t *masked)
{
    struct vector_card *card = c->card;
    *l = layout_of(c);
    infer_status st = card_area_grow(card, &card->area, l->bytes, l->pinned_bytes);
    if (st != INFER_OK)
        return st;
    uint8_t *pinned = card->area.pinned;
    const size_t each = c->copy->rows.form == KERN_CUDA_VECTOR_BITS
                            ? c->view.row_bytes
                            : (size_t)c->view.shape.dims * sizeof(float);
    for (int32_t q = 0; q < c->n; q++) {
        const struct vector_query *query = &c->asked[q].query;
        memcpy(pinned + l->values + (size_t)q * each,
               query->bits ? (const void *)query->bits : (const void *)query->values, each);
    }
    *masked = make_mask(c->asked[0].search, c->n_rows, (uint64_t *)(void *)(pinned + l->mask));
    st = device_cuda_copy_in(card->device, card_at(&card->area.card, l->values), pinned + l->values,
                             (*masked ? l->best : l->mask) - l->values);
    return st == INFER_OK ? card_forget(c, l) : st;
}

static struct kern_cuda_vector_scan_args scan_of(const struct card_call *c,
                                                 const struct card_layout *l,
                                                 const struct kern_cuda_vectors *rows,
                                                 int32_t n_rows, int32_t masked)
{
    const struct device_buffer *area = &c->card->area.card;
    const size_t queries = rows->form == KERN_CUDA_VECTOR_BITS ? l->values : l->queries;
    return (struct kern_cuda_vector_scan_args){
        .rows = *rows,
        .queries = card_at(area, queries),
        .query_notes = card_at(area, l->notes),
        .mask = masked ? card_at(area, l->mask) : NULL,
        .keys = card_at(area, l->keys),
        .least = card_at(area, l->least),
        .counts = card_at(area, l->counts),
        .n_queries = c->n,
        .room = c->room,
        .n_rows = n_rows,
        .run = RUN_ROWS / kern_cuda_vector_tile_rows(rows->form),
        .stride = 1,
    };
}

/* Compares, and leaves the best of what there is now; a copy of these for the host with `last`. */
static infer_status compare(const struct card_call *c, const struct card_layout *l,
                            const struct kern_cuda_vector_scan_args *scan, int32_t last)
{
    const struct device_buffer *area = &c->card->area.card;
    const struct kern_cuda_vector_select_args select = {
        .keys = scan->keys,
        .least = scan->least,
        .counts = scan->counts,
        .lost = card_at(area, l->lost),
        .best = last ? card_at(area, l->best) : NULL,
        .n_queries = c->n,
        .room = c->room,
        .keep = c->keep,
    };
    void *stream;
    infer_status st = device_cuda_enter(c->card->device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(c->card->device, c->card->kernels->scan(scan, stream),
                           "comparing vectors");
    if (st == INFER_OK)
        st = device_cuda_check(c->card->device, c->card->kernels->select(&select, stream),
                               "choosing the best");
    device_cuda_leave(c->card->device);
    return st;
}

infer_status card_passes(const struct card_call *c, const struct card_layout *l,
                         const struct kern_cuda_vectors *rows, int32_t n_rows, int32_t masked)
{
    struct kern_cuda_vector_scan_args scan = scan_of(c, l, rows, n_rows, masked);
    const int32_t runs = BASE_DIV_UP(rows->n_tiles, scan.run);
    infer_status st = ready_queries(c, l, rows->form);
    while (BASE_DIV_UP(runs, scan.stride) > CARD_FIRST_ROWS / RUN_ROWS)
        scan.stride *= CARD_GROWTH;
    for (; scan.stride > 0 && st == INFER_OK; scan.stride /= CARD_GROWTH, scan.later = 1)
        st = compare(c, l, &scan, scan.stride == 1);
    return st;
}

infer_status card_items(const struct card_call *c, const struct card_layout *l, int32_t n_items,
                        size_t asked_at, int32_t n_most, int32_t masked)
{
    struct kern_cuda_vector_scan_args scan = scan_of(c, l, &c->copy->rows, c->n_rows, masked);
    infer_status st = ready_queries(c, l, scan.rows.form);
    scan.items = card_at(&c->card->lists.card, 0);
    scan.asked = card_at(&c->card->lists.card, asked_at);
    scan.n_items = n_items;
    scan.n_queries = n_most;
    return st == INFER_OK ? compare(c, l, &scan, 1) : st;
}

infer_status card_fetch(struct card_call *c, const struct card_layout *l)
{
    struct vector_card *card = c->card;
    uint8_t *pinned = card->area.pinned;
    infer_status st =
        device_cuda_copy_out(card->device, pinned + l->best, card_at(&card->area.card, l->best),
                             l->pinned_bytes - l->best);
    if (st == INFER_OK)
        st = card->device->ops->sync(card->device);
    if (st == INFER_OK) {
        memcpy(c->keys, pinned + l->best, (size_t)c->n * (size_t)c->keep * 8);
        memcpy(c->lost, pinned + l->lost, (size_t)c->n * 4);
    }
    return st;
}
