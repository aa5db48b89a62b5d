/* Which models lie in a folder: GGUF files, folders of Hugging Face, its cache. Only names and
 * sizes are looked at. */
#ifndef INFER_FIND_MODELS_H
#define INFER_FIND_MODELS_H

#include <stddef.h>
#include <stdint.h>

struct found_model {
    char *name;     /* for people, and for --model: a path, or org/repo@revision in the cache */
    char *path;     /* file, first part of a split one, or folder */
    uint64_t bytes; /* of all its weights */
};

struct found_models {
    struct found_model *items;
    size_t n, capacity;
    int failed; /* out of memory */
};

/* Adds what `path`, a folder or a file, holds. Returns 0, or -1 after an error on stderr. */
int find_models(struct found_models *found, const char *path);

/* The cache of Hugging Face's client, as its environment variables say; the caller frees. */
char *find_models_cache(void);

void found_models_sort(struct found_models *found); /* by name */
void found_models_free(struct found_models *found);

#endif
