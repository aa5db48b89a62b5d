/* Conversion: choose a type for each tensor, then read, round and write them one by one. */
#include "model/convert.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/str.h"
#include "base/thread.h"
#include "format/gguf_draft.h"
#include "format/gguf_write.h"
#include "format/quant_layout.h"
#include "model/mix.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Bytes that a quantiser of this library decides: grows when one changes its results, so that no
 * interrupted file is finished with others. */
#define QUANTISERS 1

#define UNIT     ((size_t)8192) /* elements that a thread takes at once: whole blocks of any type */
#define SLAB     ((size_t)1 << 20) /* elements that are converted between two writes */
#define COPY_MAX ((size_t)4 << 20) /* bytes that are copied between two looks at the host */

struct convert {
    struct base_alloc alloc;
    const struct model_convert_config *config;
    const struct gguf_file *src;
    struct gguf_file *plan;
    struct gguf_writer *writer;
    const struct model_mix *mix;   /* NULL: keep */
    infer_dtype output, embedding; /* -1: none asked for */
    uint64_t done, total;          /* bytes of tensors */
    float *scratch;                /* UNIT for each thread */
    uint8_t *slab;                 /* SLAB elements of 4 bytes */
    struct model_convert_result *result;
};

/* ------------------------------------------------------------------- plan */

static const char *type_name(infer_dtype type)
{
    return quant_layout_of(type)->name;
}

static int is_quantised(infer_dtype type)
{
    return quant_layout_of(type)->block_elements > 1;
}

/* A type by itself, for one tensor. */
static infer_status find_type(infer_dtype *out, const char *name)
{
    const struct model_mix *mix;
    *out = -1;
    if (!name)
        return INFER_OK;
    infer_status st = model_mix_find(&mix, name);
    if (st == INFER_OK)
        *out = mix->type;
    return st;
}

static infer_dtype choose(const struct convert *c, const struct model_mix_model *model,
                          const struct gguf_tensor *t)
{
    if (model_mix_is_output(t) && c->output >= 0)
        return c->output;
    if (model_mix_is_embedding(t) && c->embedding >= 0)
        return c->embedding;
    if (c->mix && t->type == INFER_DTYPE_F8_128 && c->mix->type == INFER_DTYPE_F8_128)
        return t->type; /* what the mix would rather have there is no better than the source */
    if (c->mix)
        return model_mix_choose(c->mix, model, t, c->config->pure);
    /* Kept, but for types without a number in GGUF and for vectors, which others read as F32. */
    if (t->type == INFER_DTYPE_F8_E4M3 || t->type == INFER_DTYPE_F8_E5M2)
        return INFER_DTYPE_BF16;
    int is_half = t->type == INFER_DTYPE_F16 || t->type == INFER_DTYPE_BF16;
    return is_half && !model_mix_applies(t) ? INFER_DTYPE_F32 : t->type;
}

static infer_status check_pair(const struct convert *c, const struct gguf_tensor *t, infer_dtype to)
{
    const struct kern_quant *k = &c->config->device->kernels.quant;
    if (t->type == to)
        return INFER_OK;
    if (t->type >= KERN_DTYPES || !k->dequant[t->type])
        return base_error(INFER_ERR_UNSUPPORTED, "tensor \"%.*s\" of type %s cannot become %s",
                          (int)t->name.size, t->name.data, type_name(t->type), type_name(to));
    if (is_quantised(t->type) && to != INFER_DTYPE_F32 && !c->config->allow_requantize)
        return base_error(INFER_ERR_INVALID,
                          "tensor \"%.*s\" is %s already: rounding it again to %s loses more than "
                          "rounding the original would (allow_requantize permits it)",
                          (int)t->name.size, t->name.data, type_name(t->type), type_name(to));
    return INFER_OK;
}

