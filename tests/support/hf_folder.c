/* Temporary model folders. */
#include "support/hf_folder.h"

#include "support/test.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

void hf_folder_make(struct hf_folder *f)
{
    const char *base = getenv("TMPDIR");
    snprintf(f->path, sizeof f->path, "%s/infer-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(f->path));
}

static void remove_all(const char *path)
{
    struct stat st;
    DIR *d = lstat(path, &st) == 0 && S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char inner[1024];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        remove_all(inner);
    }
    if (d)
        closedir(d);
    remove(path);
}

void hf_folder_remove(struct hf_folder *f)
{
    remove_all(f->path);
}

const char *hf_folder_path(const struct hf_folder *f, const char *name)
{
    static char paths[4][1024];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", f->path, name);
    return p;
}

void hf_folder_subfolder(const struct hf_folder *f, const char *name)
{
    assert_int_equal(mkdir(hf_folder_path(f, name), 0755), 0);
}

void hf_folder_bytes(const struct hf_folder *f, const char *name, const void *data, size_t size)
{
    FILE *file = fopen(hf_folder_path(f, name), "wb");
    assert_non_null(file);
    assert_true(!size || fwrite(data, size, 1, file) == 1);
    assert_int_equal(fclose(file), 0);
}

void hf_folder_text(const struct hf_folder *f, const char *name, const char *text)
{
    hf_folder_bytes(f, name, text, strlen(text));
}

void hf_folder_link(const struct hf_folder *f, const char *name, const char *target)
{
    assert_int_equal(symlink(target, hf_folder_path(f, name)), 0);
}

void hf_folder_tensors(const struct hf_folder *f, const char *name, const struct hf_tensor *tensors,
                       size_t n)
{
    static const size_t room = 1 << 20;
    char *header = malloc(room);
    size_t at = 0, offset = 0;
    FILE *file = fopen(hf_folder_path(f, name), "wb");
    assert_non_null(header);
    assert_non_null(file);
    at += (size_t)snprintf(header, room, "{");
    for (size_t i = 0; i < n; i++) {
        at += (size_t)snprintf(header + at, room - at, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                               i ? "," : "", tensors[i].name, tensors[i].dtype);
        for (int d = 0; d < 5 && tensors[i].dims[d] >= 0; d++)
            at += (size_t)snprintf(header + at, room - at, "%s%lld", d ? "," : "",
                                   (long long)tensors[i].dims[d]);
        at += (size_t)snprintf(header + at, room - at, "],\"data_offsets\":[%zu,%zu]}", offset,
                               offset + tensors[i].bytes);
        offset += tensors[i].bytes;
        assert_true(at < room - 1024);
    }
    at += (size_t)snprintf(header + at, room - at, "}");
    while (at % 8)
        header[at++] = ' ';
    for (int i = 0; i < 8; i++)
        fputc((int)((uint64_t)at >> 8 * i & 255), file);
    assert_int_equal(fwrite(header, at, 1, file), 1);
    for (size_t i = 0; i < n; i++)
        assert_true(!tensors[i].bytes || fwrite(tensors[i].data, tensors[i].bytes, 1, file) == 1);
    assert_int_equal(fclose(file), 0);
    free(header);
}
