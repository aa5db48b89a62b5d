/* Heads of a log and of its records (log.h has the table), for what writes and what replays. */
#ifndef VECTOR_LOG_LAYOUT_H
#define VECTOR_LOG_LAYOUT_H

#include "vector/log.h"

#define VECTOR_LOG_ALIGN 8

struct vector_log_head {
    uint32_t type;
    uint64_t at, size, synced, sum, before;
    uint64_t own; /* checksum of the head itself */
};

/* Sets h->own. */
void vector_log_head_write(uint8_t out[VECTOR_LOG_HEAD], struct vector_log_head *h, uint64_t seed);
/* Whether there is a whole head of a record that begins at `at`. */
int vector_log_head_read(struct vector_log_head *h, const uint8_t in[VECTOR_LOG_HEAD], uint64_t at,
                         uint64_t seed);
/* Bytes of a record with its zeros; 0: more than a file can have. */
uint64_t vector_log_record_bytes(uint64_t size);

void vector_log_header_write(uint8_t out[VECTOR_LOG_HEADER], uint64_t seed);
infer_status vector_log_header_read(const uint8_t in[VECTOR_LOG_HEADER], const char *path,
                                    uint64_t *seed);

struct vector_log_replay {
    const struct base_alloc *alloc;
    int fd;
    const char *path;
    uint64_t seed;
    uint64_t size; /* bytes that there are */
    vector_log_fn fn;
    void *user;
    /* results: the end of the last whole record, the checksum of its head, its type */
    uint64_t end, before;
    uint32_t last_type;
};

/* Tells `fn` (NULL: nobody) the records. */
infer_status vector_log_replay(struct vector_log_replay *r);

#endif
