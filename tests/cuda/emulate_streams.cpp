/* The CUDA runtime over the host's memory: streams, events and graphs. Work waits in its stream
 * until something waits for it, the latest moment that a real card allows, or for as long as the
 * order has it (emulated_set_order()). */
#include "cuda/emulate_card.h"

CUstream_st *stream_of(context &ctx, cudaStream_t stream)
{
    if (!stream || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        return &ctx.null_stream;
    return stream;
}

/* A stream of another context is none of this one, as is one that was destroyed. */
bool knows(const context &ctx, const CUstream_st *s)
{
    return std::find(ctx.streams.begin(), ctx.streams.end(), s) != ctx.streams.end();
}

static bool knows(const context &ctx, CUevent_st *event)
{
    return ctx.events.count(event) != 0;
}

/* What a lost context has not done by then it never does. */
void run_until(CUstream_st *s, long position)
{
    context &ctx = *s->owner;
    while (s->done < position && !s->waiting.empty() && !ctx.lost) {
        item next = std::move(s->waiting.front());
        s->waiting.pop_front();
        s->done++;
        if (!next.from)
            next.run();
        else if (knows(ctx, next.from))
            run_until(next.from, next.position);
    }
    if (ctx.lost) {
        s->waiting.clear();
        s->done = s->issued;
    }
}

void run_all(CUstream_st *s)
{
    run_until(s, s->issued);
}

void run_context(context &ctx)
{
    for (CUstream_st *s : ctx.streams)
        run_all(s);
}

cudaError_t unsafe(context &ctx)
{
    cudaError_t error = cudaSuccess;
    for (const std::shared_ptr<capture> &one : ctx.captures)
        if (one->mode == cudaStreamCaptureModeGlobal ||
            (one->mode == cudaStreamCaptureModeThreadLocal &&
             one->thread == std::this_thread::get_id())) {
            one->invalid = true;
            error = cudaErrorStreamCaptureUnsupported;
        }
    return error;
}

/* A stream that is captured cannot be waited for. */
static cudaError_t waits(context &ctx, CUstream_st *s)
{
    if (!knows(ctx, s))
        return cudaErrorInvalidResourceHandle;
    if (!s->captured)
        return cudaSuccess;
    s->captured->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
}

/* SplitMix64 (Steele et al., OOPSLA 2014). */
static uint64_t random_of(card &c, uint64_t below)
{
    uint64_t z = c.random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

/* As far as it gets without what it waits for, and `most` pieces of work at most. */
static void run_some(CUstream_st *s, uint64_t most)
{
    for (uint64_t i = 0; i < most && !s->waiting.empty(); i++) {
        const item &next = s->waiting.front();
        if (next.from && knows(*s->owner, next.from) && next.from->done < next.position)
            return;
        run_until(s, s->done + 1);
    }
}

/* What is done of its own accord when the stream has got more. */
static void go_on(CUstream_st *s)
{
    card &c = the_card();
    context &ctx = *s->owner;
    const bool oldest = ctx.streams.size() > 1 && s == ctx.streams[1];
    if (c.order == EMULATED_EAGER || (c.order == EMULATED_NEWEST && !oldest) ||
        (c.order == EMULATED_OLDEST && oldest))
        run_all(s);
    for (uint64_t i = c.order == EMULATED_RANDOM ? random_of(c, 4) : 0; i > 0; i--)
        run_some(ctx.streams[random_of(c, ctx.streams.size())], 1 + random_of(c, 16));
}

static void push(CUstream_st *s, item what)
{
    s->waiting.push_back(std::move(what));
    s->issued++;
    go_on(s);
}

cudaError_t issue(context &ctx, cudaStream_t stream, work what)
{
    CUstream_st *s = stream_of(ctx, stream);
    if (!knows(ctx, s))
        return cudaErrorInvalidResourceHandle;
    if (s->captured) {
        if (s->captured->invalid)
            return cudaErrorStreamCaptureInvalidated;
        s->captured->graph->nodes.push_back(std::move(what));
        if (s != s->captured->origin)
            s->captured->unjoined[s] = (long)s->captured->graph->nodes.size();
        return cudaSuccess;
    }
    if (s == &ctx.null_stream) {
        for (const std::shared_ptr<capture> &one : ctx.captures)
            if (one->origin->blocking) { /* the stream NULL would have to wait for it */
                one->invalid = true;
                return cudaErrorStreamCaptureImplicit;
            }
        for (CUstream_st *other : ctx.streams)
            if (other != s && other->blocking)
                run_all(other);
    } else if (s->blocking) {
        run_all(&ctx.null_stream);
    }
    push(s, {std::move(what), nullptr, 0});
    return cudaSuccess;
}

int32_t emulated_blocks_at_once(int32_t *n, int32_t threads, size_t shared_bytes)
{
    call now;
    const bool fits = threads <= 1024 && shared_bytes <= 227 * 1024;
    *n = now.error == cudaSuccess && fits ? now.c.processors : 0;
    return (int32_t)now.error;
}

int32_t emulated_launch(dim3 grid, dim3 block, size_t shared_bytes, void *stream, work body,
                        bool together)
{
    call now;
    if (now.error != cudaSuccess)
        return (int32_t)now.error;
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535 ||
        threads == 0 || threads > 1024 || block.z > 64 || shared_bytes > 227 * 1024)
        return (int32_t)said(cudaErrorInvalidConfiguration);
    if (together && (uint64_t)grid.x * grid.y * grid.z > (uint64_t)now.c.processors)
        return (int32_t)said(cudaErrorCooperativeLaunchTooLarge);
    return (int32_t)said(issue(*now.ctx, (cudaStream_t)stream, [=] {
        if (together)
            emulated_run_together(grid, block, shared_bytes, body);
        else
            emulated_run(grid, block, shared_bytes, body);
    }));
}

extern "C" {

/* ------------------------------------------------------- streams, events */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    *stream = new CUstream_st{now.ctx, !(flags & cudaStreamNonBlocking), {}, 0, 0, nullptr};
    now.ctx->streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

/* In a lost context nothing is destroyed but with the context. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    call now;
    if (!now.ctx || now.ctx->lost)
        return now.error;
    if (!stream || !knows(*now.ctx, stream))
        return said(cudaErrorInvalidResourceHandle);
    run_all(stream);
    std::vector<CUstream_st *> &all = now.ctx->streams;
    all.erase(std::find(all.begin(), all.end(), stream));
    delete stream;
    return now.end();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    call now;
    if (now.error == cudaSuccess)
        now.error = said(waits(*now.ctx, stream_of(*now.ctx, stream)));
    if (now.error == cudaSuccess)
        run_all(stream_of(*now.ctx, stream));
    return now.end();
}

/* Not ready the first time, as a host must expect; the work is done by then. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    call now;
    if (now.error == cudaSuccess)
        now.error = said(waits(*now.ctx, stream_of(*now.ctx, stream)));
    if (now.error != cudaSuccess)
        return now.error;
    CUstream_st *s = stream_of(*now.ctx, stream);
    const bool ready = s->waiting.empty();
    run_all(s);
    return ready || now.ctx->lost ? now.end() : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    *event = new CUevent_st{now.ctx, nullptr, 0, nullptr, {}};
    now.ctx->events.insert(*event);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    call now;
    if (!now.ctx || now.ctx->lost)
        return now.error;
    if (!now.ctx->events.erase(event))
        return said(cudaErrorInvalidResourceHandle);
    delete event;
    return now.error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    CUstream_st *s = stream_of(*now.ctx, stream);
    if (!knows(*now.ctx, s) || !knows(*now.ctx, event))
        return said(cudaErrorInvalidResourceHandle);
    event->stream = s;
    event->position = s->captured ? (long)s->captured->graph->nodes.size() : s->issued;
    event->captured = s->captured;
    clock_gettime(CLOCK_MONOTONIC, &event->recorded);
    return cudaSuccess;
}

/* The error of a call that looks at an event. */
static cudaError_t looks(const call &now, cudaEvent_t event)
{
    if (now.error != cudaSuccess)
        return now.error;
    if (!knows(*now.ctx, event))
        return said(cudaErrorInvalidResourceHandle);
    return event->captured ? said(cudaErrorCapturedEvent) : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    call now;
    const cudaError_t error = looks(now, event);
    if (error != cudaSuccess)
        return error;
    if (event->stream && knows(*now.ctx, event->stream))
        run_until(event->stream, event->position);
    return now.end();
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    call now;
    const cudaError_t error = looks(now, event);
    if (error != cudaSuccess)
        return error;
    if (!event->stream || !knows(*now.ctx, event->stream) || event->stream->done >= event->position)
        return cudaSuccess;
    run_until(event->stream, event->position);
    return now.ctx->lost ? now.end() : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    call now;
    if (looks(now, begin) != cudaSuccess || looks(now, end) != cudaSuccess)
        return looks(now, looks(now, begin) != cudaSuccess ? begin : end);
    *ms = (float)(end->recorded.tv_sec - begin->recorded.tv_sec) * 1e3f +
          (float)(end->recorded.tv_nsec - begin->recorded.tv_nsec) * 1e-6f;
    return now.error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    CUstream_st *s = stream_of(*now.ctx, stream);
    if (!knows(*now.ctx, s) || !knows(*now.ctx, event))
        return said(cudaErrorInvalidResourceHandle);
    if (event->captured) { /* the stream joins the capture, or takes another's branch back */
        if (s->captured && s->captured != event->captured)
            return said(cudaErrorStreamCaptureMerge);
        if (!s->captured) {
            s->captured = event->captured;
            s->captured->unjoined[s] = 0;
        }
        auto branch = s->captured->unjoined.find(event->stream);
        if (branch != s->captured->unjoined.end() && branch->second <= event->position)
            branch->second = 0;
        return cudaSuccess;
    }
    if (s->captured)
        return said(cudaErrorStreamCaptureIsolation);
    if (!event->stream)
        return cudaSuccess;
    push(s, {nullptr, event->stream, event->position});
    return cudaSuccess;
}

/* ----------------------------------------------------------------- graphs */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    if (!stream || !knows(*now.ctx, stream))
        return said(cudaErrorStreamCaptureUnsupported);
    if (stream->captured)
        return said(cudaErrorIllegalState);
    stream->captured = std::make_shared<capture>(
        capture{new CUgraph_st, stream, mode, std::this_thread::get_id(), false, {}});
    now.ctx->captures.push_back(stream->captured);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    call now;
    *graph = nullptr;
    if (!now.ctx)
        return now.error;
    if (!stream || !knows(*now.ctx, stream) || !stream->captured ||
        stream->captured->origin != stream)
        return said(cudaErrorIllegalState);
    std::shared_ptr<capture> ended = stream->captured;
    for (CUstream_st *s : now.ctx->streams)
        if (s->captured == ended)
            s->captured = nullptr;
    std::vector<std::shared_ptr<capture>> &all = now.ctx->captures;
    all.erase(std::find(all.begin(), all.end(), ended));
    cudaError_t error = ended->invalid ? cudaErrorStreamCaptureInvalidated : now.error;
    for (const auto &branch : ended->unjoined)
        if (error == cudaSuccess && branch.second != 0)
            error = cudaErrorStreamCaptureUnjoined;
    if (error == cudaSuccess)
        *graph = ended->graph;
    else
        delete ended->graph;
    return said(error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    CUstream_st *s = stream_of(*now.ctx, stream);
    if (!knows(*now.ctx, s))
        return said(cudaErrorInvalidResourceHandle);
    *status = !s->captured           ? cudaStreamCaptureStatusNone
              : s->captured->invalid ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
    return now.error;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    call now;
    if (now.error == cudaSuccess)
        *exec =
            new CUgraphExec_st{now.ctx, std::make_shared<const std::vector<work>>(graph->nodes)};
    return now.error;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    call now;
    if (nodes)
        return said(cudaErrorNotSupported);
    *n = graph->nodes.size();
    return now.error;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    call now;
    return now.error;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    if (exec->owner != now.ctx)
        return said(cudaErrorInvalidResourceHandle);
    std::shared_ptr<const std::vector<work>> nodes = exec->nodes;
    return said(issue(*now.ctx, stream, [nodes] {
        for (const work &node : *nodes)
            node();
    }));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    call now;
    delete graph;
    return now.error;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    call now;
    delete exec;
    return now.error;
}
}