static infer_status plan_tensor(struct convert *c, struct gguf_draft *draft,
                                const struct model_mix_model *model, const struct gguf_tensor *t)
{
    char name[GGUF_NAME_MAX + 1];
    memcpy(name, t->name.data, t->name.size);
    name[t->name.size] = 0;
    infer_dtype wanted = choose(c, model, t), type = wanted;
    if (wanted != t->type)
        type = model_mix_fit(wanted, t->dims[0]);
    if (type != wanted) {
        base_log(2, "tensor \"%s\": rows of %llu elements are not whole blocks of %s: %s instead",
                 name, (unsigned long long)t->dims[0], type_name(wanted), type_name(type));
        c->result->n_fallback++;
    }
    infer_status st = check_pair(c, t, type);
    return st == INFER_OK ? gguf_draft_tensor(draft, name, type, t->n_dims, t->dims, NULL, NULL)
                          : st;
}

/* The type of most bytes, as general.file_type says it. */
static int32_t main_file_type(const struct gguf_file *file)
{
    uint64_t bytes[KERN_DTYPES] = {0};
    const struct model_mix *mix;
    size_t best = 0;
    for (size_t i = 0; i < gguf_n_tensors(file); i++)
        bytes[gguf_tensor_at(file, i)->type] += gguf_tensor_at(file, i)->bytes;
    for (size_t i = 0; i < KERN_DTYPES; i++)
        best = bytes[i] > bytes[best] ? i : best;
    if (bytes[best] == 0 || model_mix_find(&mix, type_name((infer_dtype)best)) != INFER_OK)
        return 1024; /* "guessed", the number for what has no other */
    return mix->file_type;
}

static infer_status plan_keys(struct convert *c, struct gguf_draft *draft)
{
    /* What replaces a key takes its place. */
    infer_status st = gguf_draft_copy_keys(draft, c->src);
    if (st == INFER_OK)
        st = gguf_draft_u32(draft, "general.quantization_version", 2);
    if (st == INFER_OK && (c->mix || !gguf_draft_find(draft, "general.file_type")))
        st = gguf_draft_u32(draft, "general.file_type",
                            (uint32_t)(c->mix ? c->mix->file_type : main_file_type(c->src)));
    return st;
}

static infer_status plan_tensors(struct convert *c, struct gguf_draft *draft)
{
    struct base_arena arena;
    struct model_mix_model model;
    base_arena_init(&arena, &c->alloc);
    infer_status st = model_mix_model_read(&model, &arena, c->src);
    for (size_t i = 0; i < gguf_n_tensors(c->src) && st == INFER_OK; i++)
        st = plan_tensor(c, draft, &model, gguf_tensor_at(c->src, i));
    base_arena_release(&arena);
    return st;
}

static infer_status make_plan(struct convert *c)
{
    const struct model_convert_config *config = c->config;
    struct gguf_draft *draft = NULL;
    infer_status st = INFER_OK;
    if (config->type && strcmp(config->type, "keep") != 0)
        st = model_mix_find(&c->mix, config->type);
    if (st == INFER_OK)
        st = find_type(&c->output, config->output_type);
    if (st == INFER_OK)
        st = find_type(&c->embedding, config->embedding_type);
    if (st == INFER_OK)
        st = gguf_draft_create(&draft, &c->alloc, gguf_path(c->src));
    if (st == INFER_OK)
        st = plan_keys(c, draft);
    if (st == INFER_OK)
        st = plan_tensors(c, draft);
    if (st == INFER_OK)
        st = gguf_draft_finish(&draft, &c->plan);
    gguf_draft_destroy(&draft);
    return st;
}

/* What the bytes depend on beside the plan. The weights themselves are sampled: a source that was
 * trained on since differs everywhere. */
static uint64_t hash_source(const struct convert *c)
{
    uint64_t h = QUANTISERS;
    for (size_t i = 0; i < gguf_n_tensors(c->src); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(c->src, i);
        const uint8_t *data = gguf_matrix(t, 0);
        uint64_t bytes = t->matrices ? t->bytes / t->dims[2] : t->bytes;
        h = base_hash64(&t->type, sizeof t->type, h);
        h = base_hash64(data, (size_t)BASE_MIN(bytes, (uint64_t)4096), h);
    }
    return h ? h : 1;
}

/* ------------------------------------------------------------------- work */

struct run {
    struct convert *c;
    kern_dequant_fn *dequant;
    kern_quantize_fn *quantize;
    const uint8_t *src;
    uint8_t *dst;
    size_t n; /* elements */
    infer_dtype from, to;
    uint32_t limit;         /* bits of the largest magnitude that `to` takes */
    _Atomic uint64_t wrong; /* first element beyond it; UINT64_MAX: none */
};

