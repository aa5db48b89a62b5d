/**
 * @file convert.h
 * Writing a model as a GGUF file, with its weights in other element types.
 */
#ifndef INFER_CONVERT_H
#define INFER_CONVERT_H

#include <infer/device.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_convert_options {
    size_t struct_size;
    infer_device *device; /**< a CPU, whose threads do the work; NULL: one with default options */
    const infer_allocator *allocator; /**< NULL: the C library's */
    infer_progress_fn progress;       /**< may cancel; NULL: none */
    void *progress_user_data;
    /** "keep" (also NULL): types stay as they are. "F32", "F16", "BF16"; "Q8_0", "Q6_K", "Q5_K_M",
     *  "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "Q5_1", "Q5_0", "Q4_1",
     *  "Q4_0", "IQ4_XS", "IQ4_NL", "TQ2_0", "TQ1_0", "MXFP4", "MXFP4_MOE", "NVFP4": the mixes
     *  that are customary under these names, in upper or lower case; "F8_128", also "F8", which
     *  this library alone reads. doc/convert.md says which tensors get which type. */
    const char *type;
    const char *output_type;    /**< of the output matrix; NULL: as the mix has it */
    const char *embedding_type; /**< of the token embedding; NULL: as the mix has it */
    const char *hub_dir;        /**< as in infer_model_options */
    int32_t verify_files;       /**< as in infer_model_options */
    int32_t pure;               /**< 1: every matrix gets the type itself, not the mix */
    int32_t allow_requantize;   /**< 1: weights that are quantised may be rounded again */
    int32_t disable_resume;     /**< 1: what an interrupted call left is not continued */
} infer_convert_options;

typedef struct infer_convert_info {
    size_t struct_size;
    uint64_t bytes;     /**< of the file */
    int64_t n_tensors;  /**< in the file */
    int64_t n_resumed;  /**< found done, from an interrupted call */
    int64_t n_fallback; /**< of another type than asked for, because of their shape */
} infer_convert_info;

/**
 * Converts the model at `src` to the GGUF file `dst`.
 *
 * Metadata and vocabulary are kept. Matrices are rounded to the type; vectors, norms and a few
 * small tensors become F32. A row that is not whole blocks of its type gets a type of smaller
 * blocks, which the log says (INFER_LOG_INFO). The same source and options give the same bytes,
 * on any processor and with any number of threads.
 *
 * The file is written as `dst`.part and renamed when it is whole, replacing what is there. A
 * call that was interrupted in any way, even by the end of the process, is continued by the next
 * one of the same source and options: tensors that are whole are verified and kept.
 * @param out  says what was done; set out->struct_size first; NULL: not wanted
 * @param src  as for infer_model_load(); its architecture need not be one that can be run
 * @return INFER_OK; as infer_model_load() for the source; INFER_ERR_IO naming the file that
 *         cannot be written, INFER_ERR_BUSY if another call writes it, INFER_ERR_FORMAT naming a
 *         tensor with NaN, infinity or values that the type does not hold, INFER_ERR_UNSUPPORTED
 *         for a type that is read but not written, INFER_ERR_INVALID for a name that is no type
 *         and for weights that are quantised already, INFER_ERR_CANCELLED, INFER_ERR_NO_MEMORY
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_convert(infer_convert_info *out, const char *src, const char *dst,
                                     const infer_convert_options *options);

#ifdef __cplusplus
}
#endif

#endif
