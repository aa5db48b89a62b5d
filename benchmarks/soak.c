/* Everything that can go wrong, at once, for as long as it is told.
 *   soak MODEL [MINUTES] [SEED]
 * Sixteen threads on two sessions that share a KV cache too small for them: submits, forks,
 * grammars, adapters, drafts, priorities, deadlines, cancels by the owner and by others, pins,
 * forgotten prefixes, and an allocator that refuses at random. Every token and log-probability is
 * compared with the same request alone, also of what was cut short. At the end no block may be in
 * use and no memory held. Exits with 1 where anything is wrong. */
#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STUCK_S 120

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --------------------------------------------------------------------- a client */

struct flight {
    infer_request *r;
    const struct family *f;
    const struct answer *a;
    int32_t from, n; /* its tokens are those of the answer from here on; so many came */
    int has_deadline;
    size_t n_text;
};

static int token_fits(struct flight *fl, const infer_event *e)
{
    int32_t at = fl->from + fl->n++;
    size_t size = fl->from ? 0 : e->text_size;
    if (fl->n > fl->f->max_tokens || at >= fl->a->n || e->token != fl->a->tokens[at] ||
        memcmp(&e->logprob, &fl->a->logprobs[at], sizeof e->logprob) != 0 ||
        (size && strncmp(fl->a->text + fl->n_text, e->text, size) != 0)) {
        soak_wrong("token %d of family %td from %d is %d, alone %d", fl->n, fl->f - soak.families,
                   fl->from, e->token, at < fl->a->n ? fl->a->tokens[at] : -1);
        return 0;
    }
    fl->n_text += size;
    return 1;
}

static void count_finish(const struct flight *fl, infer_finish finish)
{
    int whole = fl->n == fl->f->max_tokens;
    if (finish == INFER_FINISH_STOP)
        whole = fl->a->finish == INFER_FINISH_STOP && fl->from + fl->n == fl->a->n;
    else if (finish != INFER_FINISH_LENGTH)
        whole = 0;
    atomic_fetch_add(whole ? &soak.n_whole : &soak.n_cut, 1);
    atomic_fetch_add(&soak.n_cancelled, finish == INFER_FINISH_CANCELLED);
    atomic_fetch_add(&soak.n_expired, finish == INFER_FINISH_DEADLINE);
    if (!whole && finish != INFER_FINISH_CANCELLED &&
        !(finish == INFER_FINISH_DEADLINE && fl->has_deadline))
        soak_wrong("family %td ended with %d after %d of %lld tokens", fl->f - soak.families,
                   finish, fl->n, (long long)fl->f->max_tokens);
}

/* One more event. 0: it has ended. */
static int advance(struct flight *fl)
{
    infer_event event = {.struct_size = sizeof event};
    infer_request_info info = {.struct_size = sizeof info};
    infer_status st = infer_request_next(fl->r, &event);
    atomic_fetch_add(&soak.progress, 1);
    if (st == INFER_OK && event.type == INFER_EVENT_TOKEN) {
        atomic_fetch_add(&soak.n_tokens, 1);
        return token_fits(fl, &event);
    }
    if (st == INFER_OK) {
        count_finish(fl, event.finish);
        return 0;
    }
    soak_need(infer_request_get_info(fl->r, &info));
    if (st == INFER_ERR_NO_MEMORY && info.finish != INFER_FINISH_ERROR) {
        atomic_fetch_add(&soak.n_retried, 1); /* the event waits until there is memory for it */
        return 1;
    }
    atomic_fetch_add(&soak.n_failed, 1);
    if (st != INFER_ERR_NO_MEMORY || info.status != st)
        soak_wrong("family %td failed with %d: %s", fl->f - soak.families, st, infer_last_error());
    return 0;
}

/* A fork of a request that has perhaps said something: where in the answer it goes on. */
static int fork_of(struct flight *out, const struct flight *source, const struct answer *a,
                   uint64_t seed)
{
    infer_fork_options o = {.struct_size = sizeof o, .seed = seed};
    infer_status st = infer_request_fork(&out->r, source->r, &o);
    size_t n = 0;
    if (st == INFER_ERR_BUSY || st == INFER_ERR_NO_MEMORY) {
        atomic_fetch_add(st == INFER_ERR_BUSY ? &soak.n_busy : &soak.n_no_memory, 1);
        return 0;
    }
    if (st == INFER_ERR_INVALID && source->f->grammar >= 0)
        return 0; /* its answer was complete */
    if (st != INFER_OK) {
        soak_wrong("fork gave %d: %s", st, infer_last_error());
        return 0;
    }
    infer_request_prompt(out->r, &n);
    out->f = source->f;
    out->a = a;
    out->from = (int32_t)(n - source->f->n_prompt);
    out->n = 0;
    out->n_text = 0;
    out->has_deadline = source->has_deadline;
    atomic_fetch_add(&soak.n_forks, 1);
    return 1;
}

