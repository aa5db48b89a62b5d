/* An index and its embedding model from the shared options. */
#include "index_host.h"

#include "command.h"
#include "terminal.h"

int index_host_open_model(struct index_host *h)
{
    int status;
    h->stamp.struct_size = sizeof h->stamp;
    if (!h->host.path)
        return STATUS_OK;
    status = host_open(&h->host, 0);
    if (status == STATUS_OK)
        status = host_open_session(&h->host, NULL);
    if (status != STATUS_OK)
        return status;
    h->embedding.struct_size = sizeof h->embedding;
    if (infer_model_get_embedding_info(h->host.model, &h->embedding) != INFER_OK)
        return host_failed();
    h->stamp.model = h->embedding.digest;
    h->stamp.pooling = h->embedding.can_embed ? h->embedding.pooling_name : "mean";
    h->stamp.normalized = h->embedding.normalized;
    return STATUS_OK;
}

int index_host_open(struct index_host *h)
{
    struct terminal_bar bar = {0};
    infer_status status;
    if (h->device_index > 0 &&
        infer_device_create(&h->device, (int32_t)h->device_index, NULL) != INFER_OK)
        return host_failed();
    h->options.device = h->device;
    h->options.struct_size = sizeof h->options;
    h->options.n_threads = (int32_t)h->host.threads;
    h->options.progress = terminal_progress;
    h->options.progress_user_data = &bar;
    if (h->host.model && !h->options.read_only) {
        h->options.dims = h->options.dims ? h->options.dims : h->embedding.dims;
        h->options.stamp = &h->stamp;
    }
    status = infer_index_open(&h->index, h->path, &h->options);
    terminal_bar_clear(&bar);
    return status == INFER_OK ? STATUS_OK : host_failed();
}

int index_host_embed(struct index_host *h, float *vectors, const char *const *texts,
                     const size_t *sizes, size_t n, infer_embed_as as)
{
    infer_embed_options options = {.struct_size = sizeof options, .as = as};
    infer_embed_report report = {.struct_size = sizeof report};
    options.truncate = 1;
    if (!h->embedding.can_embed)
        options.pooling = INFER_POOLING_MEAN; /* as the stamp says */
    if (infer_session_embed(vectors, h->host.session, texts, sizes, n, &options, &report) !=
        INFER_OK)
        return host_failed();
    if (report.n_cut_texts > 0)
        terminal_error("%llu of %zu texts were longer than the model's context of %d tokens and "
                       "were cut",
                       (unsigned long long)report.n_cut_texts, n, (int)h->embedding.n_context);
    return STATUS_OK;
}

void index_host_close(struct index_host *h)
{
    infer_index_destroy(&h->index);
    infer_device_destroy(&h->device);
    host_close(&h->host);
}

void index_host_write_hit(struct json_out *json, const infer_hit *hit, int32_t dims, int scored)
{
    json_open(json, NULL, '{');
    json_string(json, "id", hit->id);
    if (scored) {
        json_float(json, "score", hit->score);
        json_float(json, "distance", hit->distance);
    }
    if (hit->metadata)
        json_raw(json, "metadata", hit->metadata, hit->metadata_size);
    if (hit->vector) {
        json_open(json, "vector", '[');
        for (int32_t i = 0; i < dims; i++)
            json_float(json, NULL, hit->vector[i]);
        json_close(json, ']');
    }
    json_close(json, '}');
}
