/**
 * @file index.h
 * A vector index: records of an id, a vector and JSON metadata, found again by
 * likeness, with filters. It lives in a folder that survives crashes, or in memory.
 */
#ifndef INFER_INDEX_H
#define INFER_INDEX_H

#include <infer/device.h>
#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_index infer_index;

/** How alike two vectors are. A larger score is always closer; the distance is what the name
 *  says. */
typedef int32_t infer_metric;

enum {
    INFER_METRIC_COSINE = 0, /**< score: the cosine, -1 to 1; distance: 1 - cosine. A vector of
                                  zeros is refused */
    INFER_METRIC_DOT = 1,    /**< score: the dot product; distance: its negative */
    INFER_METRIC_L2 = 2      /**< distance: the square of the Euclidean distance; score: its
                                  negative */
};

/** What an index keeps of a vector; scores are exact for what is kept. */
typedef int32_t infer_index_type;

enum {
    INFER_INDEX_F32 = 0,
    INFER_INDEX_F16 = 1,
    INFER_INDEX_BF16 = 2,
    INFER_INDEX_I8 = 3,    /**< 8 bits an element and a scale a vector */
    INFER_INDEX_BINARY = 4 /**< the sign of each element, compared by the bits that differ: the
                                metric is that of vectors of 1 and -1 */
};

/** When a write is on the disk. */
typedef int32_t infer_index_sync;

enum {
    INFER_INDEX_SYNC_CALL = 0, /**< before the call returns: survives a power cut. Concurrent calls
                                    share one flush */
    INFER_INDEX_SYNC_OS = 1    /**< the system has it when the call returns: survives a crash of the
                                    process, not of the machine */
};

/** Which embedding made the vectors: vectors of others do not compare. Strings are copied; NULL or
 *  "" is unknown. */
typedef struct infer_index_stamp {
    size_t struct_size;
    const char *model;   /**< digest of the model, as infer_embedding_info.digest */
    const char *pooling; /**< such as "mean" */
    int32_t normalized;  /**< 1: vectors have length 1 */
    uint32_t reserved;   /**< 0 */
} infer_index_stamp;

/** What vectors are found by, where there are more than a few thousand. */
typedef int32_t infer_index_build;

enum {
    INFER_INDEX_BUILD_GRAPH = 0,     /**< a graph, and partitions for filters */
    INFER_INDEX_BUILD_PARTITIONS = 1 /**< partitions alone, by the nearest of some centres: built in
                                          a quarter of the time, and slower to search where no
                                          filter is. Vectors of calls yet to be written to a
                                          segment are compared one by one. Opened without it, an
                                          index gets its graph in the background or by
                                          infer_index_compact(). Not of INFER_INDEX_BINARY, which
                                          gets a graph */
};

typedef struct infer_index_options {
    size_t struct_size;
    const infer_allocator *allocator; /**< NULL: the C library's; copied */
    int32_t dims;                     /**< 1 to 8192; 0: those of the index that is there */
    infer_metric metric; /**< fixed when the index is made, as the next; where an index is there and
                              dims is 0, what it has */
    infer_index_type type;
    infer_index_sync sync;
    int32_t read_only;  /**< 1: nothing is written, not even a lock; the medium may be read-only */
    int32_t must_exist; /**< 1: INFER_ERR_NOT_FOUND instead of making one */
    int32_t n_threads;  /**< for building and compaction; 0: one a core */
    int32_t graph_degree;       /**< neighbours of a vector in the graph, 4 to 128; 0: 32 */
    int32_t graph_effort;       /**< candidates looked at for each, 8 to 4096; 0: 200 */
    int32_t disable_compaction; /**< 1: no thread in the background; infer_index_compact() alone */
    const infer_index_stamp *stamp; /**< stamped in when the index is made; where it is there and
                                         both name a model, they must agree: INFER_ERR_INVALID */
    infer_progress_fn progress; /**< of opening and of compaction that a call does; NULL: none */
    void *progress_user_data;
    infer_index_build build; /**< of what is written or compacted by this handle; not kept */
    uint32_t reserved;       /**< 0 */
    infer_device *device; /**< a GPU that holds copies of the vectors in its memory, as far as they
                               fit, and searches these; scores, and hits of exact queries, are the
                               same. The index keeps a reference. NULL, or a CPU: none */
} infer_index_options;

/** One record to write. The reserved words are 0. */
typedef struct infer_record {
    const char *id;       /**< 1 to 255 bytes of UTF-8 */
    const char *ns;       /**< namespace, up to 255 bytes; NULL: "". Ids are unique within one */
    const float *vector;  /**< the index's dims, finite */
    const char *metadata; /**< a JSON object; NULL: none */
    size_t metadata_size; /**< bytes, up to 1 MiB; 0: up to the terminating 0 */
    uint64_t reserved[2];
} infer_record;

