/* The tensors of a model folder: one file, or shards that an index lists. */
#include "base/error.h"
#include "base/str.h"
#include "format/hf_cache.h"
#include "format/hf_dir_internal.h"

#include <stdio.h>
#include <sys/stat.h>

#define MAX_SHARDS 4096
#define ONE_FILE   "model.safetensors"
#define INDEX      "model.safetensors.index.json"

/* For "%.*s": as much of a name as leaves room for the rest of the sentence. */
#define SHOW(view) (int)BASE_MIN((view).size, (size_t)128), (view).data

/* Checkpoints that are refused by name: reading a pickle runs what is in it. */
static const struct {
    const char *name, *what;
} refused[] = {
    {"pytorch_model.bin", "a pickle, whose reading runs code"},
    {"pytorch_model.bin.index.json", "an index of pickles, whose reading runs code"},
    {"adapter_model.safetensors", "an adapter without the model that it adapts"},
    {"tf_model.h5", "a TensorFlow checkpoint"},
    {"flax_model.msgpack", "a Flax checkpoint"},
};

static int exists(const struct hf_dir *dir, const char *name)
{
    struct stat st;
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", dir->path, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0;
}

/* A name in the folder itself: no file may point to another place. */
static int is_shard_name(struct base_view v)
{
    static const char end[] = ".safetensors";
    size_t n = sizeof end - 1;
    if (v.size <= n || v.size > 255 || v.data[0] == '.' || memchr(v.data, 0, v.size) ||
        memchr(v.data, '/', v.size) || memchr(v.data, '\\', v.size))
        return 0;
    return memcmp(v.data + v.size - n, end, n) == 0;
}

static infer_status open_shard(struct hf_dir *dir, struct base_view name)
{
    struct safetensors_file *file = NULL;
    struct base_str path;
    base_str_init(&path, &dir->alloc, 0);
    infer_status st = base_str_appendf(&path, "%s/%.*s", dir->path, (int)name.size, name.data);
    if (st == INFER_OK)
        st = safetensors_open(&file, &dir->alloc, path.data);
    if (st == INFER_OK && (dir->flags & HF_DIR_VERIFY))
        st = hf_cache_verify(path.data, safetensors_mapping(file));
    if (st == INFER_OK)
        st = base_array_push(&dir->alloc, &dir->shards, file);
    if (st != INFER_OK)
        safetensors_close(&file);
    base_str_release(&path);
    return st;
}

static infer_status add_tensor(struct hf_dir *dir, const struct safetensors_tensor *t,
                               struct base_view name)
{
    infer_status st = base_map_add(&dir->index, name.data, name.size, (int32_t)dir->tensors.size);
    if (st == INFER_AGAIN)
        return base_error(INFER_ERR_FORMAT, "%s: tensor \"%.*s\" appears twice", dir->path,
                          SHOW(name));
    if (st == INFER_OK)
        st = base_array_push(&dir->alloc, &dir->tensors, *t);
    if (st == INFER_OK)
        dir->tensors.data[dir->tensors.size - 1].name = name;
    return st;
}

/* Tensors that share their memory are stored once; the metadata maps the names left out to the
 * one that was kept. */
static infer_status add_aliases(struct hf_dir *dir)
{
    infer_status st = INFER_OK;
    for (size_t s = 0; s < dir->shards.size; s++) {
        const struct base_json *meta = safetensors_metadata(dir->shards.data[s]);
        for (uint32_t i = 0; meta && i < meta->n && st == INFER_OK; i++) {
            struct base_view alias = meta->as.member[i].key, kept;
            base_json_string(&meta->as.member[i].value, &kept);
            const struct safetensors_tensor *t = hf_dir_tensor(dir, kept);
            if (t && !hf_dir_tensor(dir, alias)) {
                struct safetensors_tensor copy = *t; /* the array may move */
                st = add_tensor(dir, &copy, alias);
            }
        }
    }
    return st;
}

static infer_status add_all(struct hf_dir *dir, const struct safetensors_file *file)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < safetensors_n_tensors(file) && st == INFER_OK; i++)
        st = add_tensor(dir, safetensors_at(file, i), safetensors_at(file, i)->name);
    return st;
}

static infer_status open_one(struct hf_dir *dir)
{
    infer_status st = open_shard(dir, (struct base_view){ONE_FILE, sizeof ONE_FILE - 1});
    return st == INFER_OK ? add_all(dir, dir->shards.data[0]) : st;
}

