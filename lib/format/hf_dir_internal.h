/* What the two halves of the folder reader share. */
#ifndef FORMAT_HF_DIR_INTERNAL_H
#define FORMAT_HF_DIR_INTERNAL_H

#include "base/array.h"
#include "base/map.h"
#include "format/hf_dir.h"

struct hf_dir {
    struct base_alloc alloc;
    struct base_arena arena;
    uint32_t flags;
    char *path;
    const struct base_json *json[HF_JSONS];
    struct base_file files[HF_FILES];
    BASE_ARRAY(struct safetensors_file *) shards;
    BASE_ARRAY(struct safetensors_tensor) tensors; /* copies, whose names the shards keep */
    struct base_map index;                         /* name -> position in tensors */
};

/* Maps a file of the folder, and verifies it where that is asked for. */
infer_status hf_dir_map(struct hf_dir *dir, struct base_file *out, const char *name);
infer_status hf_dir_read_json(struct hf_dir *dir, const struct base_json **out, const char *name);

infer_status hf_shards_open(struct hf_dir *dir);
infer_status hf_shards_open_memory(struct hf_dir *dir, struct base_view tensors);
void hf_shards_close(struct hf_dir *dir);

#endif
