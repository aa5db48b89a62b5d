/* Answers from documents: text files are cut into passages and indexed, those nearest to a question
 * go to a model with it, and the answer names the passages that it was given. */
#include <infer/infer.h>
#include <stdio.h>

#define PASSAGE 400 /* bytes at most */

struct rag {
    infer_model *model, *embedder;
    infer_session *session, *embed_session;
    infer_index *index;
    infer_embed_options embed;
    float vector[8192]; /* an index has no more dimensions */
};

static int32_t print(const char *text, size_t size, void *user_data)
{
    (void)user_data;
    return fwrite(text, 1, size, stdout) != size;
}

static infer_status embed(struct rag *r, const char *text, infer_embed_as as)
{
    r->embed.as = as;
    return infer_session_embed(r->vector, r->embed_session, &text, NULL, 1, &r->embed, NULL);
}

/* Whole lines where they are short enough, without what a string of JSON would have to escape: the
 * passage is the metadata of its record. Returns its length. */
static size_t read_passage(FILE *f, char text[PASSAGE])
{
    size_t n = fread(text, 1, PASSAGE - 1, f), end = n;
    while (n == PASSAGE - 1 && end && text[end - 1] != '\n')
        end--;
    end = end ? end : n;
    fseek(f, (long)end - (long)n, SEEK_CUR);
    for (size_t i = 0; i < end; i++)
        if (text[i] == '"' || text[i] == '\\' || (unsigned char)text[i] < ' ')
            text[i] = ' ';
    text[end] = 0;
    return end;
}

static infer_status add_file(struct rag *r, const char *path)
{
    char text[PASSAGE], json[PASSAGE + 32], id[255];
    infer_record record = {.id = id, .vector = r->vector, .metadata = json};
    infer_status status = INFER_OK;
    FILE *f = fopen(path, "r");
    if (!f)
        return perror(path), INFER_OK; /* the others may say enough */
    for (int i = 1; status == INFER_OK && read_passage(f, text); i++) {
        snprintf(id, sizeof id, "%.200s#%d", path, i);
        snprintf(json, sizeof json, "{\"text\":\"%s\"}", text);
        status = embed(r, text, INFER_EMBED_AS_DOCUMENT);
        if (status == INFER_OK)
            status = infer_index_upsert(r->index, &record, 1);
    }
    fclose(f);
    return status;
}

static infer_status answer(struct rag *r, const char *question)
{
    char prompt[4096];
    infer_hits *hits = NULL;
    infer_hit hit = {.struct_size = sizeof hit};
    infer_index_query query = {.struct_size = sizeof query,
                               .vector = r->vector,
                               .top_k = 2,
                               .with = INFER_INDEX_WITH_METADATA};
    infer_message message = {.role = "user", .content = prompt};
    infer_request_options options = {
        .struct_size = sizeof options, .messages = &message, .n_messages = 1};
    infer_status status = embed(r, question, INFER_EMBED_AS_QUERY);
    if (status == INFER_OK)
        status = infer_index_search(&hits, r->index, &query, 1);
    int n = sprintf(prompt, "Passage:");
    for (size_t i = 0; hits && infer_hits_at(hits, 0, i, &hit) == INFER_OK; i++) {
        printf("%s [%s]", i ? "" : "From:", hit.id);
        /* what lies between {"text":" and "} */
        n += sprintf(prompt + n, " %.*s", (int)hit.metadata_size - 11, hit.metadata + 9);
    }
    snprintf(prompt + n, sizeof prompt - (size_t)n, " Question: %s", question);
    infer_hits_destroy(&hits);
    printf("\n");
    if (status == INFER_OK)
        status = infer_session_generate(r->session, NULL, &options, print, NULL);
    printf("\n");
    return status;
}

int main(int argc, char **argv)
{
    static struct rag r = {.embed = {.struct_size = sizeof r.embed}};
    infer_embedding_info info = {.struct_size = sizeof info};
    infer_index_options options = {.struct_size = sizeof options};
    infer_status status = INFER_ERR_INVALID;
    if (argc < 5)
        return fprintf(stderr, "usage: rag MODEL EMBEDDER QUESTION FILE ...\n"), 2;
    if (infer_model_load(&r.model, argv[1], NULL) == 0 &&
        infer_model_load(&r.embedder, argv[2], NULL) == 0 &&
        infer_model_get_embedding_info(r.embedder, &info) == 0 &&
        infer_session_create(&r.session, r.model, NULL) == 0 &&
        infer_session_create(&r.embed_session, r.embedder, NULL) == 0) {
        r.embed.pooling = info.can_embed ? INFER_POOLING_DEFAULT : INFER_POOLING_MEAN;
        options.dims = info.dims;
        status = infer_index_open(&r.index, NULL, &options);
    }
    for (int i = 4; i < argc && status == INFER_OK; i++)
        status = add_file(&r, argv[i]);
    if (status != INFER_OK || (status = answer(&r, argv[3])) != INFER_OK)
        fprintf(stderr, "%s\n", infer_last_error());
    infer_index_destroy(&r.index);
    infer_session_destroy(&r.embed_session);
    infer_session_destroy(&r.session);
    infer_model_destroy(&r.embedder);
    infer_model_destroy(&r.model);
    return status != INFER_OK;
}
