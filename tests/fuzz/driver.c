/* Runs a fuzz target without libFuzzer: every file of its corpus, then seeded
 * mutations of them, the same ones each time.
 *
 *     replay_gguf CORPUS [--runs N] [--seed S]
 *
 * A file in place of the folder is run alone. When the target crashes, the
 * input goes to ./crash-input. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILES   1024
#define MAX_BYTES   (1 << 16) /* of a mutated input */
#define MAX_CHANGES 8

struct input {
    uint8_t *data;
    size_t size;
};

struct corpus {
    struct input inputs[MAX_FILES];
    int n;
};

/* What the target is looking at, for the crash handlers. */
static struct input current;

/* Present under the sanitizers, which end the program without a signal. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void save_current(void)
{
    static const char text[] = "\nthe input is in ./crash-input\n";
    int fd = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, current.data, current.size) == (ssize_t)current.size)
        if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
            _exit(1);
    if (fd >= 0)
        close(fd);
}

static void on_signal(int number)
{
    save_current();
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t next(uint64_t *state)
{
    /* splitmix64, Steele et al. 2014 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t n)
{
    return n ? (size_t)(next(state) % n) : 0;
}

/* The target gets a block of exactly its input's size, so that a sanitizer sees
 * the first byte read beyond it. */
static void run(const uint8_t *data, size_t size)
{
    current.data = malloc(size ? size : 1);
    current.size = size;
    if (!current.data) {
        fprintf(stderr, "driver: out of memory\n");
        exit(1);
    }
    if (size)
        memcpy(current.data, data, size);
    LLVMFuzzerTestOneInput(current.data, size);
    free(current.data);
    current.data = NULL;
    current.size = 0;
}

static int read_file(struct corpus *c, const char *path)
{
    FILE *f = fopen(path, "rb");
    struct input *in = &c->inputs[c->n];
    if (!f || c->n == MAX_FILES)
        return -1;
    in->data = malloc(MAX_BYTES);
    in->size = in->data ? fread(in->data, 1, MAX_BYTES, f) : 0;
    fclose(f);
    if (!in->data)
        return -1;
    c->n++;
    return 0;
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int read_corpus(struct corpus *c, const char *path)
{
    struct dirent **entries;
    char file[4096];
    int failed = 0, n = scandir(path, &entries, not_hidden, alphasort);
    if (n < 0)
        return read_file(c, path);
    for (int i = 0; i < n; i++) {
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        failed |= read_file(c, file);
        free(entries[i]);
    }
    free(entries);
    return failed;
}

/* Numbers at which lengths and offsets go wrong, in 1, 2, 4 or 8 bytes. */
static void put_number(struct input *in, uint64_t *state)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       2,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0xffff,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       1u << 31,
                                       UINT64_MAX,
                                       UINT64_MAX / 2,
                                       (uint64_t)1 << 61,
                                       (uint64_t)1 << 40};
    uint64_t value = numbers[below(state, sizeof numbers / sizeof numbers[0])];
    size_t bytes = (size_t)1 << below(state, 4);
    if (bytes > in->size)
        return;
    size_t at = below(state, in->size - bytes + 1);
    for (size_t i = 0; i < bytes; i++)
        in->data[at + i] = (uint8_t)(value >> (8 * i));
}

static void remove_run(struct input *in, uint64_t *state)
{
    size_t at = below(state, in->size), n = below(state, in->size - at) + 1;
    memmove(in->data + at, in->data + at + n, in->size - at - n);
    in->size -= n;
}

/* Inserts a run of another input, or of the same one. */
static void transplant(struct input *in, const struct corpus *c, uint64_t *state)
{
    const struct input *from = &c->inputs[below(state, (size_t)c->n)];
    if (!from->size)
        return;
    size_t start = below(state, from->size), n = below(state, from->size - start) + 1;
    size_t at = below(state, in->size + 1);
    if (n > MAX_BYTES - in->size)
        return;
    memmove(in->data + at + n, in->data + at, in->size - at);
    memcpy(in->data + at, from->data + start, n);
    in->size += n;
}

/* Overwrites with a run of another input, which keeps the frame in step. */
static void graft(struct input *in, const struct corpus *c, uint64_t *state)
{
    const struct input *from = &c->inputs[below(state, (size_t)c->n)];
    if (!from->size || !in->size)
        return;
    size_t start = below(state, from->size), at = below(state, in->size);
    size_t n = below(state, from->size - start) + 1;
    if (n > in->size - at)
        n = in->size - at;
    memcpy(in->data + at, from->data + start, n);
}

static void change(struct input *in, const struct corpus *c, uint64_t *state)
{
    size_t kind = below(state, 8);
    if (!in->size) {
        transplant(in, c, state);
        return;
    }
    switch (kind) {
    case 0:
    case 1:
        in->data[below(state, in->size)] ^= (uint8_t)(1u << below(state, 8));
        break;
    case 2:
        in->data[below(state, in->size)] = (uint8_t)next(state);
        break;
    case 3:
    case 4:
        put_number(in, state);
        break;
    case 5:
        if (below(state, 4) == 0)
            in->size = below(state, in->size);
        else
            remove_run(in, state);
        break;
    case 6:
        transplant(in, c, state);
        break;
    default:
        graft(in, c, state);
    }
}

static void mutate(const struct corpus *c, long runs, uint64_t seed)
{
    static uint8_t buffer[MAX_BYTES];
    for (long i = 0; i < runs; i++) {
        uint64_t state = seed + (uint64_t)i * 0xd1342543de82ef95u;
        const struct input *base = &c->inputs[below(&state, (size_t)c->n)];
        struct input in = {buffer, base->size};
        memcpy(buffer, base->data, base->size);
        for (size_t n = 1 + below(&state, MAX_CHANGES); n > 0; n--)
            change(&in, c, &state);
        run(in.data, in.size);
    }
}

int main(int argc, char **argv)
{
    static struct corpus corpus;
    static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    const char *path = NULL;
    long runs = 0;
    uint64_t seed = 1;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            runs = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else
            path = argv[i];
    }
    if (!path || read_corpus(&corpus, path) != 0 || corpus.n == 0) {
        fprintf(stderr, "usage: %s CORPUS [--runs N] [--seed S]: a folder of inputs or one file\n",
                argv[0]);
        return 1;
    }
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], on_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(save_current);
    for (int i = 0; i < corpus.n; i++)
        run(corpus.inputs[i].data, corpus.inputs[i].size);
    mutate(&corpus, runs, seed);
    printf("%d inputs and %ld mutations of them\n", corpus.n, runs);
    for (int i = 0; i < corpus.n; i++)
        free(corpus.inputs[i].data);
    return 0;
}
