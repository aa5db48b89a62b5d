/* Pinned pieces of the host's memory that the copy engines fill and empty beside the steps. */
#include "device/cuda_copies.h"

#include "base/error.h"
#include "device/cuda_device.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <string.h>

/* A piece is nobody's, somebody's, or read by the card until `done`. */
enum { PIECE_FREE, PIECE_TAKEN, PIECE_LOADING };

struct piece {
    uint8_t *data;
    cudaEvent_t done;
    int32_t state;
};

struct cuda_copies {
    struct base_alloc alloc;
    pthread_mutex_t lock; /* of what follows; under it nothing is waited for */
    pthread_cond_t given;
    int32_t made;
    void *pinned;
    cudaStream_t in, out;
    cudaEvent_t computed; /* what was launched before; recorded and waited for under the lock */
    struct piece pieces[CUDA_COPIES_PIECES];
};

/* ------------------------------------------------------------------- pieces */

static infer_status check(const struct infer_device *device, cudaError_t error)
{
    return device_cuda_check(device, (int32_t)error, "a copy beside the steps");
}

static void clear(struct cuda_copies *c)
{
    for (int32_t i = 0; i < CUDA_COPIES_PIECES; i++)
        if (c->pieces[i].done && cudaEventDestroy(c->pieces[i].done) != cudaSuccess)
            cudaGetLastError();
    if (c->computed && cudaEventDestroy(c->computed) != cudaSuccess)
        cudaGetLastError();
    if (c->in && cudaStreamDestroy(c->in) != cudaSuccess)
        cudaGetLastError();
    if (c->out && cudaStreamDestroy(c->out) != cudaSuccess)
        cudaGetLastError();
    if (c->pinned && cudaFreeHost(c->pinned) != cudaSuccess)
        cudaGetLastError();
    memset(c->pieces, 0, sizeof c->pieces);
    c->computed = NULL;
    c->in = c->out = NULL;
    c->pinned = NULL;
}

/* Under the lock, with the context current. What was made before a failure goes again. */
static infer_status make(struct cuda_copies *c, const struct infer_device *device)
{
    if (c->made)
        return INFER_OK;
    cudaError_t error = cudaMallocHost(&c->pinned, CUDA_COPIES_PIECES * CUDA_COPIES_PIECE_BYTES);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&c->in, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&c->out, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&c->computed, cudaEventDisableTiming);
    for (int32_t i = 0; i < CUDA_COPIES_PIECES && error == cudaSuccess; i++) {
        c->pieces[i].data = (uint8_t *)c->pinned + (size_t)i * CUDA_COPIES_PIECE_BYTES;
        error = cudaEventCreateWithFlags(&c->pieces[i].done, cudaEventDisableTiming);
    }
    c->made = error == cudaSuccess;
    if (!c->made)
        clear(c);
    return check(device, error);
}

/* Under the lock: a piece that nobody has and the card does not read. */
static struct piece *find_free(struct cuda_copies *c)
{
    for (int32_t i = 0; i < CUDA_COPIES_PIECES; i++) {
        struct piece *p = &c->pieces[i];
        if (p->state == PIECE_LOADING) {
            if (cudaEventQuery(p->done) == cudaSuccess)
                p->state = PIECE_FREE;
            else
                cudaGetLastError(); /* not ready is no error */
        }
        if (p->state == PIECE_FREE)
            return p;
    }
    return NULL;
}

static struct piece *find_loading(struct cuda_copies *c)
{
    for (int32_t i = 0; i < CUDA_COPIES_PIECES; i++)
        if (c->pieces[i].state == PIECE_LOADING)
            return &c->pieces[i];
    return NULL;
}

/* With the context current. *out is NULL where all are taken and that is not to be waited for. Who
 * waits has none, so whoever has one gives it back without waiting for another. */
static infer_status take(struct cuda_copies *c, const struct infer_device *device, int wait,
                         struct piece **out)
{
    struct piece *p = NULL;
    pthread_mutex_lock(&c->lock);
    infer_status st = make(c, device);
    if (st == INFER_OK)
        p = find_free(c);
    while (st == INFER_OK && wait && !p) {
        if ((p = find_loading(c)))
            break;
        pthread_cond_wait(&c->given, &c->lock);
        p = find_free(c);
    }
    const int loading = p && p->state == PIECE_LOADING;
    if (p)
        p->state = PIECE_TAKEN;
    pthread_mutex_unlock(&c->lock);
    *out = p;
    return loading ? check(device, cudaEventSynchronize(p->done)) : st;
}

