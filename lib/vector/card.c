/* The card of an index, and whose copies are on it. */
#include "base/error.h"
#include "kernels/cuda/cuda_kernels.h"
#include "vector/card_state.h"

#include <string.h>

#define LEAST_ROWS 4096 /* fewer are searched before a kernel has started */

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
    card->least_rows = least_rows ? least_rows : LEAST_ROWS;
    card->is_eager = least_rows > 0;
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
    device_buffer_free(&card->lists.card);
    device_cuda_host_free(card->device, card->lists.pinned);
    device_cuda_host_free(card->device, card->area.pinned);
    device_release(&card->device);
    pthread_mutex_destroy(&card->lock);
    pthread_mutex_destroy(&card->copying);
    const struct base_alloc a = card->alloc;
    base_free(&a, card);
}

void card_failed(struct vector_card *card, infer_status status)
{
    int32_t nobody = 0;
    if (status != INFER_ERR_DEVICE || !atomic_compare_exchange_strong(&card->failing, &nobody, 1))
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

void vector_copy_destroy(struct vector_copy **out)
{
    struct vector_copy *copy = *out;
    *out = NULL;
    if (!copy)
        return;
    if (atomic_load(&copy->made)) {
        card_copy_clear(copy);
        atomic_fetch_add(&copy->card->n_freed, 1);
    }
    const struct base_alloc a = copy->alloc;
    base_free(&a, copy);
}

uint64_t vector_card_bytes(const struct vector_space *space)
{
    return space->copy ? atomic_load(&space->copy->bytes) : 0;
}

/* With `copying`. */
static void make_copy(struct vector_card *card, const struct vector_space *space)
{
    struct vector_copy *copy = space->copy;
    const uint64_t freed = atomic_load(&card->n_freed) + 1;
    if (atomic_load(&copy->made) || atomic_load(&card->failed) || copy->tried == freed ||
        vector_space_size(space) < card->least_rows)
        return;
    const infer_status st = card_copy_fill(copy, space);
    if (st != INFER_OK) {
        card_copy_clear(copy);
        copy->tried = freed;
        card_failed(card, st);
        return;
    }
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
