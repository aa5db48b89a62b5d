/* Texts by meaning: how like each is to the first, by a model for embeddings.
 * Texts are arguments, or the lines of the standard input. */
#include <infer/infer.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXTS_MAX 10000
#define LINE_MAX  65536

/* The lines of the standard input, without their ends and without empty ones. */
static size_t read_lines(const char **texts)
{
    static char line[LINE_MAX];
    size_t n = 0;
    while (n < TEXTS_MAX && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        if (!line[0])
            continue;
        char *copy = malloc(strlen(line) + 1);
        if (!copy)
            break;
        texts[n++] = strcpy(copy, line);
    }
    return n;
}

static double likeness(const float *a, const float *b, int32_t n)
{
    double dot = 0, aa = 0, bb = 0;
    for (int32_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? dot / sqrt(aa * bb) : 0;
}

static void print(const float *vectors, int32_t dims, const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%6.3f  %s\n", likeness(vectors, vectors + i * (size_t)dims, dims), texts[i]);
}

/* A vector for each text; free() them. NULL: infer_last_error() says why. */
static float *embed(infer_model *model, const char *const *texts, size_t n, int32_t *dims)
{
    infer_session *session = NULL;
    infer_embedding_info info = {.struct_size = sizeof info};
    infer_embed_options options = {.struct_size = sizeof options, .truncate = 1};
    float *vectors = NULL;
    infer_status status = infer_model_get_embedding_info(model, &info);
    if (!info.can_embed) /* a model that only generates: its files name no pooling */
        options.pooling = INFER_POOLING_MEAN;
    if (status == INFER_OK && infer_session_create(&session, model, NULL) == INFER_OK)
        vectors = malloc(n * (size_t)info.dims * sizeof *vectors);
    if (vectors && infer_session_embed(vectors, session, texts, NULL, n, &options, NULL) != 0) {
        free(vectors);
        vectors = NULL;
    }
    infer_session_destroy(&session);
    *dims = info.dims;
    return vectors;
}

int main(int argc, char **argv)
{
    static const char *lines[TEXTS_MAX];
    infer_model *model = NULL;
    if (argc < 2) {
        fprintf(stderr, "usage: embed MODEL [TEXT ...]   without texts: lines of the input\n");
        return 2;
    }
    size_t n = argc > 2 ? (size_t)(argc - 2) : read_lines(lines);
    const char *const *texts = argc > 2 ? (const char *const *)argv + 2 : lines;
    int32_t dims = 0;
    float *vectors = NULL;
    if (infer_model_load(&model, argv[1], NULL) == INFER_OK)
        vectors = embed(model, texts, n, &dims);
    if (vectors)
        print(vectors, dims, texts, n);
    else
        fprintf(stderr, "%s\n", infer_last_error());
    int failed = !vectors;
    free(vectors);
    infer_model_destroy(&model);
    for (size_t i = 0; argc <= 2 && i < n; i++)
        free((void *)lines[i]);
    return failed;
}
