/* Writes GGUF v3: the keys and tensor records of a gguf_file, then each tensor's bytes as its
 * maker hands them in, so that no more than a piece of one tensor is in memory.
 *
 *     gguf_writer_open(&w, a, "model.gguf", plan, hash);
 *     for (size_t i = gguf_writer_next(w); i < gguf_n_tensors(plan); i++) {
 *         ... gguf_writer_put(w, bytes, size) until gguf_tensor_at(plan, i)->bytes ...
 *         gguf_writer_end_tensor(w);
 *     }
 *     gguf_writer_commit(&w);
 *
 * Bytes go to "model.gguf.part", which commit renames. "model.gguf.part.state" lists the finished
 * tensors with their hashes: a writer that finds both, of the same plan, verifies what is there
 * and goes on after the last whole tensor. A process that dies loses one tensor at most. */
#ifndef FORMAT_GGUF_WRITE_H
#define FORMAT_GGUF_WRITE_H

#include "format/gguf.h"

struct gguf_writer;

/* `plan` has keys, names, types and shapes; its data is not looked at. It outlives the writer.
 * `hash` stands for whatever else decides about the bytes (the source, options of the maker): an
 * interrupted file of another hash is written from the start. Errors name the path: IO, BUSY
 * where another process writes the same file, UNSUPPORTED for a type that GGUF has no number
 * for. */
infer_status gguf_writer_open(struct gguf_writer **out, const struct base_alloc *a,
                              const char *path, const struct gguf_file *plan, uint64_t hash);

/* The tensor whose bytes are expected; gguf_n_tensors(plan) when all are there. */
size_t gguf_writer_next(const struct gguf_writer *w);
uint64_t gguf_writer_bytes(const struct gguf_writer *w); /* of the whole file when it is done */

/* More bytes of the current tensor. */
infer_status gguf_writer_put(struct gguf_writer *w, const void *data, size_t size);
/* INTERNAL unless exactly the tensor's bytes were put. */
infer_status gguf_writer_end_tensor(struct gguf_writer *w);

/* All tensors are written: makes the file last and gives it its name, replacing what is there.
 * On failure the writer stays. */
infer_status gguf_writer_commit(struct gguf_writer **w);

/* Stops. With `keep` the finished tensors wait for a later writer, else the files are removed.
 * NULL-safe, sets NULL. */
void gguf_writer_destroy(struct gguf_writer **w, int keep);

#endif
