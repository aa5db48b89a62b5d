/* Collecting records, and writing them. */
#include "index_batch.h"

#include "command.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>

static size_t keep(struct index_batch *b, const char *text, size_t size)
{
    size_t at = b->words.size;
    buffer_append(&b->words, text, size);
    buffer_append(&b->words, "", 1);
    return at;
}

static int begin(struct index_batch *b, int32_t dims)
{
    int status = STATUS_OK;
    if (!b->h->index) {
        b->h->options.dims = dims;
        status = index_host_open(b->h);
    }
    if (status != STATUS_OK || b->vectors)
        return status;
    b->dims = dims;
    b->vectors = malloc(INDEX_BATCH_MAX * (size_t)dims * sizeof *b->vectors);
    if (b->vectors)
        return STATUS_OK;
    terminal_error("no memory for vectors");
    return STATUS_FAILED;
}

int index_batch_add(struct index_batch *b, const struct index_batch_row *row)
{
    int32_t dims = row->vector ? row->dims : b->h->embedding.dims;
    int status = begin(b, dims);
    if (status != STATUS_OK)
        return status;
    if (dims != b->dims) {
        terminal_error("record \"%s\" has %d dimensions, those before it have %d", row->id,
                       (int)dims, (int)b->dims);
        return STATUS_FAILED;
    }
    b->at[b->n].id = keep(b, row->id, strlen(row->id));
    b->at[b->n].ns = keep(b, row->ns, strlen(row->ns));
    b->at[b->n].metadata_size = row->metadata ? row->metadata_size : 0;
    b->at[b->n].metadata = keep(b, row->metadata ? row->metadata : "", b->at[b->n].metadata_size);
    b->at[b->n].text = SIZE_MAX;
    if (row->vector)
        memcpy(b->vectors + b->n * (size_t)dims, row->vector, (size_t)dims * sizeof *b->vectors);
    else
        b->at[b->n].text = keep(b, row->text, row->text_size);
    if (b->words.failed) {
        terminal_error("no memory for records");
        return STATUS_FAILED;
    }
    return ++b->n == INDEX_BATCH_MAX ? index_batch_flush(b) : STATUS_OK;
}

/* Files are of vectors or of texts as a whole, but both may come into one batch. */
static int embed(struct index_batch *b)
{
    const char *texts[INDEX_BATCH_MAX];
    int status = STATUS_OK;
    for (size_t i = 0; i < b->n && status == STATUS_OK;) {
        size_t first = i, n = 0;
        for (; i < b->n && b->at[i].text != SIZE_MAX; i++)
            texts[n++] = b->words.data + b->at[i].text;
        if (n > 0)
            status = index_host_embed(b->h, b->vectors + first * (size_t)b->dims, texts, NULL, n,
                                      INFER_EMBED_AS_DOCUMENT);
        while (i < b->n && b->at[i].text == SIZE_MAX)
            i++;
    }
    return status;
}

int index_batch_flush(struct index_batch *b)
{
    infer_record records[INDEX_BATCH_MAX];
    int status = b->n ? embed(b) : STATUS_OK;
    for (size_t i = 0; i < b->n; i++) {
        const char *words = b->words.data;
        records[i] = (infer_record){.id = words + b->at[i].id,
                                    .ns = words + b->at[i].ns,
                                    .vector = b->vectors + i * (size_t)b->dims,
                                    .metadata_size = b->at[i].metadata_size};
        if (records[i].metadata_size)
            records[i].metadata = words + b->at[i].metadata;
    }
    if (status == STATUS_OK && b->n && infer_index_upsert(b->h->index, records, b->n) != INFER_OK)
        status = host_failed();
    if (status == STATUS_OK)
        b->n_written += b->n;
    b->n = b->words.size = 0;
    return status;
}

void index_batch_free(struct index_batch *b)
{
    buffer_free(&b->words);
    free(b->vectors);
}
