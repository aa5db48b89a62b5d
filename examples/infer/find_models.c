/* Walking folders for models. */
#include "find_models.h"

#include "terminal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 8

/* Memory that the caller frees, or NULL and `failed`. */
static char *format(struct found_models *found, const char *a, const char *b, const char *c)
{
    size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, "%s%s%s", a, b, c);
    else
        found->failed = 1;
    return text;
}

static void add(struct found_models *found, const char *name, const char *path, uint64_t bytes)
{
    if (found->n == found->capacity) {
        size_t capacity = found->capacity ? 2 * found->capacity : 16;
        struct found_model *grown = realloc(found->items, capacity * sizeof *grown);
        if (!grown) {
            found->failed = 1;
            return;
        }
        found->items = grown;
        found->capacity = capacity;
    }
    struct found_model *m = &found->items[found->n];
    *m = (struct found_model){strdup(name), strdup(path), bytes};
    found->failed |= !m->name || !m->path;
    found->n++;
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static uint64_t file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

/* Names end in -00002-of-00003.gguf. Returns 0 for a file that is no part. */
static unsigned part_of(const char *path, unsigned *n_parts)
{
    unsigned part;
    size_t n = strlen(path);
    if (n < 20 || sscanf(path + n - 20, "-%5u-of-%5u.gguf", &part, n_parts) != 2)
        return 0;
    return part;
}

/* A file of its own, or the first part of a split model; parts without a first one are added, so
 * that what is wrong with them is said. */
static void add_gguf(struct found_models *found, const char *name, const char *path)
{
    unsigned n_parts = 1, part = part_of(path, &n_parts);
    uint64_t bytes = file_bytes(path);
    char *other = strdup(path);
    if (!other) {
        found->failed = 1;
        return;
    }
    char *number = other + strlen(other) - (part ? 19 : 0);
    for (unsigned i = 1; part && i <= n_parts && i < 100000; i++) {
        char digits[16];
        snprintf(digits, sizeof digits, "%05u", i);
        memcpy(number, digits, 5);
        if (part > 1 && i == 1 && access(other, F_OK) == 0) {
            free(other);
            return;
        }
        bytes += i == part ? 0 : file_bytes(other);
    }
    free(other);
    add(found, name, path, bytes);
}

typedef void (*entry_fn)(struct found_models *found, const char *folder, const char *entry,
                         void *user_data);

/* Calls `fn` for every entry that is not hidden. Returns -1 if the folder cannot be read. */
static int for_entries(struct found_models *found, const char *folder, entry_fn fn, void *user_data)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    if (!dir)
        return -1;
    while ((entry = readdir(dir)) != NULL && !found->failed)
        if (entry->d_name[0] != '.')
            fn(found, folder, entry->d_name, user_data);
    closedir(dir);
    return 0;
}

static void sum_weights(struct found_models *found, const char *folder, const char *entry,
                        void *user_data)
{
    int is_weights = ends_with(entry, ".safetensors") ||
                     (strncmp(entry, "pytorch_model", 13) == 0 && ends_with(entry, ".bin"));
    char *path = is_weights ? format(found, folder, "/", entry) : NULL;
    if (path)
        *(uint64_t *)user_data += file_bytes(path);
    free(path);
}

/* A folder with a configuration and weights is a model. */
static void add_folder(struct found_models *found, const char *name, const char *folder)
{
    uint64_t bytes = 0;
    char *config = format(found, folder, "/", "config.json");
    if (config && access(config, R_OK) == 0)
        for_entries(found, folder, sum_weights, &bytes);
    free(config);
    if (bytes)
        add(found, name, folder, bytes);
}

struct walk {
    const char *name; /* of the folder */
    int depth;
};

static void walk_folder(struct found_models *found, const char *name, const char *folder,
                        int depth);
static void add_repository(struct found_models *found, const char *folder, const char *entry);

