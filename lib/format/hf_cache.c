/* Finding a model of the hub in the cache of Hugging Face's client, and proving its files. */
#include "format/hf_cache.h"

#include "base/digest.h"
#include "base/error.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_MAX     96 /* bytes of an organisation or a repository; the hub's own limit */
#define REVISION_MAX 255
#define COMMIT_CHARS 40

struct name {
    struct base_view org, repo, revision; /* org.size 0: none */
};

static int is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Letters, digits, '-', '_', '.', and what is in `more`; never "..". */
static int is_plain(struct base_view v, size_t max, const char *more)
{
    if (!v.size || v.size > max || !is_letter_or_digit(v.data[0]))
        return 0;
    for (size_t i = 0; i < v.size; i++) {
        char c = v.data[i];
        if (!c || (!is_letter_or_digit(c) && !strchr("-_.", c) && !strchr(more, c)))
            return 0;
        if (c == '.' && i + 1 < v.size && v.data[i + 1] == '.')
            return 0;
    }
    return 1;
}

static int split_name(struct name *out, const char *text)
{
    size_t n = strcspn(text, "@"), slash = strcspn(text, "/");
    *out = (struct name){.repo = {text, n}, .revision = {"main", 4}};
    if (text[n])
        out->revision = (struct base_view){text + n + 1, strlen(text + n + 1)};
    if (slash < n) {
        out->org = (struct base_view){text, slash};
        out->repo = (struct base_view){text + slash + 1, n - slash - 1};
        if (!is_plain(out->org, PART_MAX, ""))
            return 0;
    }
    return is_plain(out->repo, PART_MAX, "") && is_plain(out->revision, REVISION_MAX, "/");
}

int hf_cache_is_name(const char *name)
{
    struct name parts;
    return split_name(&parts, name);
}

static int is_hex(struct base_view v, size_t n)
{
    if (v.size != n)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!(v.data[i] >= '0' && v.data[i] <= '9') && !(v.data[i] >= 'a' && v.data[i] <= 'f'))
            return 0;
    return 1;
}

static int is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The commit of a branch or tag, from refs/. */
static infer_status find_commit(char commit[COMMIT_CHARS], const char *repo_dir,
                                const struct name *name, const char *text)
{
    struct base_file file = {0};
    char path[PATH_MAX];
    if (is_hex(name->revision, COMMIT_CHARS)) {
        memcpy(commit, name->revision.data, COMMIT_CHARS);
        return INFER_OK;
    }
    int n = snprintf(path, sizeof path, "%s/refs/%.*s", repo_dir, (int)name->revision.size,
                     name->revision.data);
    if (n < 0 || (size_t)n >= sizeof path)
        return base_error(INFER_ERR_INVALID, "%s: the path of its revision is too long", text);
    infer_status st = base_file_map(&file, path);
    if (st == INFER_ERR_NOT_FOUND)
        return base_error(st, "%s: the cache %s has no revision \"%.*s\" of it", text, repo_dir,
                          (int)name->revision.size, name->revision.data);
    if (st != INFER_OK)
        return st;
    struct base_view v = {(const char *)file.data, file.size};
    while (v.size && strchr(" \r\n", v.data[v.size - 1]))
        v.size--;
    if (is_hex(v, COMMIT_CHARS))
        memcpy(commit, v.data, COMMIT_CHARS);
    else
        st = base_error(INFER_ERR_FORMAT, "%s does not hold the 40 digits of a commit", path);
    base_file_unmap(&file);
    return st;
}

infer_status hf_cache_find(struct base_str *out, const char *hub_dir, const char *name)
{
    struct name parts;
    char commit[COMMIT_CHARS];
    if (!split_name(&parts, name))
        return base_error(INFER_ERR_INVALID, "\"%s\" is no name of a model: org/repo[@revision]",
                          name);
    base_str_clear(out);
    infer_status st =
        base_str_appendf(out, "%s/models--%.*s%s%.*s", hub_dir, (int)parts.org.size,
                         parts.org.data ? parts.org.data : "", parts.org.size ? "--" : "",
                         (int)parts.repo.size, parts.repo.data);
    if (st != INFER_OK)
        return st;
    if (!is_folder(out->data))
        return base_error(INFER_ERR_NOT_FOUND, "%s: neither a file or folder nor in the cache %s",
                          name, hub_dir);
    st = find_commit(commit, out->data, &parts, name);
    if (st != INFER_OK)
        return st;
    st = base_str_appendf(out, "/snapshots/%.*s", COMMIT_CHARS, commit);
    if (st == INFER_OK && !is_folder(out->data))
        st =
            base_error(INFER_ERR_NOT_FOUND, "%s: the cache lacks its snapshot %s", name, out->data);
    return st;
}

infer_status hf_cache_verify(const char *path, const struct base_file *file)
{
    char link[PATH_MAX], digest[BASE_DIGEST_TEXT_MAX];
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n <= 0)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "%s links to no blob of a cache: there is nothing to verify it with",
                          path);
    link[n] = 0;
    const char *name = strrchr(link, '/');
    name = name ? name + 1 : link;
    struct base_view blob = {name, strlen(name)};
    if (!is_hex(blob, 64) && !is_hex(blob, 40))
        return base_error(INFER_ERR_UNSUPPORTED, "%s links to \"%s\", which is named by no digest",
                          path, name);
    infer_status st = blob.size == 64 ? base_digest_sha256(digest, file->data, file->size)
                                      : base_digest_git_blob(digest, file->data, file->size);
    if (st == INFER_OK && strcmp(digest, name) != 0)
        st = base_error(INFER_ERR_FORMAT, "%s is damaged: its digest is %s, its blob's name %s",
                        path, digest, name);
    return st;
}