static void give(struct cuda_copies *c, struct piece *p, int32_t state)
{
    pthread_mutex_lock(&c->lock);
    p->state = state;
    pthread_cond_broadcast(&c->given);
    pthread_mutex_unlock(&c->lock);
}

/* -------------------------------------------------------------------- lists */

/* What lies at a place of a list, `most` bytes of it at most; the place moves on behind it. */
static size_t next(const struct device_range *ranges, struct device_place *p, size_t most)
{
    size_t bytes = BASE_MIN(ranges[p->i].bytes - p->at, most);
    p->at += bytes;
    if (p->at == ranges[p->i].bytes)
        *p = (struct device_place){p->i + 1, 0};
    return bytes;
}

/* As much as a piece holds, from the host or to it. */
static size_t copy_host(const struct device_range *ranges, int32_t n, struct device_place *p,
                        uint8_t *piece, int to_host)
{
    size_t filled = 0;
    while (p->i < n && filled < CUDA_COPIES_PIECE_BYTES) {
        uint8_t *host = (uint8_t *)ranges[p->i].host + p->at;
        size_t bytes = next(ranges, p, CUDA_COPIES_PIECE_BYTES - filled);
        if (to_host)
            memcpy(host, piece + filled, bytes);
        else
            memcpy(piece + filled, host, bytes);
        filled += bytes;
    }
    return filled;
}

/* The same between the piece and the card, whose neighbours go in one call. */
static cudaError_t copy_card(const struct device_range *ranges, int32_t n, struct device_place *p,
                             uint8_t *piece, uint8_t *card, cudaStream_t stream, int to_host)
{
    cudaError_t error = cudaSuccess;
    size_t filled = 0;
    while (p->i < n && filled < CUDA_COPIES_PIECE_BYTES && error == cudaSuccess) {
        const size_t at = ranges[p->i].at + p->at;
        size_t bytes = next(ranges, p, CUDA_COPIES_PIECE_BYTES - filled);
        while (p->i < n && filled + bytes < CUDA_COPIES_PIECE_BYTES &&
               ranges[p->i].at + p->at == at + bytes)
            bytes += next(ranges, p, CUDA_COPIES_PIECE_BYTES - filled - bytes);
        if (bytes && to_host)
            error =
                cudaMemcpyAsync(piece + filled, card + at, bytes, cudaMemcpyDeviceToHost, stream);
        else if (bytes)
            error =
                cudaMemcpyAsync(card + at, piece + filled, bytes, cudaMemcpyHostToDevice, stream);
        filled += bytes;
    }
    return error;
}

/* What `stream` gets from now on follows what the steps were told before. */
static infer_status follow_steps(struct cuda_copies *c, struct infer_device *device,
                                 cudaStream_t stream)
{
    void *steps;
    pthread_mutex_lock(&c->lock);
    infer_status st = device_cuda_enter(device, &steps);
    if (st == INFER_OK) {
        cudaError_t error = cudaEventRecord(c->computed, steps);
        if (error == cudaSuccess)
            error = cudaStreamWaitEvent(stream, c->computed, 0);
        st = check(device, error);
        device_cuda_leave(device);
    }
    pthread_mutex_unlock(&c->lock);
    return st;
}

/* What the steps get from now on follows the copy of a piece. */
static infer_status lead_steps(struct infer_device *device, const struct piece *p)
{
    void *steps;
    infer_status st = device_cuda_enter(device, &steps);
    if (st != INFER_OK)
        return st;
    st = check(device, cudaStreamWaitEvent(steps, p->done, 0));
    device_cuda_leave(device);
    return st;
}

/* ------------------------------------------------------------------ fetching */

static infer_status launch(struct cuda_copies *c, struct device_fetch *f, struct piece *p)
{
    cudaError_t error = copy_card(f->ranges, f->n, &f->launched, p->data, f->from->data, c->out, 1);
    if (error == cudaSuccess)
        error = cudaEventRecord(p->done, c->out);
    if (error != cudaSuccess) { /* nothing may write into the piece once it is given back */
        cudaStreamSynchronize(c->out);
        give(c, p, PIECE_FREE);
        return check(f->from->device, error);
    }
    f->pieces[f->n_pieces++] = p;
    return INFER_OK;
}

