/* Files of vectors, mapped. */
#include "rows.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int rows_map(struct rows *rows, const char *path)
{
    int fd = open(path, O_RDONLY);
    struct stat st;
    const int32_t *data = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 8)
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (data == MAP_FAILED) {
        perror(path);
        return -1;
    }
    if (data[0] <= 0 || data[1] <= 0 || (int64_t)data[0] * data[1] * 4 + 8 != (int64_t)st.st_size) {
        fprintf(stderr, "%s is no file of vectors\n", path);
        return -1;
    }
    *rows = (struct rows){.data = (const float *)(data + 2), .n = data[0], .dims = data[1]};
    return 0;
}
