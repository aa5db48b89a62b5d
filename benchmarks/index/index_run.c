/* The index under the commands of compare.py, which peer.py understands as well: a line of words
 * each on standard input, a line of JSON each on standard output.
 *
 *     index_run BASE.fbin QUERY.fbin cosine|l2 f32|f16|bf16|i8 FOLDER [graph|partitions [DEVICE]]
 *
 *     build THREADS                         adds all rows, as fast as it can
 *     search KNOB VALUE CALL THREADS OUT    KNOB: ef, recall or exact; CALL queries a call
 *     filter PERMILLE KNOB VALUE OUT [CALL] of rows whose p is below so many thousandths
 *     delete FROM N, insert FROM N          rows
 *     update FROM N                         an upsert of what is there
 *     compact, memory, quit
 *
 * The ids found go to the file OUT. */
#include "rows.h"

#include <infer/infer.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TOP_K      10
#define BULK_ROWS  20000
#define THREAD_MAX 64

struct run {
    struct rows base, queries;
    infer_index *index;
    infer_index_options options;
    const char *folder;
    double rss_before;
};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Anonymous memory: the base rows that are read here are mapped from their file, as is the index's.
 */
static double rss_mb(void)
{
    char line[256];
    double kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lf kB", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return kb / 1024;
}

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, infer_last_error());
    exit(1);
}

/* A property that has nothing to do with the vector: 0 to 999, as peer.py computes it. */
static uint32_t property(uint32_t row)
{
    return (uint32_t)((row * UINT64_C(2654435761) >> 7) % 1000);
}

static void upsert(struct run *r, int32_t from, int32_t n, int32_t bulk)
{
    infer_record *records = calloc((size_t)bulk, sizeof *records);
    char(*text)[48] = calloc((size_t)bulk, sizeof *text);
    if (!records || !text)
        die("memory");
    for (int32_t i = from; i < from + n; i += bulk) {
        int32_t m = from + n - i < bulk ? from + n - i : bulk;
        for (int32_t j = 0; j < m; j++) {
            snprintf(text[j], sizeof text[j], "%d", i + j);
            snprintf(text[j] + 16, sizeof text[j] - 16, "{\"p\":%u}", property((uint32_t)(i + j)));
            records[j] = (infer_record){
                .id = text[j], .vector = rows_at(&r->base, i + j), .metadata = text[j] + 16};
        }
        if (infer_index_upsert(r->index, records, (size_t)m) != INFER_OK)
            die("upsert");
    }
    free(records);
    free(text);
}

static void drop(struct run *r, int32_t from, int32_t n)
{
    char(*text)[16] = calloc((size_t)n, sizeof *text);
    const char **ids = calloc((size_t)n, sizeof *ids);
    size_t gone = 0;
    if (!text || !ids)
        die("memory");
    for (int32_t i = 0; i < n; i++) {
        snprintf(text[i], sizeof text[i], "%d", from + i);
        ids[i] = text[i];
    }
    if (infer_index_delete(r->index, NULL, ids, (size_t)n, &gone) != INFER_OK || gone != (size_t)n)
        die("delete");
    free(ids);
    free(text);
}

static void open_index(struct run *r, int32_t threads)
{
    infer_index_destroy(&r->index);
    r->options.n_threads = threads;
    if (infer_index_open(&r->index, r->folder, &r->options) != INFER_OK)
        die("open");
}

