/* Available memory: /proc/meminfo and the control groups. */
#include "base/memory.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096

/* The number after `name` at the start of a line; UINT64_MAX if there is none ("max" is none). */
static uint64_t read_field(const char *path, const char *name)
{
    char text[8192], *end;
    size_t n = strlen(name);
    if (!base_file_read_text(text, sizeof text, path))
        return UINT64_MAX;
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, n) != 0)
            continue;
        uint64_t value = strtoull(line + n, &end, 10);
        return end == line + n ? UINT64_MAX : value;
    }
    return UINT64_MAX;
}

struct names {
    const char *mount, *limit, *used, *cache;
};

static uint64_t read_number(const char *folder, const char *name, const char *field)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return read_field(path, field);
}

/* What one group leaves: file cache that nobody used lately is given back when needed. */
static uint64_t group_leaves(const char *folder, const struct names *names)
{
    uint64_t limit = read_number(folder, names->limit, "");
    uint64_t used = read_number(folder, names->used, "");
    if (limit == UINT64_MAX || used == UINT64_MAX)
        return UINT64_MAX;
    uint64_t cache = read_number(folder, "memory.stat", names->cache);
    if (cache != UINT64_MAX)
        used = cache < used ? used - cache : 0;
    return used < limit ? limit - used : 0;
}

/* The group and all above it. Inside of a container its own group is the root of what is mounted,
 * whatever path /proc/self/cgroup shows. */
static uint64_t groups_leave(const char *root, const char *group, const struct names *names)
{
    char folder[PATH_BYTES];
    uint64_t least = UINT64_MAX;
    int top = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s", root, names->mount);
    int end = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s%s", root, names->mount, group);
    if (end < 0 || end >= (int)sizeof folder)
        return least;
    for (;;) {
        least = BASE_MIN(least, group_leaves(folder, names));
        if (end <= top)
            return least;
        while (end > top && folder[end - 1] != '/')
            end--;
        end = BASE_MAX(end - 1, top);
        folder[end] = 0;
    }
}

uint64_t base_memory_available(const char *root)
{
    static const struct names version_2 = {"", "memory.max", "memory.current", "inactive_file "};
    static const struct names version_1 = {"/memory", "memory.limit_in_bytes",
                                           "memory.usage_in_bytes", "total_inactive_file "};
    char path[PATH_BYTES], text[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    uint64_t least = read_field(path, "MemAvailable:");
    if (least < UINT64_MAX / 1024)
        least *= 1024; /* kB */
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!base_file_read_text(text, sizeof text, path))
        text[0] = 0;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        const char *memory = strstr(line, ":memory:");
        if (strncmp(line, "0::", 3) == 0)
            least = BASE_MIN(least, groups_leave(root, line + 3, &version_2));
        else if (memory)
            least = BASE_MIN(least, groups_leave(root, memory + 8, &version_1));
    }
    return least == UINT64_MAX ? 0 : BASE_MAX(least, 1);
}
