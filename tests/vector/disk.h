/* Shared by the tests of what is on the disk: a folder of their own, files as bytes, damage. */
#ifndef TESTS_VECTOR_DISK_H
#define TESTS_VECTOR_DISK_H

#include "support/test.h"

#include "base/error.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char disk_folder[256];

static inline int disk_make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    snprintf(disk_folder, sizeof disk_folder, "%s/infer-vector-XXXXXX", tmp ? tmp : "/tmp");
    return !mkdtemp(disk_folder);
}

static inline int disk_remove_folder(void **state)
{
    (void)state;
    return rmdir(disk_folder); /* fails where a test has left something */
}

/* Path of a file there, borrowed until the eighth next call. */
static inline const char *disk_path(const char *name)
{
    static char paths[8][600];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", disk_folder, name);
    return path;
}

static inline int disk_count(const char *path)
{
    int n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

/* A new file each time: writing over the old one makes some file systems wait for the disk. */
static inline void disk_put(const char *path, const void *data, size_t size)
{
    unlink(path);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

/* No file may grow beyond `bytes`, as on a full disk; 0: they may again. */
static inline void disk_limit(size_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Damage number `i` of three kinds: cut short, one bit, eight bits of which some bit changes. */
enum { DISK_CUT, DISK_BIT, DISK_BITS };
static inline size_t disk_damage(uint8_t *data, size_t size, int kind, uint64_t *seed)
{
    const size_t at = test_rand(seed) % size;
    if (kind == DISK_CUT)
        return at;
    if (kind == DISK_BIT)
        data[at] ^= (uint8_t)(1u << test_rand(seed) % 8);
    else
        data[at] ^= (uint8_t)(1 + test_rand(seed) % 255);
    return size;
}

#define assert_says(text)                                                                          \
    do {                                                                                           \
        if (!strstr(test_error_text(), (text)))                                                    \
            fail_msg("\"%s\" does not say \"%s\"", test_error_text(), (text));                     \
    } while (0)

#endif