static void build(struct run *r, int32_t threads)
{
    r->rss_before = rss_mb();
    open_index(r, threads);
    if (infer_index_add_field(r->index, "p") != INFER_OK)
        die("field");
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    upsert(r, 0, r->base.n, BULK_ROWS);
    double add = seconds(CLOCK_MONOTONIC);
    if (infer_index_compact(r->index) != INFER_OK)
        die("compact");
    printf("{\"wall_s\":%.3f,\"add_s\":%.3f,\"cpu_s\":%.3f}\n", seconds(CLOCK_MONOTONIC) - wall,
           add - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

static void set_knob(infer_index_query *q, const char *knob, double value)
{
    if (strcmp(knob, "ef") == 0)
        q->ef = (int32_t)value;
    else
        q->recall = strcmp(knob, "exact") == 0 ? 1 : (float)value;
}

static void keep(const infer_hits *hits, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        int32_t ids[TOP_K];
        memset(ids, -1, sizeof ids);
        for (size_t j = 0; j < infer_hits_count(hits, i) && j < TOP_K; j++) {
            infer_hit hit = {.struct_size = sizeof hit};
            if (infer_hits_at(hits, i, j, &hit) != INFER_OK)
                die("hit");
            ids[j] = atoi(hit.id);
        }
        fwrite(ids, sizeof ids, 1, out);
    }
}

static void search(struct run *r, const char *filter, const char *knob, double value, int32_t call,
                   const char *path)
{
    FILE *out = fopen(path, "wb");
    infer_index_query *queries = calloc((size_t)call, sizeof *queries);
    infer_search_info info = {.struct_size = sizeof info};
    double spent = 0;
    if (!out || !queries)
        die(path);
    for (int32_t i = 0; i < r->queries.n; i += call) {
        int32_t m = r->queries.n - i < call ? r->queries.n - i : call;
        infer_hits *hits = NULL;
        for (int32_t j = 0; j < m; j++) {
            queries[j] = (infer_index_query){.struct_size = sizeof *queries,
                                             .vector = rows_at(&r->queries, i + j),
                                             .filter = filter,
                                             .top_k = TOP_K};
            set_knob(&queries[j], knob, value);
        }
        double begin = seconds(CLOCK_MONOTONIC);
        if (infer_index_search(&hits, r->index, queries, (size_t)m) != INFER_OK)
            die("search");
        spent += seconds(CLOCK_MONOTONIC) - begin;
        keep(hits, (size_t)m, out);
        if (infer_hits_info(hits, 0, &info) != INFER_OK)
            die("info");
        infer_hits_destroy(&hits);
    }
    fclose(out);
    free(queries);
    printf("{\"s\":%.6f,\"path\":%d,\"ef\":%d,\"compared\":%" PRIu64 "}\n", spent, info.path,
           info.ef, info.n_compared);
}

static void memory(struct run *r)
{
    infer_index_info info = {.struct_size = sizeof info};
    if (infer_index_get_info(r->index, &info) != INFER_OK)
        die("info");
    printf("{\"rss_mb\":%.1f,\"memory_mb\":%.1f,\"mapped_mb\":%.1f,\"file_mb\":%.1f,"
           "\"segments\":%d,\"deleted\":%" PRIu64 ",\"device_mb\":%.1f}\n",
           rss_mb() - r->rss_before, (double)info.memory_bytes / 1e6,
           (double)info.mapped_bytes / 1e6, (double)info.file_bytes / 1e6, info.n_segments,
           info.n_deleted, (double)info.device_bytes / 1e6);
}

static void timed(struct run *r, const char *what, int32_t from, int32_t n)
{
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (strcmp(what, "delete") == 0)
        drop(r, from, n);
    else if (strcmp(what, "compact") == 0) {
        if (infer_index_compact(r->index) != INFER_OK)
            die("compact");
    } else
        upsert(r, from, n, strcmp(what, "update") == 0 ? 1 : BULK_ROWS);
    printf("{\"wall_s\":%.4f,\"cpu_s\":%.4f}\n", seconds(CLOCK_MONOTONIC) - wall,
           seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

static int command(struct run *r, const char *line)
{
    char what[16] = "", knob[16] = "", path[512] = "", filter[64];
    double value = 0;
    int32_t a = 0, b = 0;
    if (sscanf(line, "search %15s %lf %d %d %511s", knob, &value, &a, &b, path) == 5) {
        if (b != r->options.n_threads)
            open_index(r, b);
        search(r, NULL, knob, value, a, path);
    } else if (sscanf(line, "filter %d %15s %lf %511s", &a, knob, &value, path) == 4) {
        snprintf(filter, sizeof filter, "{\"p\":{\"$lt\":%d}}", a);
        search(r, filter, knob, value, sscanf(line, "%*s %*s %*s %*s %*s %d", &b) == 1 ? b : 1,
               path);
    } else if (sscanf(line, "build %d", &a) == 1)
        build(r, a);
    else if (sscanf(line, "%15s %d %d", what, &a, &b) == 3 || strncmp(line, "compact", 7) == 0)
        timed(r, *what ? what : "compact", a, b);
    else if (strncmp(line, "memory", 6) == 0)
        memory(r);
    else
        return 0;
    fflush(stdout);
    return 1;
}

static int32_t word(const char *const *words, const char *text)
{
    for (int32_t i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0)
            return i;
    fprintf(stderr, "what is %s?\n", text);
    exit(2);
}

int main(int argc, char **argv)
{
    static const char *const metrics[] = {"cosine", "dot", "l2", NULL};
    static const char *const builds[] = {"graph", "partitions", NULL};
    static const char *const types[] = {"f32", "f16", "bf16", "i8", NULL};
    struct run r = {.options = {.struct_size = sizeof r.options}};
    char line[1024];
    if (argc < 6 || rows_map(&r.base, argv[1]) != 0 || rows_map(&r.queries, argv[2]) != 0) {
        fprintf(stderr,
                "usage: index_run BASE.fbin QUERY.fbin METRIC TYPE FOLDER [BUILD [DEVICE]]\n");
        return 2;
    }
    r.folder = argv[5];
    r.options.dims = r.base.dims;
    r.options.metric = word(metrics, argv[3]);
    r.options.type = word(types, argv[4]);
    r.options.sync = INFER_INDEX_SYNC_OS;
    r.options.build = argc > 6 ? word(builds, argv[6]) : INFER_INDEX_BUILD_GRAPH;
    if (argc > 7 && atoi(argv[7]) > 0 &&
        infer_device_create(&r.options.device, atoi(argv[7]), NULL) != INFER_OK)
        die("device");
    while (fgets(line, sizeof line, stdin) && command(&r, line))
        ;
    infer_index_destroy(&r.index);
    infer_device_destroy(&r.options.device);
    return 0;
}
