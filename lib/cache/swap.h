/* The swap store: what preempted sequences had computed, until they run again.
 *
 * Memory of the host, or a file without a name, in pages of one size. What a sequence had is one
 * stream of bytes, the blocks of each group in order, on a chain of pages; checksums of pages stay
 * in memory, so that damage in the file is noticed. Taking and giving pages allocates nothing.
 * Safe from any thread; one of them reads at a time, and one writes.
 *
 * Of a device with copy engines a thread of the store writes: it holds the blocks until they are
 * read, the last ones first, and gives each back when it is. The first of them may be overwritten
 * at once, for their copies come before that in the order of the device. */
#ifndef CACHE_SWAP_H
#define CACHE_SWAP_H

#include "base/output.h"
#include "cache/paged.h"

#define CACHE_SWAP_PAGE ((size_t)64 << 10)

struct cache_swap_config {
    const char *folder; /* for the file; NULL: memory */
    uint64_t bytes;     /* cut to whole pages */
    int32_t thread;     /* a thread of its own writes, also where the device has no copy engines */
};

/* Pages that are moved at a time. */
struct cache_swap_piece {
    uint8_t *data; /* of a file; else where the pages are */
    struct device_range *ranges;
    struct device_fetch fetch;
    int32_t n_ranges;
    int32_t page; /* the first of them */
    size_t bytes;
    uint64_t needed; /* a bit for each page that a range lies in */
};

/* Where in a sequence's stream: states first, then blocks from the last to the first, so that those
 * leave first behind which no other lies. */
struct cache_swap_place {
    int32_t group, block; /* INT32_MAX: of states; -1: the end */
    size_t at;            /* in the block */
};

/* A sequence's stream and the chain of its pages, as far as pieces were made of it. */
struct cache_swap_stream {
    int32_t *const *ids;       /* of the blocks of each group */
    const int32_t *first;      /* of each group: blocks before it are not in the stream */
    int32_t n_tokens, n_found; /* positions; of them those that are passed over */
    struct cache_swap_place place;
    int32_t page;
};

/* What is being written. */
struct cache_swap_job {
    int32_t *ids[CACHE_GROUPS_MAX];  /* as the table's; held by a thread's job from first[g] on */
    int32_t *nodes, n_nodes, n_held; /* the first of them are held */
    int32_t first[CACHE_GROUPS_MAX];
    struct cache_swap_stream stream;
    struct cache_swap_place released, behind[2]; /* held no more; where the pieces end */
    int32_t is_released[2];                      /* pieces that are behind `released` */
    int32_t page;                                /* the first */
    uint64_t bytes;
    infer_status status;
};

struct cache_swap {
    struct cache_blocks *blocks;
    struct base_alloc alloc;
    struct base_output file; /* its path is NULL: memory */
    uint8_t *memory;         /* all pages, or those of the pieces */
    uint64_t *sums;          /* of what is in a page */
    uint8_t *unwritten;      /* of the first page of a chain: writing it failed */
    int32_t *next;           /* in the chain of a sequence, or of free pages; -1: the last */
    int32_t n_pages;
    pthread_mutex_t lock; /* of the free pages; nothing is waited for under it */
    int32_t free_page;
    _Atomic int32_t n_free;
    pthread_mutex_t reading; /* of the piece `in` */
    int32_t piece_pages;
    struct cache_swap_piece in, out[2];
    struct cache_swap_job job; /* its owner's: who makes it, then the thread */
    pthread_t thread;
    int32_t has_thread;
    pthread_cond_t changed; /* with `lock`, as what follows */
    int32_t busy, closing;  /* there is a job; `ready`: for the thread */
    int32_t ready;
    _Atomic uint64_t n_out, n_in, out_bytes, in_bytes; /* sequences and bytes that were moved */
    _Atomic uint64_t n_full, n_failed, n_damaged, n_lost;
};

/* What the store has of one sequence; zero: nothing. */
struct cache_swapped {
    int32_t n_tokens; /* positions: what was computed */
    int32_t n_shared; /* leading blocks that are not in it, for others held them too */
    int32_t n_nodes;  /* leading blocks that the prefix cache may still find, the former included */
    int32_t first[CACHE_GROUPS_MAX]; /* of each group: blocks before it are not in it */
    uint64_t bytes;                  /* of the blocks that are */
    int32_t page, n_pages;           /* 0 pages: it was not written */
};

/* LIMIT: too small for one page. IO names the folder. */
infer_status cache_swap_open(struct cache_swap **out, struct cache_blocks *blocks,
                             const struct cache_swap_config *config);
void cache_swap_close(struct cache_swap **swap); /* NULL-safe, sets NULL */

/* What of a table's first n_tokens would be lost with it. For the thread that may change it. */
void cache_swap_plan(struct cache_swapped *out, const struct cache_table *table, int32_t n_tokens);

/* Writes what was planned, or lets the thread do so; the table stays, and may be cleared at once.
 * LIMIT without a sentence: there is no room. IO. Nothing is written then, and the plan stays one.
 * Where a thread writes, an error is that of cache_swap_in(). */
infer_status cache_swap_out(struct cache_swap *swap, struct cache_table *table,
                            struct cache_swapped *planned);

/* Into a table that has blocks for n_tokens, of which the first n_found are there: all others.
 * NOT_FOUND: the beginning that others held is gone; FORMAT: a page is damaged; IO. Blocks behind
 * n_found hold then nothing of meaning. The pages stay. */
infer_status cache_swap_in(struct cache_swap *swap, struct cache_table *table, int32_t n_found,
                           const struct cache_swapped *from);
/* The bytes that this moves. */
uint64_t cache_swap_in_bytes(const struct cache_swap *swap, int32_t n_found,
                             const struct cache_swapped *from);

/* Waits for what is being written: nobody holds blocks for that then. NULL-safe. */
void cache_swap_settle(struct cache_swap *swap);

/* Gives the pages back. Safe on zero. */
void cache_swap_drop(struct cache_swap *swap, struct cache_swapped *swapped);

/* ------------------------------------------------------- within the store: swap.c, swap_out.c */

int32_t cache_swap_count(const struct cache_blocks *blocks, int32_t group, int32_t n_tokens);
/* Whether there is a block at or behind this place, to which it moves then. */
int cache_swap_seek(const struct cache_blocks *blocks, const struct cache_swap_stream *stream,
                    struct cache_swap_place *place);
/* Makes a piece of what follows in a stream; its bytes are 0 at the end. */
void cache_swap_fill(struct cache_swap *swap, struct cache_swap_piece *piece,
                     struct cache_swap_stream *stream);
struct cache_swap_stream cache_swap_stream(int32_t *const *ids, const int32_t *first,
                                           int32_t n_tokens, int32_t page);
uint8_t *cache_swap_data(const struct cache_swap *swap, const struct cache_swap_piece *piece,
                         int32_t i, int32_t page);
int cache_swap_take(struct cache_swap *swap, int32_t n_pages, int32_t *first);
void cache_swap_give(struct cache_swap *swap, int32_t first, int32_t n_pages);
infer_status cache_swap_thread(struct cache_swap *swap);

#endif