/* One entry of weight_map: the shard is opened where it comes up first. */
static infer_status add_entry(struct hf_dir *dir, struct base_map *seen,
                              const struct base_json_member *m)
{
    struct base_view shard;
    if (!base_json_string(&m->value, &shard) || !is_shard_name(shard))
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\" is in no file NAME.safetensors of this folder",
                          SHOW(m->key));
    int32_t i = base_map_get(seen, shard.data, shard.size, -1);
    if (i < 0) {
        i = (int32_t)dir->shards.size;
        if (i == MAX_SHARDS)
            return base_error(INFER_ERR_LIMIT, "more than %d shards", MAX_SHARDS);
        infer_status st = open_shard(dir, shard);
        if (st == INFER_OK)
            st = base_map_add(seen, shard.data, shard.size, i);
        if (st != INFER_OK)
            return st;
    }
    const struct safetensors_tensor *t = safetensors_find(dir->shards.data[i], m->key);
    if (!t)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is not in %.*s, as the index says",
                          SHOW(m->key), SHOW(shard));
    return add_tensor(dir, t, t->name);
}

static infer_status open_index(struct hf_dir *dir)
{
    const struct base_json *root;
    struct base_map seen = {0};
    infer_status st = hf_dir_read_json(dir, &root, INDEX);
    if (st != INFER_OK)
        return st;
    const struct base_json *weights = base_json_get(root, "weight_map");
    if (!base_json_is(weights, BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "%s/" INDEX ": weight_map is no object", dir->path);
    st = base_map_init(&seen, &dir->alloc, 16);
    for (uint32_t i = 0; i < weights->n && st == INFER_OK; i++)
        st = add_entry(dir, &seen, &weights->as.member[i]);
    base_map_release(&seen);
    if (st == INFER_ERR_FORMAT || st == INFER_ERR_LIMIT)
        base_error_prefix(st, "%s/" INDEX, dir->path);
    return st;
}

infer_status hf_shards_open(struct hf_dir *dir)
{
    infer_status st = base_map_init(&dir->index, &dir->alloc, 64);
    if (st != INFER_OK)
        return st;
    if (exists(dir, ONE_FILE))
        st = open_one(dir);
    else if (exists(dir, INDEX))
        st = open_index(dir);
    else {
        for (size_t i = 0; i < BASE_COUNT(refused); i++)
            if (exists(dir, refused[i].name))
                return base_error(INFER_ERR_UNSUPPORTED,
                                  "%s: %s is %s; safetensors files were expected", dir->path,
                                  refused[i].name, refused[i].what);
        return base_error(INFER_ERR_NOT_FOUND, "%s: neither " ONE_FILE " nor " INDEX " is there",
                          dir->path);
    }
    return st == INFER_OK ? add_aliases(dir) : st;
}

infer_status hf_shards_open_memory(struct hf_dir *dir, struct base_view tensors)
{
    struct safetensors_file *file = NULL;
    infer_status st = base_map_init(&dir->index, &dir->alloc, 64);
    if (st == INFER_OK)
        st = safetensors_open_memory(&file, &dir->alloc, tensors.data, tensors.size);
    if (st != INFER_OK)
        return st;
    st = base_array_push(&dir->alloc, &dir->shards, file);
    if (st != INFER_OK) {
        safetensors_close(&file);
        return st;
    }
    st = add_all(dir, file);
    return st == INFER_OK ? add_aliases(dir) : st;
}

void hf_shards_close(struct hf_dir *dir)
{
    for (size_t i = 0; i < dir->shards.size; i++)
        safetensors_close(&dir->shards.data[i]);
    base_array_release(&dir->alloc, &dir->shards);
    base_array_release(&dir->alloc, &dir->tensors);
    base_map_release(&dir->index);
}

size_t hf_dir_n_tensors(const struct hf_dir *dir)
{
    return dir->tensors.size;
}

const struct safetensors_tensor *hf_dir_tensor_at(const struct hf_dir *dir, size_t i)
{
    return &dir->tensors.data[i];
}

const struct safetensors_tensor *hf_dir_tensor(const struct hf_dir *dir, struct base_view name)
{
    int32_t i = base_map_get(&dir->index, name.data, name.size, -1);
    return i < 0 ? NULL : &dir->tensors.data[i];
}

infer_status hf_dir_give(struct hf_dir *dir, struct gguf_draft *draft)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < dir->shards.size && st == INFER_OK; i++)
        st = gguf_draft_own(draft, safetensors_mapping(dir->shards.data[i]));
    return st;
}
