/* A folder of an index, for its tests. */
#ifndef TESTS_VECTOR_FOLDER_SAMPLE_H
#define TESTS_VECTOR_FOLDER_SAMPLE_H

#include "disk.h"
#include "fail_calls.h"

#include "vector/folder.h"

static const struct vector_manifest first = {
    .traits = {.dims = 3, .degree = 32, .effort = 200, .model = "abc", .pooling = "mean"},
    .next_file = 1,
    .first_log = 1};

static inline infer_status open_with(struct vector_folder **f, const struct base_alloc *a,
                                     int read_only, int must_exist,
                                     const struct vector_manifest **m)
{
    *f = NULL;
    return vector_folder_open(f, a, disk_path("index"), read_only, must_exist, &first, m);
}

static inline infer_status open_folder(struct vector_folder **f, int read_only, int must_exist,
                                       const struct vector_manifest **m)
{
    return open_with(f, &base_alloc_default, read_only, must_exist, m);
}

static inline const char *inside(const char *folder, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return disk_path(path);
}

/* Nothing of ours is in sub-folders. */
static inline void empty(const char *folder)
{
    DIR *dir = opendir(disk_path(folder));
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.')
            assert_int_equal(unlink(inside(folder, e->d_name)), 0);
    closedir(dir);
    assert_int_equal(rmdir(disk_path(folder)), 0);
}

#endif
