/* The thread in the background: it writes parts that no longer grow, and merges segments. */
#include "base/error.h"
#include "vector/state.h"

#include <string.h>
#include <time.h>

#define RETRY_FIRST_S 1 /* after a failure, such as a full disk; doubles each time */
#define RETRY_MOST_S  60
#define SMALL_SHARE   8 /* of a part that is frozen because it is full */

/* -------------------------------------------------------------------- failures */

void index_fail(struct infer_index *index, infer_status st)
{
    const char *why = base_error_text();
    if (st == INFER_ERR_CANCELLED)
        return;
    pthread_mutex_lock(&index->publish);
    /* Sentences are kept until the index is closed: whoever asked for one may be reading it. */
    if (!index->failure || strcmp(index->failure, why) != 0) {
        const char *text = index->texts.used_bytes < INDEX_FAILURE_BYTES
                               ? base_arena_strdup(&index->texts, why, strlen(why))
                               : NULL;
        if (text)
            index->failure = text;
        else if (!index->failure)
            index->failure = "work in the background failed";
    }
    pthread_mutex_unlock(&index->publish);
}

void index_fine(struct infer_index *index)
{
    pthread_mutex_lock(&index->publish);
    index->failure = NULL;
    pthread_mutex_unlock(&index->publish);
}

/* ---------------------------------------------------------------- what to merge */

struct size_of {
    struct vector_part *part;
    int64_t alive;    /* rows */
    int32_t wasteful; /* much of it is deleted, or it has no graph */
};

static void sort(struct size_of *sizes, int32_t n)
{
    for (int32_t i = 1; i < n; i++)
        for (int32_t k = i; k > 0 && sizes[k].alive < sizes[k - 1].alive; k--) {
            const struct size_of other = sizes[k];
            sizes[k] = sizes[k - 1];
            sizes[k - 1] = other;
        }
}

/* The smallest ones that, together, reach the size of the next: each record is written anew about
 * once for each doubling of the index, and a query searches few parts. */
static int32_t choose(const struct size_of *sizes, int32_t n)
{
    for (int32_t first = 0; first + 1 < n; first++) {
        int64_t sum = sizes[first].alive;
        int32_t end = first + 1;
        for (; end < n && sizes[end].alive <= sum + sum / 4; end++)
            sum += sizes[end].alive;
        if (end - first > 1)
            return end;
    }
    return 0;
}

/* Parts that shall become one; they are held. */
static int32_t pick(struct infer_index *index, struct vector_part **parts, int32_t room)
{
    struct size_of sizes[INDEX_MERGE_MAX];
    int32_t n = 0, taken = 0;
    pthread_mutex_lock(&index->publish);
    for (int32_t i = 0; i + 1 < index->parts->n && n < room; i++) {
        struct vector_part *part = index->parts->part[i];
        /* Small ones count as if they were of one size, so that few of them stay. */
        const int64_t least = index->freeze_rows / SMALL_SHARE;
        if (part->fixed)
            sizes[n++] = (struct size_of){part, BASE_MAX(part->n_rows - part->n_dead, least),
                                          part->n_dead > part->n_rows / INDEX_DEAD_SHARE ||
                                              vector_space_lacks_graph(part->space)};
    }
    sort(sizes, n);
    taken = choose(sizes, n);
    for (int32_t i = 0; i < taken; i++)
        parts[i] = vector_part_retain(sizes[i].part);
    for (int32_t i = 0; i < n && !taken; i++)
        if (sizes[i].wasteful)
            parts[taken++] = vector_part_retain(sizes[i].part);
    pthread_mutex_unlock(&index->publish);
    return taken;
}

/* ----------------------------------------------------------------- the thread */

static int32_t until_closed(double fraction, const char *stage, void *user)
{
    const struct infer_index *index = user;
    BASE_UNUSED(fraction);
    BASE_UNUSED(stage);
    return atomic_load(&index->stopping);
}

/* One thing at a time, so that what waits to be written comes before the next merge. DONE: there
 * is nothing. */
static infer_status work(struct infer_index *index)
{
    struct vector_part *parts[INDEX_MERGE_MAX];
    pthread_mutex_lock(&index->work);
    /* Writers let a part grow on while others wait to be written. */
    pthread_mutex_lock(&index->writer);
    infer_status st = index_is_full(index) ? index_rotate(index) : INFER_OK;
    pthread_mutex_unlock(&index->writer);
    if (st == INFER_OK)
        st = index_flush(index, 0);
    if (st == INFER_OK) {
        const int32_t n = pick(index, parts, INDEX_MERGE_MAX);
        st = n ? index_merge(index, parts, n, until_closed, index) : INFER_DONE;
        for (int32_t i = 0; i < n; i++)
            vector_part_release(&parts[i]);
    }
    pthread_mutex_unlock(&index->work);
    return st;
}

/* Until there may be something to do, or so many seconds have passed (0: however long), which it
 * tells. */
static int32_t wait(struct infer_index *index, int32_t seconds)
{
    struct timespec until;
    int32_t passed = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&index->wake);
    while (!index->poked && !passed && !atomic_load(&index->stopping))
        if (!seconds)
            pthread_cond_wait(&index->wake_cond, &index->wake);
        else
            passed = pthread_cond_timedwait(&index->wake_cond, &index->wake, &until) != 0;
    index->poked = 0;
    pthread_mutex_unlock(&index->wake);
    return passed;
}

static void *run(void *user)
{
    struct infer_index *index = user;
    int32_t retry = RETRY_FIRST_S;
    while (!atomic_load(&index->stopping)) {
        const infer_status st = work(index);
        if (st == INFER_OK || st == INFER_DONE)
            retry = RETRY_FIRST_S;
        if (st == INFER_DONE) {
            index_fine(index);
            (void)wait(index, 0);
        } else if (st != INFER_OK) {
            index_fail(index, st);
            if (wait(index, retry))
                retry = BASE_MIN(2 * retry, RETRY_MOST_S);
        }
    }
    return NULL;
}

void index_poke(struct infer_index *index)
{
    pthread_mutex_lock(&index->wake);
    index->poked = 1;
    pthread_cond_signal(&index->wake_cond);
    pthread_mutex_unlock(&index->wake);
}

infer_status index_worker_start(struct infer_index *index)
{
    if (pthread_create(&index->thread, NULL, run, index) != 0)
        return base_error(INFER_ERR_NO_MEMORY, "the index's thread cannot be started");
    index->has_thread = 1;
    return INFER_OK;
}

void index_worker_stop(struct infer_index *index)
{
    if (!index->has_thread)
        return;
    pthread_mutex_lock(&index->wake);
    atomic_store(&index->stopping, 1);
    pthread_cond_signal(&index->wake_cond);
    pthread_mutex_unlock(&index->wake);
    pthread_join(index->thread, NULL);
    index->has_thread = 0;
}