static size_t type_bytes(infer_dtype type, size_t n)
{
    const struct quant_layout *layout = quant_layout_of(type);
    return n / (size_t)layout->block_elements * (size_t)layout->block_bytes;
}

static uint32_t limit_bits(infer_dtype to)
{
    float limit = 65504.0f; /* scales are halves */
    uint32_t bits;
    if (to == INFER_DTYPE_F32 || to == INFER_DTYPE_MXFP4 || to == INFER_DTYPE_F8_128)
        return 0x7f7fffff;
    if (to == INFER_DTYPE_BF16)
        return 0x7f7f7fff; /* what does not round to infinity */
    if (to == INFER_DTYPE_F16)
        return 0x477fefff;
    if (to == INFER_DTYPE_NVFP4)
        limit = 2688.0f;
    memcpy(&bits, &limit, sizeof bits);
    return bits;
}

static uint32_t size_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits & 0x7fffffff;
}

static void note_wrong(struct run *run, const float *x, size_t n, uint64_t first)
{
    uint64_t known = atomic_load(&run->wrong);
    size_t i = 0;
    while (i < n && size_bits(x[i]) <= run->limit)
        i++;
    while (first + i < known && !atomic_compare_exchange_weak(&run->wrong, &known, first + i)) {
    }
}

/* Units begin .. end - 1. */
static void run_units(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct run *run = arg;
    float *x = run->c->scratch + (size_t)thread * UNIT;
    for (int32_t u = begin; u < end; u++) {
        size_t first = (size_t)u * UNIT, n = BASE_MIN(UNIT, run->n - first);
        uint32_t peak = 0;
        run->dequant(x, run->src + type_bytes(run->from, first), (int32_t)n);
        for (size_t i = 0; i < n; i++)
            peak = BASE_MAX(peak, size_bits(x[i]));
        if (peak > run->limit)
            note_wrong(run, x, n, first);
        else
            run->quantize(run->dst + type_bytes(run->to, first), x, (int32_t)n);
    }
}

static infer_status wrong_value(const struct run *run, const struct gguf_tensor *t, uint64_t at)
{
    const struct quant_layout *layout = quant_layout_of(run->from);
    float x[256]; /* the largest block */
    size_t i = (size_t)(run->wrong % (uint64_t)layout->block_elements);
    run->dequant(x, run->src + type_bytes(run->from, (size_t)run->wrong - i),
                 layout->block_elements);
    at += run->wrong;
    return base_error(INFER_ERR_FORMAT,
                      "tensor \"%.*s\" has the value %g in row %llu, column %llu, which %s does "
                      "not hold",
                      (int)t->name.size, t->name.data, (double)x[i],
                      (unsigned long long)(at / t->dims[0]), (unsigned long long)(at % t->dims[0]),
                      type_name(run->to));
}

static infer_status report(struct convert *c)
{
    const struct model_convert_config *config = c->config;
    double fraction = c->total ? (double)c->done / (double)c->total : 1;
    if (config->progress && config->progress(fraction, "converting", config->progress_user_data))
        return base_error(INFER_ERR_CANCELLED, "conversion was cancelled");
    return INFER_OK;
}

static infer_status put(struct convert *c, const uint8_t *data, uint64_t bytes)
{
    infer_status st = INFER_OK;
    for (uint64_t n; bytes && st == INFER_OK; bytes -= n, data += n) {
        n = BASE_MIN(bytes, (uint64_t)COPY_MAX);
        st = gguf_writer_put(c->writer, data, (size_t)n);
        c->done += n;
        if (st == INFER_OK)
            st = report(c);
    }
    return st;
}