/** What is wanted of what a query or infer_index_get() finds. */
enum { INFER_INDEX_WITH_METADATA = 1, INFER_INDEX_WITH_VECTOR = 2 };

/** How a query was answered. */
typedef int32_t infer_search_path;

enum {
    INFER_SEARCH_FLAT = 1,           /**< every vector that may count was compared */
    INFER_SEARCH_LIST = 2,           /**< the vectors that the filter leaves were compared */
    INFER_SEARCH_GRAPH = 3,          /**< along the graph */
    INFER_SEARCH_GRAPH_FILTERED = 4, /**< along the graph, past vectors that the filter drops */
    INFER_SEARCH_PARTITIONS = 5      /**< the partitions that are nearest to the query were
                                          compared, but for what the filter drops */
};

typedef struct infer_index_query {
    size_t struct_size;
    const float *vector; /**< the index's dims; or NULL: that of the record `id`, which is not
                              among its own hits */
    const char *id;
    const char *ns;     /**< namespace searched; NULL: "" */
    const char *filter; /**< a JSON object, doc/filters.md; NULL: all records */
    int32_t top_k;      /**< up to 65536; 0: 10 */
    float recall;       /**< share of the true top_k that shall be found, on average, up to 1, which
                             compares all; 0: 0.95. How much work that takes is measured on the
                             index's own vectors */
    int32_t ef;         /**< candidates kept on the way, instead of `recall`; 0: by `recall`. Where
                             there are partitions alone, hits that are compared as they are kept */
    int32_t approximate_scores;     /**< 1: no rescoring in the stored precision */
    uint32_t with;                  /**< INFER_INDEX_WITH_... */
    uint32_t reserved;              /**< 0 */
    const infer_index_stamp *stamp; /**< of the query's vector: another model than the index's is
                                         INFER_ERR_INVALID. NULL: not checked */
} infer_index_query;

typedef struct infer_hits infer_hits;

typedef struct infer_hit {
    size_t struct_size;
    const char *id;       /**< borrowed from the hits, as all pointers here */
    float score;          /**< larger is closer */
    float distance;       /**< see infer_metric */
    const char *metadata; /**< JSON as it was written, or NULL: none, or not asked for */
    size_t metadata_size;
    const float
        *vector; /**< as it came, but for what the index's type loses; NULL: not asked for */
} infer_hit;

typedef struct infer_search_info {
    size_t struct_size;
    infer_search_path path;     /**< of the largest part of the index */
    infer_index_type precision; /**< that scores were computed in; INFER_INDEX_I8 also stands for
                                     the codes of approximate_scores, of 2 to 8 bits */
    int32_t exact;              /**< 1: all that could be hits were compared */
    int32_t ef;                 /**< that was used; 0: no graph */
    uint64_t n_candidates;      /**< records that namespace and filter left, about */
    uint64_t n_compared;        /**< vectors compared, by codes or exactly */
    int32_t on_device;          /**< 1: the largest part of the index was searched on the device */
    uint32_t reserved;          /**< 0 */
} infer_search_info;

typedef struct infer_index_info {
    size_t struct_size;
    int32_t dims;
    infer_metric metric;
    infer_index_type type;
    int32_t n_namespaces;
    int32_t n_segments; /**< parts that a query searches, the one that grows included */
    int32_t graph_degree, graph_effort;
    int32_t read_only;
    uint64_t n_records;    /**< alive */
    uint64_t n_deleted;    /**< places that compaction will reclaim */
    uint64_t memory_bytes; /**< allocated; mapped files not included */
    uint64_t mapped_bytes, file_bytes, log_bytes;
    uint64_t n_queries, n_upserts, n_deletes, n_compactions;
    infer_index_stamp stamp; /**< strings borrowed from the index */
    const char *failure;     /**< what went wrong in the background and keeps writes from going on,
                                  such as a full disk; borrowed from the index; NULL: nothing */
    uint64_t device_bytes;   /**< of copies in the device's memory */
    uint64_t n_on_device;    /**< records alive whose vectors are there; others are searched as
                                  without a device */
    const char *device_failure; /**< why the device is used no more until the index is opened anew;
                                     borrowed from the index; NULL: nothing */
} infer_index_info;

/**
 * Opens an index, or makes one.
 * @param path  a folder, made where it is not there (its parent must be); NULL: in memory alone
 * @return INFER_OK, INFER_ERR_INVALID (options; dims, metric, type or stamp of another index),
 *         INFER_ERR_NOT_FOUND, INFER_ERR_BUSY (another process or handle writes to it),
 *         INFER_ERR_FORMAT (damage, named by file and place; a newer format), INFER_ERR_IO,
 *         INFER_ERR_NO_MEMORY
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_index_open(infer_index **out, const char *path,
                                        const infer_index_options *options);

/** Waits for what runs in the background and closes. What was acknowledged is there at the next
 *  opening. NULL-safe. Thread-safety: once per handle, and not during another call on it. Since:
 * 0.1 */
