/* Processors and limits as Linux declares them under /sys and /proc. Whatever is not declared is
 * taken to be the same for all. */
#include "base/topology.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define NODES_MAX  64

/* ------------------------------------------------------------- small files */

static int read_cpu_file(char *out, size_t size, const char *root, int32_t cpu, const char *name)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/%s", root, (int)cpu, name);
    return base_file_read_text(out, size, path);
}

/* The next range of a list such as "0-3,8"; where the list goes on, or NULL at its end. */
static const char *next_range(const char *list, long *first, long *last)
{
    char *end;
    *first = strtol(list, &end, 10);
    if (end == list)
        return NULL;
    *last = *first;
    if (*end == '-')
        *last = strtol(end + 1, &end, 10);
    return *end == ',' ? end + 1 : end;
}

/* -------------------------------------------------------------- processors */

static int32_t siblings_before(const cpu_set_t *allowed, const char *root, int32_t cpu)
{
    char text[1024];
    int32_t n = 0;
    long first, last;
    if (!read_cpu_file(text, sizeof text, root, cpu, "topology/thread_siblings_list"))
        return 0;
    for (const char *at = text; (at = next_range(at, &first, &last));)
        for (long i = BASE_MAX(first, 0); i <= last && i < cpu; i++)
            n += CPU_ISSET((size_t)i, allowed) != 0;
    return n;
}

static int32_t capacity_of(const char *root, int32_t cpu)
{
    static const char *const names[] = {"cpu_capacity", "cpufreq/cpuinfo_max_freq"};
    char text[64];
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        long value =
            read_cpu_file(text, sizeof text, root, cpu, names[i]) ? strtol(text, NULL, 10) : 0;
        if (value > 0 && value < INT32_MAX)
            return (int32_t)value;
    }
    return 0;
}

/* In parts of the fastest. Frequencies that differ a little are those of favoured cores, which
 * reach them alone: within a quarter of the fastest all count as equal. One that declares nothing
 * makes all equal. */
static void level_capacities(struct base_cpus *cpus)
{
    int32_t greatest = 1, least = INT32_MAX;
    for (int32_t i = 0; i < cpus->n; i++) {
        greatest = BASE_MAX(greatest, cpus->cpu[i].capacity);
        least = BASE_MIN(least, cpus->cpu[i].capacity);
    }
    for (int32_t i = 0; i < cpus->n; i++) {
        int64_t share = (int64_t)cpus->cpu[i].capacity * BASE_CPU_FULL / greatest;
        cpus->cpu[i].capacity = least && share < BASE_CPU_FULL - BASE_CPU_FULL / 4
                                    ? (int32_t)BASE_MAX(share, 1)
                                    : BASE_CPU_FULL;
    }
}

static void read_nodes(struct base_cpus *cpus, const char *root)
{
    char path[PATH_BYTES], text[4096];
    long first, last;
    for (int32_t node = 1; node < NODES_MAX; node++) { /* whatever is not listed is on node 0 */
        snprintf(path, sizeof path, "%s/sys/devices/system/node/node%d/cpulist", root, (int)node);
        if (!base_file_read_text(text, sizeof text, path))
            continue;
        for (const char *at = text; (at = next_range(at, &first, &last));)
            for (int32_t i = 0; i < cpus->n; i++)
                if (cpus->cpu[i].id >= first && cpus->cpu[i].id <= last)
                    cpus->cpu[i].node = node;
    }
}

static int is_better(const struct base_cpu *a, const struct base_cpu *b)
{
    if (a->sibling != b->sibling)
        return a->sibling < b->sibling;
    if (a->capacity != b->capacity)
        return a->capacity > b->capacity;
    return a->id < b->id;
}

static int is_before(const struct base_cpu *a, const struct base_cpu *b)
{
    return a->node != b->node ? a->node < b->node : is_better(a, b);
}

/* By insertion: a thousand at most, and the C library's qsort may call malloc. */
static void sort(struct base_cpu *cpu, int32_t n,
                 int (*before)(const struct base_cpu *, const struct base_cpu *))
{
    for (int32_t i = 1; i < n; i++) {
        struct base_cpu moved = cpu[i];
        int32_t at = i;
        for (; at > 0 && before(&moved, &cpu[at - 1]); at--)
            cpu[at] = cpu[at - 1];
        cpu[at] = moved;
    }
}

