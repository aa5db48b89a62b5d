/* Shared by all tests: finding and reading files, random numbers, TAP output. */
#include "support/test.h"

#include "base/error.h"

#include <sys/stat.h>

#ifndef TEST_SOURCE_ROOT
#error "TEST_SOURCE_ROOT must name the source tree"
#endif

#define PATH_SLOTS 4

/* Takes the place of cmocka's function, through which all its output goes, so that
 * the output stays TAP: what a test prints becomes a comment, and a skipped case is
 * "ok", where cmocka 1.1.5 writes "not ok", which means that it failed. */
__attribute__((visibility("default"))) void print_message(const char *const format, ...)
{
    static const char *const words[] = {"ok ", "not ok ", "1..", "#", "TAP ", "\n"};
    char line[4096];
    char name[256];
    unsigned number;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    const char *verdict = strncmp(line, "not ", 4) == 0 ? line + 4 : line;
    if (sscanf(verdict, "ok %u # SKIP %255[^\n]", &number, name) == 2) {
        printf("ok %u - %s # SKIP\n", number, name);
        return;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strncmp(line, words[i], strlen(words[i])) == 0) {
            fputs(line, stdout);
            return;
        }
    printf("# %s", line);
}

static const char *join(const char *root, const char *relative)
{
    static char paths[PATH_SLOTS][4096];
    static int next;
    char *path = paths[next++ % PATH_SLOTS];
    snprintf(path, sizeof paths[0], "%s/%s", root, relative);
    return path;
}

const char *test_source(const char *relative)
{
    return join(TEST_SOURCE_ROOT, relative);
}

const char *test_data(const char *relative)
{
    const char *root = getenv("INFER_TEST_DATA");
    const char *path = join(root ? root : TEST_SOURCE_ROOT "/../shared/data", relative);
    struct stat st;
    if (stat(path, &st) != 0) {
        print_message("skipped: test data %s is absent\n", relative);
        skip();
    }
    return path;
}

char *test_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *data = malloc((size_t)n + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)n, f), n);
    data[n] = 0;
    fclose(f);
    if (size)
        *size = (size_t)n;
    return data;
}

uint32_t test_rand(uint64_t *state)
{
    /* splitmix64, Steele et al. 2014 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

float test_randf(uint64_t *state)
{
    return (float)test_rand(state) * 0x1p-31f - 1.0f;
}

const char *test_error_text(void)
{
    return base_error_text();
}
