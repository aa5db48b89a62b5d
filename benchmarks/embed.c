/* Embeds the texts of a file again and again: for each line of its standard input all of them once,
 * and prints how long that took. For benchmarks/embed.py.
 *
 * usage: embed_speed MODEL TEXTS THREADS STEP_TOKENS [VECTORS [DEVICE [fast]]]
 * TEXTS has one text a line; VECTORS receives the vectors of the first pass; DEVICE is 0 for the
 * CPU, from 1 on a GPU; fast: with INFER_NUMERICS_FAST. */
#include <infer/infer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct input {
    char *bytes;
    const char **texts;
    size_t n;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int read_input(struct input *in, const char *path)
{
    FILE *f = fopen(path, "rb");
    long size = -1;
    if (f && fseek(f, 0, SEEK_END) == 0)
        size = ftell(f);
    if (size < 0 || fseek(f, 0, SEEK_SET) != 0)
        return 0;
    in->bytes = calloc((size_t)size + 1, 1);
    in->texts = calloc((size_t)size + 1, sizeof *in->texts);
    int is_read = in->bytes && in->texts && fread(in->bytes, 1, (size_t)size, f) == (size_t)size;
    fclose(f);
    for (char *at = is_read ? strtok(in->bytes, "\n") : NULL; at; at = strtok(NULL, "\n"))
        in->texts[in->n++] = at;
    return in->n > 0;
}

static void write_vectors(const char *path, const float *vectors, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(vectors, sizeof *vectors, n, f) != n || fclose(f) != 0) {
        fprintf(stderr, "%s cannot be written\n", path);
        exit(1);
    }
}

static void check(infer_status status)
{
    if (status == INFER_OK)
        return;
    fprintf(stderr, "%s\n", infer_last_error());
    exit(1);
}

int main(int argc, char **argv)
{
    struct input in = {0};
    infer_device *device = NULL;
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_embedding_info info = {.struct_size = sizeof info};
    infer_embed_options options = {.struct_size = sizeof options, .truncate = 1};
    infer_embed_report report = {.struct_size = sizeof report};
    char line[64];
    if (argc < 5 || !read_input(&in, argv[2])) {
        fprintf(stderr,
                "usage: embed_speed MODEL TEXTS THREADS STEP_TOKENS [VECTORS [DEVICE [fast]]]\n");
        return 2;
    }
    infer_device_options d = {.struct_size = sizeof d, .n_threads = atoi(argv[3])};
    check(infer_device_create(&device, argc > 6 ? atoi(argv[6]) : 0, &d));
    infer_model_options m = {.struct_size = sizeof m, .device = device};
    check(infer_model_load(&model, argv[1], &m));
    infer_session_options s = {.struct_size = sizeof s, .step_tokens = atoi(argv[4])};
    s.numerics = argc > 7 ? INFER_NUMERICS_FAST : INFER_NUMERICS_STABLE;
    check(infer_session_create(&session, model, &s));
    check(infer_model_get_embedding_info(model, &info));
    const size_t n_floats = in.n * (size_t)info.dims;
    float *vectors = malloc(n_floats * sizeof *vectors);
    for (int pass = 0; vectors && fgets(line, sizeof line, stdin); pass++) {
        double begin = seconds(), cpu = processor_seconds();
        check(infer_session_embed(vectors, session, in.texts, NULL, in.n, &options, &report));
        printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"n_texts\": %zu, \"n_tokens\": %llu}\n",
               seconds() - begin, processor_seconds() - cpu, in.n,
               (unsigned long long)report.n_tokens);
        fflush(stdout);
        if (!pass && argc > 5)
            write_vectors(argv[5], vectors, n_floats);
    }
    free(vectors);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    infer_device_destroy(&device);
    free(in.texts);
    free(in.bytes);
    return 0;
}
