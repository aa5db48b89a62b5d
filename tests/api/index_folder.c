/* See index_folder.h. */
#include "index_folder.h"

#include <dirent.h>
#include <unistd.h>

static char folder[512]; /* of the test that runs; removed after it */

static void remove_inside(const char *path)
{
    char name[1024];
    struct dirent *entry;
    DIR *dir = opendir(path);
    if (!dir)
        return;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name) != 0) {
            remove_inside(name);
            rmdir(name);
        }
    }
    closedir(dir);
}

int index_folder_set_up(void **state)
{
    const char *parent = getenv("TMPDIR");
    (void)state;
    snprintf(folder, sizeof folder, "%s/infer-api-XXXXXX", parent ? parent : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

int index_folder_tear_down(void **state)
{
    (void)state;
    remove_inside(folder);
    return rmdir(folder);
}

const char *index_folder_inside(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
