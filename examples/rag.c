/* Answers from documents: text files are cut into passages and indexed, those nearest to a question
 * go to a model with it, and the answer names the passages that it was given. */
#include <infer/infer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSAGE   400 /* bytes at most */
#define RETRIEVED 2

struct rag {
    infer_model *model, *embedder;
    infer_session *session, *embed_session;
    infer_index *index;
    infer_embed_options embed;
    float vector[8192];
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

/* The passage is the metadata of its record: a string of JSON, so without quotes and controls. */
static infer_status add_passage(struct rag *r, const char *id, char *text)
{
    char json[PASSAGE + 32];
    for (char *c = text; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = ' ';
    snprintf(json, sizeof json, "{\"text\":\"%s\"}", text);
    infer_status status = embed(r, text, INFER_EMBED_AS_DOCUMENT);
    infer_record record = {.id = id, .vector = r->vector, .metadata = json};
    return status == INFER_OK ? infer_index_upsert(r->index, &record, 1) : status;
}

/* Passages are whole lines where lines are short enough. */
static infer_status add_file(struct rag *r, const char *path)
{
    char line[PASSAGE], text[PASSAGE] = "", id[255];
    infer_status status = INFER_OK;
    FILE *f = fopen(path, "r");
    for (int n = 0, more = 1; f && more && status == INFER_OK;) {
        more = fgets(line, sizeof line, f) != NULL;
        if (*text && (!more || strlen(text) + strlen(line) >= sizeof text)) {
            snprintf(id, sizeof id, "%.200s#%d", path, ++n);
            status = add_passage(r, id, text);
            *text = 0;
        }
        strcat(text, more ? line : "");
    }
    if (f)
        fclose(f);
    else
        perror(path);
    return status;
}

static infer_status answer(struct rag *r, const char *question)
{
    infer_hits *hits = NULL;
    infer_index_query query = {.struct_size = sizeof query,
                               .vector = r->vector,
                               .top_k = RETRIEVED,
                               .with = INFER_INDEX_WITH_METADATA};
    char prompt[4096] = "Passage:", cited[RETRIEVED * 260] = "";
    infer_status status = embed(r, question, INFER_EMBED_AS_QUERY);
    if (status == INFER_OK)
        status = infer_index_search(&hits, r->index, &query, 1);
    for (size_t i = 0; status == INFER_OK && i < infer_hits_count(hits, 0); i++) {
        infer_hit hit = {.struct_size = sizeof hit};
        status = infer_hits_at(hits, 0, i, &hit);
        size_t n = strlen(prompt), c = strlen(cited);
        /* what lies between {"text":" and "} */
        snprintf(prompt + n, sizeof prompt - n, " %.*s", (int)hit.metadata_size - 11,
                 hit.metadata + 9);
        snprintf(cited + c, sizeof cited - c, " [%s]", hit.id);
    }
    infer_hits_destroy(&hits);
    size_t n = strlen(prompt);
    snprintf(prompt + n, sizeof prompt - n, " Question: %s", question);
    infer_message message = {.role = "user", .content = prompt};
    infer_request_options options = {
        .struct_size = sizeof options, .messages = &message, .n_messages = 1};
    if (status == INFER_OK)
        status = infer_session_generate(r->session, NULL, &options, print, NULL);
    printf("\nFrom:%s\n", cited);
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
        options.dims = info.dims <= 8192 ? info.dims : 8192;
        status = infer_index_open(&r.index, NULL, &options);
    }
    for (int i = 4; i < argc && status == INFER_OK; i++)
        status = add_file(&r, argv[i]);
    if (status != INFER_OK || (status = answer(&r, argv[3])) != INFER_OK)
        fprintf(stderr, "%s\n", infer_last_error());
    return status != INFER_OK; /* the end of the process gives back what there is */
}