void base_cpus_read(struct base_cpus *out, const cpu_set_t *allowed, const char *root)
{
    out->n = 0;
    for (int32_t i = 0; i < BASE_CPUS_MAX; i++)
        if (CPU_ISSET((size_t)i, allowed))
            out->cpu[out->n++] = (struct base_cpu){
                .id = i,
                .sibling = siblings_before(allowed, root, i),
                .capacity = capacity_of(root, i),
            };
    level_capacities(out);
    read_nodes(out, root);
    sort(out->cpu, out->n, is_better);
}

void base_cpus_usable(struct base_cpus *out)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || !CPU_COUNT(&set)) {
        /* More processors than a set holds: the first ones that are online. */
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        CPU_ZERO(&set);
        for (long i = 0; i < BASE_MAX(n, 1) && i < BASE_CPUS_MAX; i++)
            CPU_SET((size_t)i, &set);
    }
    base_cpus_read(out, &set, "");
}

int32_t base_cpus_threads(const struct base_cpus *cpus, int32_t quota, int weighted)
{
    int32_t n = 0, best = 1;
    int64_t most = 0;
    while (n < cpus->n && !cpus->cpu[n].sibling && (!quota || n < quota)) {
        int64_t sum = (int64_t)(n + 1) * cpus->cpu[n].capacity;
        n++;
        if (weighted || sum >= most) {
            most = sum;
            best = n;
        }
    }
    return best;
}

void base_cpus_by_node(struct base_cpus *cpus, int32_t n)
{
    sort(cpus->cpu, BASE_MIN(n, cpus->n), is_before);
}

/* ------------------------------------------------------------------ limits */

/* One group's limit in processors, rounded up, or 0. `folder` is the group's. */
static int32_t quota_of_group(const char *folder, int version)
{
    char path[PATH_BYTES + 32], text[64];
    char *end = text;
    snprintf(path, sizeof path, "%s/%s", folder, version == 2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (!base_file_read_text(text, sizeof text, path))
        return 0;
    long long quota = strtoll(text, &end, 10), period;
    if (end == text || quota <= 0) /* "max", or -1 */
        return 0;
    if (version == 1) {
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        if (!base_file_read_text(text, sizeof text, path))
            return 0;
        end = text;
    }
    period = strtoll(end, NULL, 10);
    if (period <= 0)
        return 0;
    return (int32_t)BASE_MIN(quota / period + (quota % period != 0), INT32_MAX);
}

/* The least limit of a group and those above it. Inside of a container the group's path may be
 * the host's, which is not there; the container's own group is then the top. */
static int32_t quota_below(const char *root, const char *mount, const char *group, int version)
{
    char folder[PATH_BYTES];
    int32_t least = 0;
    int top = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s", root, mount);
    int end = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s%s", root, mount, group);
    if (end < 0 || end >= (int)sizeof folder)
        return 0;
    for (;;) {
        int32_t quota = quota_of_group(folder, version);
        if (quota && (!least || quota < least))
            least = quota;
        if (end <= top)
            return least;
        while (end > top && folder[end - 1] != '/')
            end--;
        end = BASE_MAX(end - 1, top);
        folder[end] = 0;
    }
}

/* Whether a list such as "cpu,cpuacct" names `cpu`. */
static int names_cpu(const char *list)
{
    while (*list) {
        size_t n = strcspn(list, ",");
        if (n == 3 && memcmp(list, "cpu", 3) == 0)
            return 1;
        list += n + (list[n] == ',');
    }
    return 0;
}

int32_t base_cpu_quota(const char *root)
{
    static const char *const mounts_1[] = {"/cpu", "/cpu,cpuacct"};
    static const char *const mounts_2[] = {"", "/unified"};
    char path[PATH_BYTES], text[PATH_BYTES];
    int32_t least = 0;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!base_file_read_text(text, sizeof text, path))
        return 0;
    /* A line is "number:controllers:path"; version 2 has number 0 and no controllers. */
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        int version = *++list ? 1 : 2;
        for (size_t i = 0; i < 2 && (version == 2 || names_cpu(list)); i++) {
            int32_t quota =
                quota_below(root, version == 2 ? mounts_2[i] : mounts_1[i], group, version);
            if (quota && (!least || quota < least))
                least = quota;
        }
    }
    return least;
}
