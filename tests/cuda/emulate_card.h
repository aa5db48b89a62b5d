/* Inside of the emulated runtime: what its files share. */
#ifndef TESTS_CUDA_EMULATE_CARD_H
#define TESTS_CUDA_EMULATE_CARD_H

#include "cuda/emulate.h"
#include "cuda/emulate_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

using work = std::function<void()>;

struct context;

struct CUgraph_st {
    std::vector<work> nodes;
};

struct CUgraphExec_st {
    context *owner;
    std::shared_ptr<const std::vector<work>> nodes;
};

struct capture {
    CUgraph_st *graph;
    CUstream_st *origin;
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    bool invalid;
    std::map<CUstream_st *, long> unjoined; /* the last node of each other stream, joined: 0 */
};

/* What a stream does next: a piece of work, or waiting for a place in another. */
struct item {
    work run;
    CUstream_st *from; /* NULL: it is work */
    long position;
};

struct CUstream_st {
    context *owner;
    bool blocking; /* waits for the stream NULL, and that for it */
    std::deque<item> waiting;
    long done, issued;
    std::shared_ptr<capture> captured;
};

struct CUevent_st {
    context *owner;
    CUstream_st *stream;
    long position;
    std::shared_ptr<capture> captured;
    struct timespec recorded;
};

struct allocation {
    size_t bytes;
    bool host, registered;
};

/* All that dies together. */
struct context {
    std::map<uintptr_t, allocation> memory;
    std::vector<CUstream_st *> streams; /* as they were made; the stream NULL is the first */
    std::set<CUevent_st *> events;
    std::vector<std::shared_ptr<capture>> captures;
    CUstream_st null_stream = {this, true, {}, 0, 0, nullptr};
    cudaError_t lost = cudaSuccess; /* what each call says from then on */

    context()
    {
        streams.push_back(&null_stream);
    }
};

struct card {
    std::recursive_mutex lock;
    std::set<context *> live;
    std::vector<context *> dead; /* kept, so that no handle comes twice */
    context *primary = nullptr;  /* made when a thread without a context needs one */
    size_t total = (size_t)4 << 30, used = 0;
    int processors = 132;
    long calls = 0, fail_at = 0;
    cudaError_t fail_with = cudaSuccess;
    emulated_order order = EMULATED_LAZY;
    uint64_t random = 1;
    int (*driver_current)(void **context) = nullptr;

    card();
};

card &the_card(void);

/* The context that the thread's calls are for: what the driver says, or else the primary one, which
 * is made. NULL: it was destroyed. */
context *current(card &c);
void destroy(card &c, context *ctx);

/* Remembers an error as cudaGetLastError() gives it. */
cudaError_t said(cudaError_t error);

/* Errors after which a context is good for nothing. */
bool is_final(cudaError_t error);

/* One call of the runtime: holds the card and says whether it fails, because it was ordered to or
 * because its context is lost or gone. Few calls need no context. */
struct call {
    card &c;
    std::lock_guard<std::recursive_mutex> hold;
    context *ctx;
    cudaError_t error;

    explicit call(bool in_context = true);
    /* Behind work that was run: the loss may have come with it. */
    cudaError_t end() const
    {
        return error != cudaSuccess ? error : said(ctx->lost);
    }
};

CUstream_st *stream_of(context &ctx, cudaStream_t stream);
bool knows(const context &ctx, const CUstream_st *s);

/* Runs the stream up to a position, counted in work issued. */
void run_until(CUstream_st *s, long position);
void run_all(CUstream_st *s);
void run_context(context &ctx);

/* Whether a call that a capture does not bear may be made now, as
 * cudaThreadExchangeStreamCaptureMode says. */
cudaError_t unsafe(context &ctx);

/* Puts work into the stream, or into the graph while it is captured. */
cudaError_t issue(context &ctx, cudaStream_t stream, work what);

#endif
