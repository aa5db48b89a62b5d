/* Available memory: /proc/meminfo and the control groups, of version 2 and 1. */
#include "memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES 4096

/* The number after `name` at the start of a line; UINT64_MAX if there is none. */
static uint64_t read_field(const char *path, const char *name)
{
    char line[256];
    uint64_t value = UINT64_MAX;
    size_t n = strlen(name);
    FILE *file = fopen(path, "r");
    if (!file)
        return value;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, n) == 0 && sscanf(line + n, "%" SCNu64, &value) == 1)
            break;
    fclose(file);
    return value;
}

static uint64_t read_number(const char *folder, const char *name)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return read_field(path, ""); /* "max" is no number */
}

struct names {
    const char *limit, *used, *cache;
};

/* What one group leaves: file cache that nobody used lately is given back when needed. */
static uint64_t group_leaves(const char *folder, const struct names *names)
{
    char stat[PATH_BYTES + 64];
    uint64_t limit = read_number(folder, names->limit), used = read_number(folder, names->used);
    if (limit == UINT64_MAX || used == UINT64_MAX)
        return UINT64_MAX;
    snprintf(stat, sizeof stat, "%s/memory.stat", folder);
    uint64_t cache = read_field(stat, names->cache);
    if (cache != UINT64_MAX)
        used = cache < used ? used - cache : 0;
    return used < limit ? limit - used : 0;
}

/* The group and all above it. Inside a container its own group is the root of what is mounted,
 * whatever path /proc/self/cgroup shows. */
static uint64_t groups_leave(const char *root, const char *group, const struct names *names)
{
    char folder[PATH_BYTES];
    uint64_t least = UINT64_MAX;
    int size = snprintf(folder, sizeof folder, "%s%s", root, group);
    if (size < 0 || (size_t)size >= sizeof folder)
        return least;
    for (;;) {
        uint64_t leaves = group_leaves(folder, names);
        char *slash = strrchr(folder, '/');
        if (leaves < least)
            least = leaves;
        if (strlen(folder) <= strlen(root) || !slash)
            return least;
        *slash = 0;
    }
}

uint64_t memory_available(void)
{
    static const struct names version_2 = {"memory.max", "memory.current", "inactive_file "};
    static const struct names version_1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                           "total_inactive_file "};
    char line[PATH_BYTES];
    uint64_t least = read_field("/proc/meminfo", "MemAvailable:");
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (least < UINT64_MAX / 1024)
        least *= 1024;
    while (file && fgets(line, sizeof line, file)) {
        uint64_t leaves = UINT64_MAX;
        char *memory = strstr(line, ":memory:");
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::", 3) == 0)
            leaves = groups_leave("/sys/fs/cgroup", line + 3, &version_2);
        else if (memory)
            leaves = groups_leave("/sys/fs/cgroup/memory", memory + 8, &version_1);
        if (leaves < least)
            least = leaves;
    }
    if (file)
        fclose(file);
    return least;
}
