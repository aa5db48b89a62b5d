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

struct CUgraph_st {
    std::vector<work> nodes;
};

struct CUgraphExec_st {
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

struct CUstream_st {
    bool blocking; /* waits for the stream NULL, and that for it */
    std::deque<work> waiting;
    long done, issued;
    std::shared_ptr<capture> captured;
};

struct CUevent_st {
    CUstream_st *stream;
    long position;
    std::shared_ptr<capture> captured;
    struct timespec recorded;
};

struct allocation {
    size_t bytes;
    bool host, registered;
};

struct card {
    std::recursive_mutex lock;
    std::map<uintptr_t, allocation> memory;
    std::set<CUstream_st *> streams;
    std::vector<std::shared_ptr<capture>> captures;
    CUstream_st null_stream = {true, {}, 0, 0, nullptr};
    size_t total = (size_t)4 << 30, used = 0;
    int processors = 132;
    long calls = 0, fail_at = 0;
    cudaError_t fail_with = cudaSuccess, lost = cudaSuccess;

    card()
    {
        long n = 0;
        int error = 0;
        const char *order = getenv("EMULATED_FAIL_AFTER");
        if (order && sscanf(order, "%ld,%d", &n, &error) == 2) {
            fail_at = n;
            fail_with = (cudaError_t)error;
        }
        streams.insert(&null_stream);
    }
};

card &the_card(void);

/* Remembers an error as cudaGetLastError() gives it. */
cudaError_t said(cudaError_t error);

/* One call of the runtime: holds the card and says whether the call was ordered to fail. */
struct call {
    card &c;
    std::lock_guard<std::recursive_mutex> hold;
    cudaError_t error;

    call() : c(the_card()), hold(c.lock), error(c.lost)
    {
        if (++c.calls == c.fail_at && error == cudaSuccess) {
            error = c.fail_with;
            if (error == cudaErrorLaunchFailure)
                c.lost = error;
        }
        said(error);
    }
};

CUstream_st *stream_of(cudaStream_t stream);
bool knows(CUstream_st *s);

/* Runs the stream up to a position, counted in work issued. */
void run_until(CUstream_st *s, long position);
void run_all(CUstream_st *s);
void run_card(card &c);

/* Whether a call that a capture does not bear may be made now, as
 * cudaThreadExchangeStreamCaptureMode says. */
cudaError_t unsafe(card &c);

/* Puts work into the stream, or into the graph while it is captured. */
cudaError_t issue(cudaStream_t stream, work what);

#endif