static void visit(struct found_models *found, const char *folder, const char *entry,
                  void *user_data)
{
    const struct walk *walk = user_data;
    struct stat here, there;
    char *path = format(found, folder, "/", entry);
    char *name = format(found, walk->name, "/", entry);
    /* Links to files are what the cache is made of; links to folders could go in circles. */
    if (path && name && stat(path, &there) == 0 && lstat(path, &here) == 0) {
        if (S_ISDIR(here.st_mode) && strncmp(entry, "models--", 8) == 0)
            add_repository(found, path, entry);
        else if (S_ISDIR(here.st_mode) && walk->depth < MAX_DEPTH)
            walk_folder(found, name, path, walk->depth + 1);
        else if (S_ISREG(there.st_mode) && ends_with(entry, ".gguf"))
            add_gguf(found, name, path);
    }
    free(path);
    free(name);
}

static void walk_folder(struct found_models *found, const char *name, const char *folder, int depth)
{
    struct walk walk = {name, depth};
    add_folder(found, name, folder);
    for_entries(found, folder, visit, &walk);
}

struct repository {
    const char *name;     /* org/repo */
    const char *revision; /* of the reference that points to the snapshot, or NULL */
    const char *commit;
};

/* Looks whether refs/<entry> is the name of the commit; "main" is the best of several. */
static void match_reference(struct found_models *found, const char *folder, const char *entry,
                            void *user_data)
{
    struct repository *r = user_data;
    char commit[64] = "", *path = format(found, folder, "/", entry);
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file && fscanf(file, "%63s", commit) == 1 && strcmp(commit, r->commit) == 0 &&
        (!r->revision || strcmp(entry, "main") == 0)) {
        free((char *)r->revision);
        r->revision = strdup(entry);
    }
    if (file)
        fclose(file);
    free(path);
}

static void add_snapshot(struct found_models *found, const char *folder, const char *entry,
                         void *user_data)
{
    const struct repository *of = user_data;
    struct repository r = {of->name, NULL, entry};
    char *path = format(found, folder, "/", entry);
    char *refs = format(found, folder, "/../", "refs");
    if (refs)
        for_entries(found, refs, match_reference, &r);
    char *name = format(found, r.name, "@", r.revision ? r.revision : entry);
    if (path && name)
        walk_folder(found, name, path, 1);
    free(name);
    free(refs);
    free(path);
    free((char *)r.revision);
}

/* models--org--repo of the cache: every snapshot is a model. */
static void add_repository(struct found_models *found, const char *folder, const char *entry)
{
    char *name = strdup(entry + 8);
    char *snapshots = format(found, folder, "/", "snapshots");
    char *dashes = name ? strstr(name, "--") : NULL;
    struct repository r = {name, NULL, NULL};
    if (dashes) {
        dashes[0] = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    if (name && snapshots)
        for_entries(found, snapshots, add_snapshot, &r);
    found->failed |= !name;
    free(snapshots);
    free(name);
}

int find_models(struct found_models *found, const char *path)
{
    struct stat st;
    char *trimmed = strdup(path);
    size_t n = strlen(path);
    if (!trimmed || stat(path, &st) != 0) {
        terminal_error("cannot open %s: %s", path, trimmed ? strerror(errno) : "no memory");
        free(trimmed);
        return -1;
    }
    while (n > 1 && trimmed[n - 1] == '/')
        trimmed[--n] = 0;
    if (S_ISDIR(st.st_mode))
        walk_folder(found, trimmed, trimmed, 0);
    else
        add_gguf(found, trimmed, trimmed);
    free(trimmed);
    if (found->failed)
        terminal_error("no memory for the list of models");
    return found->failed ? -1 : 0;
}

char *find_models_cache(void)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    struct found_models nothing = {0};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *value = getenv(places[i].variable);
        if (value && *value)
            return format(&nothing, value, places[i].below, "");
    }
    return strdup(".");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct found_model *)a)->name, ((const struct found_model *)b)->name);
}

void found_models_sort(struct found_models *found)
{
    if (found->n)
        qsort(found->items, found->n, sizeof *found->items, by_name);
}

void found_models_free(struct found_models *found)
{
    for (size_t i = 0; i < found->n; i++) {
        free(found->items[i].name);
        free(found->items[i].path);
    }
    free(found->items);
    *found = (struct found_models){0};
}