/* Launches into pieces that are there; with `wait` into one at least. */
static infer_status launch_more(struct cuda_copies *c, struct device_fetch *f, int wait)
{
    infer_status st = INFER_OK;
    while (st == INFER_OK && f->launched.i < f->n && f->n_pieces < DEVICE_FETCH_PIECES) {
        struct piece *p;
        st = take(c, f->from->device, wait && !f->n_pieces, &p);
        if (!p)
            break;
        st = st == INFER_OK ? launch(c, f, p) : (give(c, p, PIECE_FREE), st);
    }
    return st;
}

infer_status cuda_copies_fetch_begin(struct device_fetch *f)
{
    struct infer_device *device = f->from->device;
    struct cuda_copies *c = device_cuda_copies(device);
    infer_status st = device_cuda_push(device);
    if (st != INFER_OK)
        return st;
    pthread_mutex_lock(&c->lock);
    st = make(c, device);
    pthread_mutex_unlock(&c->lock);
    if (st == INFER_OK)
        st = follow_steps(c, device, c->out);
    if (st == INFER_OK)
        st = launch_more(c, f, 0);
    device_cuda_pop(device);
    return st;
}

infer_status cuda_copies_fetch_order(struct device_fetch *f)
{
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < f->n_pieces && st == INFER_OK; i++)
        st = lead_steps(f->from->device, f->pieces[i]);
    return st;
}

infer_status cuda_copies_fetch_end(struct device_fetch *f)
{
    struct infer_device *device = f->from->device;
    struct cuda_copies *c = device_cuda_copies(device);
    infer_status st = device_cuda_push(device);
    const int pushed = st == INFER_OK;
    for (;;) {
        if (st == INFER_OK)
            st = launch_more(c, f, 1);
        if (!f->n_pieces)
            break;
        struct piece *p = f->pieces[0];
        infer_status done = pushed ? check(device, cudaEventSynchronize(p->done)) : st;
        st = st == INFER_OK ? done : st;
        if (st == INFER_OK)
            copy_host(f->ranges, f->n, &f->arrived, p->data, 1);
        f->pieces[0] = f->pieces[--f->n_pieces];
        give(c, p, PIECE_FREE); /* whatever has failed: somebody may wait for one */
    }
    if (pushed)
        device_cuda_pop(device);
    return st;
}

/* ------------------------------------------------------------------- putting */

static infer_status put_piece(struct cuda_copies *c, struct device_buffer *to,
                              const struct device_range *ranges, int32_t n, struct device_place *at,
                              struct piece *p)
{
    struct device_place read = *at;
    copy_host(ranges, n, &read, p->data, 0);
    cudaError_t error = copy_card(ranges, n, at, p->data, to->data, c->in, 0);
    if (error == cudaSuccess)
        error = cudaEventRecord(p->done, c->in);
    infer_status st = check(to->device, error);
    if (st == INFER_OK)
        st = lead_steps(to->device, p);
    if (st != INFER_OK) /* nothing may read the piece once it is given back */
        cudaStreamSynchronize(c->in);
    give(c, p, st == INFER_OK ? PIECE_LOADING : PIECE_FREE);
    return st;
}

infer_status cuda_copies_put(struct device_buffer *to, const struct device_range *ranges, int32_t n)
{
    struct infer_device *device = to->device;
    struct cuda_copies *c = device_cuda_copies(device);
    struct device_place at = {0, 0};
    int follows = 0;
    infer_status st = device_cuda_push(device);
    if (st != INFER_OK)
        return st;
    while (st == INFER_OK && at.i < n) {
        struct piece *p;
        st = take(c, device, 1, &p);
        if (st == INFER_OK && !follows)
            st = follow_steps(c, device, c->in);
        follows = 1;
        if (st == INFER_OK)
            st = put_piece(c, to, ranges, n, &at, p);
        else if (p)
            give(c, p, PIECE_FREE);
    }
    device_cuda_pop(device);
    return st;
}

/* ---------------------------------------------------------------------- life */

infer_status cuda_copies_create(struct cuda_copies **out, const struct base_alloc *a)
{
    struct cuda_copies *c = base_new(a, 1, sizeof *c);
    if (!c)
        return INFER_ERR_NO_MEMORY;
    c->alloc = *a;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->given, NULL);
    *out = c;
    return INFER_OK;
}

void cuda_copies_destroy(struct cuda_copies **copies)
{
    struct cuda_copies *c = *copies;
    *copies = NULL;
    if (!c)
        return;
    clear(c);
    pthread_cond_destroy(&c->given);
    pthread_mutex_destroy(&c->lock);
    struct base_alloc alloc = c->alloc;
    base_free(&alloc, c);
}
