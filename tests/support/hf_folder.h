/* Model folders for tests: made of texts and tensors in a temporary place, removed at the end. */
#ifndef TESTS_SUPPORT_HF_FOLDER_H
#define TESTS_SUPPORT_HF_FOLDER_H

#include "base/types.h"

struct hf_folder {
    char path[256];
};

void hf_folder_make(struct hf_folder *f);
void hf_folder_remove(struct hf_folder *f);
/* "PATH/name"; borrowed until the fourth next call. */
const char *hf_folder_path(const struct hf_folder *f, const char *name);
void hf_folder_subfolder(const struct hf_folder *f, const char *name);
void hf_folder_bytes(const struct hf_folder *f, const char *name, const void *data, size_t size);
void hf_folder_text(const struct hf_folder *f, const char *name, const char *text);
void hf_folder_link(const struct hf_folder *f, const char *name, const char *target);

/* One tensor of a safetensors file; dims as in the file, -1 at the end. */
struct hf_tensor {
    const char *name, *dtype;
    int64_t dims[5];
    const void *data;
    size_t bytes;
};
void hf_folder_tensors(const struct hf_folder *f, const char *name, const struct hf_tensor *tensors,
                       size_t n);

#endif
