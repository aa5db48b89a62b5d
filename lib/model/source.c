/* Finding out what a path is, and opening it. */
#include "model/source.h"

#include "base/error.h"
#include "format/hf_cache.h"
#include "model/hf.h"

#include <dirent.h>
#include <sys/stat.h>

enum { NOTHING, A_FILE, A_FOLDER };

static int kind_of(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return NOTHING;
    return S_ISDIR(st.st_mode) ? A_FOLDER : A_FILE;
}

/* Whether a file of a folder opens a model: of a split one only the first part does. */
static int is_gguf_name(const char *name)
{
    size_t n = strlen(name);
    if (n < 6 || strcmp(name + n - 5, ".gguf") != 0)
        return 0;
    const char *part = n > 20 ? name + n - 20 : NULL; /* "-00002-of-00003.gguf" */
    return !part || strncmp(part + 6, "-of-", 4) != 0 || strncmp(part, "-00001", 6) == 0;
}

static infer_status find_gguf(struct base_str *out, const char *folder)
{
    DIR *d = opendir(folder);
    infer_status st = INFER_OK;
    int n = 0;
    if (!d)
        return base_error(INFER_ERR_IO, "%s: cannot be listed", folder);
    for (struct dirent *e; st == INFER_OK && (e = readdir(d)) != NULL;) {
        if (!is_gguf_name(e->d_name) || n++)
            continue;
        base_str_clear(out);
        st = base_str_appendf(out, "%s/%s", folder, e->d_name);
    }
    closedir(d);
    if (st != INFER_OK || n == 1)
        return st;
    return n ? base_error(INFER_ERR_INVALID, "%s holds %d models in GGUF: name one of the files",
                          folder, n)
             : base_error(INFER_ERR_NOT_FOUND, "%s holds neither config.json nor a GGUF file",
                          folder);
}

static infer_status open_file(struct gguf_file **out, const struct base_alloc *a, const char *path,
                              const struct model_source_options *o)
{
    size_t n = strlen(path);
    if (n > 12 && strcmp(path + n - 12, ".safetensors") == 0)
        return base_error(INFER_ERR_INVALID, "%s: tensors alone are no model: name their folder",
                          path);
    return gguf_open(out, a, path, o->gguf_flags | (o->verify_files ? GGUF_OPEN_VERIFY : 0));
}

static infer_status open_folder(struct gguf_file **out, const struct base_alloc *a,
                                const char *path, const struct model_source_options *o)
{
    struct base_str file;
    if (hf_dir_is(path)) {
        uint32_t flags = o->verify_files ? HF_DIR_VERIFY : 0;
        if (o->survey || (o->gguf_flags & GGUF_OPEN_METADATA_ONLY))
            flags |= HF_DIR_NO_TENSORS;
        if (o->survey)
            flags |= HF_DIR_NO_TOKENIZER;
        if (o->keep_f8)
            flags |= MODEL_HF_KEEP_F8;
        return model_hf_open(out, a, path, flags);
    }
    base_str_init(&file, a, 0);
    infer_status st = find_gguf(&file, path);
    if (st == INFER_OK)
        st = open_file(out, a, file.data, o);
    base_str_release(&file);
    return st;
}

infer_status model_source_open(struct gguf_file **out, const struct base_alloc *a, const char *path,
                               const struct model_source_options *options)
{
    struct base_str folder;
    *out = NULL;
    switch (kind_of(path)) {
    case A_FOLDER:
        return open_folder(out, a, path, options);
    case A_FILE:
        return open_file(out, a, path, options);
    default:
        break;
    }
    if (!options->hub_dir || !hf_cache_is_name(path))
        return open_file(out, a, path, options); /* says what is wrong with the path */
    base_str_init(&folder, a, 0);
    infer_status st = hf_cache_find(&folder, options->hub_dir, path);
    if (st == INFER_OK)
        st = open_folder(out, a, folder.data, options);
    base_str_release(&folder);
    return st;
}