static void watch(int client, infer_request *r)
{
    pthread_mutex_lock(&soak.board_lock);
    soak.board[client] = r;
    pthread_mutex_unlock(&soak.board_lock);
}

static void cancel_somebody(uint64_t *random)
{
    pthread_mutex_lock(&soak.board_lock);
    infer_request_cancel(soak.board[soak_draw(random, N_THREADS)]);
    pthread_mutex_unlock(&soak.board_lock);
}

static int submit(struct flight *fl, int session, uint64_t *random)
{
    static const char *const tenants[] = {NULL, "a", "b", "c", "d"};
    infer_sampling sampling = soak_sampling(fl->f, 0);
    infer_request_options o = soak_options(fl->f, &sampling);
    o.priority = (int32_t)soak_draw(random, 3);
    o.tenant = tenants[soak_draw(random, 5)];
    fl->has_deadline = soak_draw(random, 6) == 0;
    if (fl->has_deadline)
        o.deadline_ns = 1 + soak_draw(random, 60000000);
    if (fl->f->speculation != INFER_SPECULATION_DRAFT || session == 0)
        o.speculation = fl->f->speculation;
    infer_status st = infer_session_submit(&fl->r, soak.sessions[session], &o);
    if (st == INFER_ERR_BUSY) {
        atomic_fetch_add(&soak.n_busy, 1);
        usleep(500);
    } else if (st == INFER_ERR_NO_MEMORY) {
        atomic_fetch_add(&soak.n_no_memory, 1);
    } else if (st != INFER_OK) {
        soak_wrong("submit gave %d: %s", st, infer_last_error());
    }
    atomic_fetch_add(&soak.n_begun, st == INFER_OK);
    return st == INFER_OK;
}

/* One request with its forks, from first to last. */
static void fly(int client, uint64_t *random)
{
    struct flight flights[N_MEMBERS + 1] = {{0}};
    struct flight *first = &flights[0];
    int n = 1, samples = soak_draw(random, 5) == 0 ? (int)soak_draw(random, N_MEMBERS) : 0;
    int fork_at = soak_draw(random, 6) == 0 ? (int)soak_draw(random, MAX_TOKENS) : -1;
    first->f = &soak.families[soak_draw(random, soak.n_families)];
    first->a = &first->f->answers[0];
    if (!submit(first, client % SESSIONS, random))
        return;
    watch(client, first->r);
    for (int i = 1; i <= samples; i++) /* the source may have begun, and they then with it */
        if (fork_of(&flights[n], first, &first->f->answers[i], soak_sampling(first->f, i).seed)) {
            if (flights[n].from) { /* said by another seed: nothing to compare with */
                infer_request_destroy(&flights[n].r);
                continue;
            }
            n++;
        }
    for (int i = 0; i < n; i++) {
        if (soak_draw(random, 20) == 0)
            continue; /* destroyed as it is */
        watch(client, flights[i].r);
        while (advance(&flights[i])) {
            if (i == 0 && flights[0].n == fork_at && n <= N_MEMBERS) {
                fork_at = -1;
                int made = fork_of(&flights[n], first, first->a, soak_sampling(first->f, 0).seed);
                atomic_fetch_add(&soak.n_late_forks, made);
                n += made;
            }
            if (soak_draw(random, 400) == 0)
                infer_request_cancel(flights[i].r);
            if (soak_draw(random, 400) == 0)
                cancel_somebody(random);
        }
    }
    watch(client, NULL);
    for (int i = 0; i < n; i++) {
        infer_request_info info = {.struct_size = sizeof info};
        soak_need(infer_request_get_info(flights[i].r, &info));
        atomic_fetch_add(&soak.n_dropped, info.finish == INFER_FINISH_NONE);
        infer_request_destroy(&flights[i].r);
    }
}

static void *client(void *arg)
{
    int number = (int)(intptr_t)arg;
    uint64_t random = soak.seed * 1000 + (uint64_t)number;
    while (!soak.stop)
        fly(number, &random);
    return NULL;
}

