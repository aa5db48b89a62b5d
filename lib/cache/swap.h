/* The swap store: what preempted sequences had computed, until they run again.
 *
 * Memory of the host, or a file without a name, in pages of one size. What a sequence had is one
 * stream of bytes, the blocks of each group in order, on a chain of pages; checksums of pages stay
 * in memory, so that damage in the file is noticed. Taking and giving pages allocates nothing.
 * Safe from any thread; one of them reads or writes at a time. */
#ifndef CACHE_SWAP_H
#define CACHE_SWAP_H

#include "base/output.h"
#include "cache/paged.h"

#define CACHE_SWAP_PAGE ((size_t)64 << 10)

struct cache_swap_config {
    const char *folder; /* for the file; NULL: memory */
    uint64_t bytes;     /* cut to whole pages */
};

struct cache_swap {
    struct cache_blocks *blocks;
    struct base_alloc alloc;
    struct base_output file; /* its path is NULL: memory */
    uint8_t *memory;         /* all pages, or one to read and write the file's with */
    uint64_t *sums;          /* of what is in a page */
    int32_t *next;           /* in the chain of a sequence, or of free pages; -1: the last */
    int32_t n_pages;
    pthread_mutex_t lock; /* of the free pages; nothing is waited for under it */
    int32_t free_page;
    _Atomic int32_t n_free;
    pthread_mutex_t moving;                            /* of `memory` and the file */
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

/* Writes what was planned; the table stays. LIMIT without a sentence: there is no room. IO.
 * Nothing is written then, and the plan stays one. */
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

/* Gives the pages back. Safe on zero. */
void cache_swap_drop(struct cache_swap *swap, struct cache_swapped *swapped);

#endif
