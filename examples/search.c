/* Search by meaning: the lines of standard input that are nearest to a query. The index here is in
 * memory; with a path it would be a folder that survives crashes. */
#include <infer/infer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_MAX 10000

static size_t read_lines(char **lines)
{
    char line[4096];
    size_t n = 0;
    while (n < LINES_MAX && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (*line && (lines[n] = malloc(strlen(line) + 1)))
            strcpy(lines[n++], line);
    }
    return n;
}

/* Each line under its number as id. */
static infer_status add(infer_index *index, const float *vectors, size_t dims, size_t n)
{
    infer_status status = INFER_OK;
    for (size_t i = 0; i < n && status == INFER_OK; i++) {
        char id[24];
        snprintf(id, sizeof id, "%zu", i);
        status =
            infer_index_upsert(index, &(infer_record){.id = id, .vector = vectors + i * dims}, 1);
    }
    return status;
}

static void print(const infer_hits *hits, char *const *lines)
{
    for (size_t i = 0; i < infer_hits_count(hits, 0); i++) {
        infer_hit hit = {.struct_size = sizeof hit};
        if (infer_hits_at(hits, 0, i, &hit) == INFER_OK)
            printf("%.3f %s\n", (double)hit.score, lines[atoi(hit.id)]);
    }
}

static infer_status search(infer_session *session, const infer_embedding_info *info,
                           char *const *lines, size_t n, const char *text)
{
    infer_index *index = NULL;
    infer_hits *hits = NULL;
    size_t dims = (size_t)info->dims;
    float *vectors = malloc((n + 1) * dims * sizeof *vectors);
    infer_index_options options = {.struct_size = sizeof options, .dims = info->dims};
    infer_embed_options embed = {.struct_size = sizeof embed, .as = INFER_EMBED_AS_DOCUMENT};
    infer_index_query query = {.struct_size = sizeof query, .top_k = 5};
    infer_status status = vectors ? INFER_OK : INFER_ERR_NO_MEMORY;
    if (!info->can_embed)
        embed.pooling = INFER_POOLING_MEAN; /* a model that was made for something else */
    if (status == INFER_OK)
        status = infer_session_embed(vectors, session, (const char *const *)lines, NULL, n, &embed,
                                     NULL);
    embed.as = INFER_EMBED_AS_QUERY;
    if (status == INFER_OK)
        status = infer_session_embed(vectors + n * dims, session, &text, NULL, 1, &embed, NULL);
    if (status == INFER_OK && (status = infer_index_open(&index, NULL, &options)) == INFER_OK)
        status = add(index, vectors, dims, n);
    query.vector = vectors + n * dims;
    if (status == INFER_OK)
        status = infer_index_search(&hits, index, &query, 1);
    if (status == INFER_OK)
        print(hits, lines);
    infer_hits_destroy(&hits);
    infer_index_destroy(&index);
    free(vectors);
    return status;
}

int main(int argc, char **argv)
{
    static char *lines[LINES_MAX];
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_embedding_info info = {.struct_size = sizeof info};
    infer_status status = INFER_ERR_INVALID;
    size_t n = argc == 3 ? read_lines(lines) : 0;
    if (n == 0) {
        fprintf(stderr, "usage: search MODEL QUERY < LINES\n");
        return 2;
    }
    if (infer_model_load(&model, argv[1], NULL) == 0 &&
        infer_model_get_embedding_info(model, &info) == 0 &&
        infer_session_create(&session, model, NULL) == 0)
        status = search(session, &info, lines, n, argv[2]);
    if (status != INFER_OK)
        fprintf(stderr, "%s\n", infer_last_error());
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    while (n > 0)
        free(lines[--n]);
    return status != INFER_OK;
}
