/* Writes safetensors files for tests. Ends the program when out of memory. */
#ifndef TESTS_SUPPORT_SAFETENSORS_WRITER_H
#define TESTS_SUPPORT_SAFETENSORS_WRITER_H

#include <stddef.h>
#include <stdint.h>

struct safetensors_writer;

struct safetensors_writer *safetensors_writer_new(void);
void safetensors_writer_free(struct safetensors_writer *w);

/* `dtype` as the format writes it; the data is copied. */
void safetensors_writer_add(struct safetensors_writer *w, const char *name, const char *dtype,
                            size_t n_dims, const uint64_t *dims, const void *data, size_t bytes);

/* Floats stored as "F32", "BF16" or "F16", rounded to nearest even. */
void safetensors_writer_floats(struct safetensors_writer *w, const char *name, const char *dtype,
                               size_t n_dims, const uint64_t *dims, const float *values);

void safetensors_writer_save(const struct safetensors_writer *w, const char *path);

#endif