/* ------------------------------------------------------------ beside the clients */

static long resident_kib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%*d %ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Pins prefixes and lets go of them, forgets all, reads statistics; sees to it that work goes on.
 */
static void oversee(uint64_t *random)
{
    static char text[65536];
    double begin = now_s(), moved = begin, told = begin, next = (soak.end_s - begin) / 10;
    uint64_t seen = 0;
    while (now_s() < soak.end_s && !soak.n_wrong) {
        const struct family *f = &soak.families[soak_draw(random, soak.n_families)];
        infer_kv_prefix prefix = {.struct_size = sizeof prefix,
                                  .tokens = f->prompt,
                                  .n_tokens = f->n_prompt,
                                  .cache_namespace = f->name_space};
        size_t n_pinned = 0, size = sizeof text;
        infer_status pinned = infer_kv_cache_pin(soak.cache, &prefix, &n_pinned);
        usleep(20000);
        if (pinned == INFER_OK && n_pinned)
            infer_kv_cache_unpin(soak.cache, &prefix);
        atomic_fetch_add(&soak.n_pinned, n_pinned > 0);
        if (soak_draw(random, 100) == 0)
            soak_need(infer_kv_cache_clear(soak.cache));
        infer_session_metrics(soak.sessions[soak_draw(random, SESSIONS)], text, &size);
        if (soak.progress != seen)
            moved = now_s();
        seen = soak.progress;
        if (now_s() - moved > STUCK_S)
            soak_die("nothing has moved for %d s", STUCK_S);
        if (now_s() - told >= next) {
            told = now_s();
            printf("%5.0f s: %llu requests, %.2f MiB in %lld pieces, resident %.1f MiB\n",
                   told - begin, (unsigned long long)soak.n_begun,
                   (double)memory.bytes_live / 1048576, (long long)memory.n_live,
                   (double)resident_kib() / 1024);
            fflush(stdout);
        }
    }
}
static void print_counts(void)
{
    const struct {
        const char *name;
        uint64_t n;
    } rows[] = {
        {"requests submitted", soak.n_begun},
        {"forks (n samples and later ones)", soak.n_forks},
        {"of them in the middle of an answer", soak.n_late_forks},
        {"ended whole, equal to alone", soak.n_whole},
        {"cut short, equal as far as they came", soak.n_cut},
        {"of them cancelled", soak.n_cancelled},
        {"of them past their deadline", soak.n_expired},
        {"failed for want of memory", soak.n_failed},
        {"destroyed in flight", soak.n_dropped},
        {"submits and forks refused: busy", soak.n_busy},
        {"submits and forks refused: no memory", soak.n_no_memory},
        {"events taken at a second try", soak.n_retried},
        {"prefixes pinned", soak.n_pinned},
        {"tokens compared", soak.n_tokens},
        {"allocations", memory.n_calls},
        {"of them refused", memory.n_refused},
        {"wrong", soak.n_wrong},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        printf("%-40s %12llu\n", rows[i].name, (unsigned long long)rows[i].n);
    printf("%-40s %12.2f MiB\n", "most memory held at once", (double)memory.bytes_peak / 1048576);
}

int main(int argc, char **argv)
{
    pthread_t threads[N_THREADS];
    double minutes = argc > 2 ? atof(argv[2]) : 10;
    uint64_t random;
    if (argc < 2 || argc > 4 || minutes <= 0) {
        fprintf(stderr, "usage: soak MODEL [MINUTES] [SEED]\n");
        return 2;
    }
    soak.seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    /* Each is answered alone first; a short run begins sooner with less. */
    soak.n_families = minutes < 1 ? N_FAMILIES / 5 : N_FAMILIES;
    soak.n_threads = minutes < 1 ? 1 : 2;
    random = soak.seed;
    soak_set_up(argv[1]);
    soak.end_s = now_s() + minutes * 60;
    memory.bytes_peak = memory.bytes_live;
    memory.one_in = ONE_IN;
    for (int i = 0; i < N_THREADS; i++)
        if (pthread_create(&threads[i], NULL, client, (void *)(intptr_t)i) != 0)
            soak_die("cannot start thread %d", i);
    oversee(&random);
    soak.stop = 1;
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    memory.one_in = 0;
    soak_take_down();
    print_counts();
    return soak.n_wrong != 0 || !soak.n_whole;
}