/* `n` elements that lie together; `at` is the first one's place in its tensor. */
static infer_status convert_elements(struct convert *c, const struct gguf_tensor *t, infer_dtype to,
                                     const uint8_t *data, uint64_t n, uint64_t at)
{
    const struct kern_quant *k = &c->config->device->kernels.quant;
    struct run run = {.c = c,
                      .dequant = k->dequant[t->type],
                      .quantize = k->quantize[to] ? k->quantize[to] : k->narrow[to],
                      .dst = c->slab,
                      .from = t->type,
                      .to = to,
                      .limit = limit_bits(to),
                      .wrong = UINT64_MAX};
    infer_status st = INFER_OK;
    for (uint64_t i = 0; i < n && st == INFER_OK; i += SLAB) {
        run.src = data + type_bytes(t->type, (size_t)i);
        run.n = (size_t)BASE_MIN(n - i, (uint64_t)SLAB);
        base_pool_run(c->config->device->pool, run_units, &run, (int32_t)BASE_DIV_UP(run.n, UNIT),
                      1);
        if (run.wrong != UINT64_MAX)
            return wrong_value(&run, t, at + i);
        st = put(c, c->slab, type_bytes(to, run.n));
    }
    return st;
}

static infer_status convert_tensor(struct convert *c, size_t i)
{
    const struct gguf_tensor *t = gguf_tensor_at(c->src, i);
    infer_dtype to = gguf_tensor_at(c->plan, i)->type;
    uint64_t parts = t->matrices ? t->dims[2] : 1, bytes = t->bytes / parts;
    uint64_t n = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3] / parts;
    infer_status st = INFER_OK;
    for (uint64_t p = 0; p < parts && st == INFER_OK; p++) {
        const uint8_t *data = t->matrices ? t->matrices[p] : t->data;
        st = to == t->type ? put(c, data, bytes) : convert_elements(c, t, to, data, n, p * n);
    }
    return st == INFER_OK ? gguf_writer_end_tensor(c->writer) : st;
}

static infer_status convert_all(struct convert *c, const char *dst)
{
    size_t n = gguf_n_tensors(c->plan), next;
    if (c->config->disable_resume) { /* no source has the hash 0: what is there is removed */
        infer_status st = gguf_writer_open(&c->writer, &c->alloc, dst, c->plan, 0);
        if (st != INFER_OK)
            return st;
        gguf_writer_destroy(&c->writer, 0);
    }
    infer_status st = gguf_writer_open(&c->writer, &c->alloc, dst, c->plan, hash_source(c));
    if (st != INFER_OK)
        return st;
    next = gguf_writer_next(c->writer);
    for (size_t i = 0; i < n; i++) {
        c->total += gguf_tensor_at(c->plan, i)->bytes;
        if (i < next)
            c->done += gguf_tensor_at(c->plan, i)->bytes;
    }
    c->result->bytes = gguf_writer_bytes(c->writer);
    c->result->n_tensors = (int64_t)n;
    c->result->n_resumed = (int64_t)next;
    st = report(c);
    for (size_t i = next; i < n && st == INFER_OK; i++)
        st = convert_tensor(c, i);
    return st == INFER_OK ? gguf_writer_commit(&c->writer) : st;
}

static infer_status check_device(const struct model_convert_config *config)
{
    if (config->device->pool)
        return INFER_OK;
    return base_error(INFER_ERR_INVALID, "conversion runs on a CPU, the device is %s",
                      config->device->name);
}

int model_convert_keeps_f8(const struct model_convert_config *config)
{
    const struct model_mix *mix;
    if (!config->type || strcmp(config->type, "keep") == 0)
        return 1;
    return model_mix_find(&mix, config->type) == INFER_OK && mix->type == INFER_DTYPE_F8_128;
}

infer_status model_convert(struct model_convert_result *out, const struct gguf_file *src,
                           const char *dst, const struct model_convert_config *config)
{
    struct convert c = {.alloc = *config->alloc, .config = config, .src = src, .result = out};
    *out = (struct model_convert_result){0};
    infer_status st = check_device(config);
    if (st == INFER_OK)
        st = make_plan(&c);
    if (st == INFER_OK) {
        size_t threads = (size_t)base_pool_threads(config->device->pool);
        c.scratch = base_new_raw(&c.alloc, threads, UNIT * sizeof *c.scratch);
        c.slab = base_new_raw(&c.alloc, SLAB, sizeof(float));
        st = c.scratch && c.slab ? convert_all(&c, dst) : INFER_ERR_NO_MEMORY;
    }
    gguf_writer_destroy(&c.writer, 1);
    base_free(&c.alloc, c.scratch);
    base_free(&c.alloc, c.slab);
    gguf_close(&c.plan);
    return st;
}