INFER_API void infer_index_destroy(infer_index **index);

/**
 * Writes records: new ones, or in place of those of the same id. All or none of one call.
 * Visible to queries that begin after it returns.
 * @return INFER_OK, INFER_ERR_INVALID (which record, and what), INFER_ERR_FORMAT (metadata),
 *         INFER_ERR_LIMIT (1 GiB a call), INFER_ERR_IO (a full disk: the index goes on as it was),
 *         INFER_ERR_UNSUPPORTED (read-only), INFER_ERR_NO_MEMORY
 * Thread-safety: safe; large calls are built on all threads. Since: 0.1
 */
INFER_API infer_status infer_index_upsert(infer_index *index, const infer_record *records,
                                          size_t n);

/**
 * Deletes by id; ids that are not there do not count.
 * @param n_deleted  NULL: not wanted
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_index_delete(infer_index *index, const char *ns,
                                          const char *const *ids, size_t n, size_t *n_deleted);

/** Deletes what a filter finds; NULL: the whole namespace. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_index_delete_where(infer_index *index, const char *ns,
                                                const char *filter, size_t *n_deleted);

/**
 * Records by id, in the order of the ids; those that are not there are left out.
 * @param out   receives one list (query 0); the caller destroys it. Score and distance are 0
 * @param with  INFER_INDEX_WITH_...
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_index_get(infer_hits **out, infer_index *index, const char *ns,
                                       const char *const *ids, size_t n, uint32_t with);

/**
 * A page of ids of a namespace, in the order of the ids' bytes: what is written in between does not
 * make others appear twice or not at all.
 * @param filter  NULL: all
 * @param after   the last id of the page before; NULL: the first page
 * @param limit   at most so many, up to 1048576; 0: 1000
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_index_list(infer_hits **out, infer_index *index, const char *ns,
                                        const char *filter, const char *after, size_t limit,
                                        uint32_t with);

/** Records of a namespace (NULL: of all) that a filter leaves. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_index_count(infer_index *index, const char *ns, const char *filter,
                                         uint64_t *count);

/**
 * Answers `n` queries at once, on as many threads as pay.
 * @param out  receives the hits of all queries, best first; the caller destroys it
 * @return INFER_OK, INFER_ERR_INVALID, INFER_ERR_NOT_FOUND (a query's id), INFER_ERR_FORMAT (a
 *         filter; damage found on the way), INFER_ERR_NO_MEMORY
 * Thread-safety: safe; waits for no writer. Since: 0.1
 */
INFER_API infer_status infer_index_search(infer_hits **out, infer_index *index,
                                          const infer_index_query *queries, size_t n);

/** @return how many hits query number `query` has. Thread-safety: safe. Since: 0.1 */
INFER_API size_t infer_hits_count(const infer_hits *hits, size_t query);

/** Set hit->struct_size first. @return INFER_OK or INFER_ERR_INVALID.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_hits_at(const infer_hits *hits, size_t query, size_t i,
                                     infer_hit *hit);

/** Set info->struct_size first. How a query was answered. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_hits_info(const infer_hits *hits, size_t query,
                                       infer_search_info *info);

/** NULL-safe. Hits may outlive their index. Thread-safety: once per handle. Since: 0.1 */
INFER_API void infer_hits_destroy(infer_hits **hits);

/**
 * Makes a field of the metadata fast to filter by; records that are there are read once. Filters
 * work on any field, with or without.
 * @param path  names joined by dots, such as "author.name"
 * @return INFER_OK, also where it is there already; INFER_ERR_LIMIT (more than 64)
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_index_add_field(infer_index *index, const char *path);

/** Set info->struct_size first. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_index_get_info(infer_index *index, infer_index_info *info);

/**
 * Writes all that is in the log into segments and merges these into one; deleted places are
 * reclaimed. Queries and writes go on.
 * @return INFER_OK, INFER_ERR_CANCELLED (by progress; what was is kept), INFER_ERR_IO ...
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_index_compact(infer_index *index);

/** Reads every byte of the files and compares checksums. @return INFER_OK or INFER_ERR_FORMAT,
 * which names what is damaged. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_index_verify(infer_index *index);

/** Copies the index as it is now into a new folder, while it goes on: one in memory too. Segments
 *  are linked where that is possible. @return INFER_OK, INFER_ERR_INVALID (the folder is there and
 *  not empty; for an index in memory: it holds an index), INFER_ERR_IO ... Thread-safety: safe.
 *  Since: 0.1 */
INFER_API infer_status infer_index_snapshot(infer_index *index, const char *path);

#ifdef __cplusplus
}
#endif

#endif
