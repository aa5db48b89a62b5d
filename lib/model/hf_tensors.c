/* Tensors of a folder under their GGUF names, by the rows of the architecture and the shared
 * ones. */
#include "model/hf.h"

#include "base/error.h"
#include "base/log.h"
#include "base/map.h"
#include "model/hf_quant.h"

#include <stdio.h>

#define NAME_MAX_BYTES 512
#define MAX_EXPERTS    4096
#define MAX_LOGGED     8
#define SHOW(view)     (int)BASE_MIN((view).size, (size_t)128), (view).data

/* What wraps a language model inside another one. */
static const char *const wrappers[] = {
    "model.",    "language_model.", "text_model.", "transformer.", "gpt_neox.",
    "backbone.", "bert.",           "roberta.",    "distilbert.",  "nomic_bert."};
/* What else a checkpoint holds and a language model does without: other senses, and heads that
 * predict further tokens. */
static const char *const foreign[] = {
    "vision_",       "visual.", "vit.",          "multi_modal_projector.",
    "mm_projector",  "audio_",  "embed_vision",  "embed_audio",
    "image_newline", "img_",    "patch_merger.", "connector.",
    "aligner.",      "mtp.",    "mtp_",
};

/* A name matched with a row. */
struct match {
    const struct model_hf_tensor *row;
    const char *suffix; /* ".weight", ".bias", or "" where the row has the whole name */
    int32_t layer, expert;
    size_t expert_at, expert_digits; /* where the expert's number stands in the name */
};

static int begins_with(struct base_view v, const char *text)
{
    size_t n = strlen(text);
    return v.size >= n && memcmp(v.data, text, n) == 0;
}

/* The name inside all wrappers; 0 for a tensor of another part than the language model. */
static int unwrap(struct base_view *name)
{
    for (size_t i = 0;;) {
        for (i = 0; i < BASE_COUNT(foreign); i++)
            if (begins_with(*name, foreign[i]))
                return 0;
        for (i = 0; i < BASE_COUNT(wrappers) && !begins_with(*name, wrappers[i]); i++)
            continue;
        if (i == BASE_COUNT(wrappers))
            return 1;
        name->data += strlen(wrappers[i]);
        name->size -= strlen(wrappers[i]);
    }
}

static size_t read_number(struct base_view v, size_t at, int32_t *out)
{
    size_t n = 0;
    int32_t value = 0;
    while (at + n < v.size && v.data[at + n] >= '0' && v.data[at + n] <= '9' && n < 6)
        value = value * 10 + (v.data[at + n++] - '0');
    *out = value;
    return n;
}

static int fits(struct match *m, const struct model_hf_tensor *row, struct base_view name)
{
    size_t at = 0;
    *m = (struct match){.row = row, .layer = -1, .expert = -1};
    for (const char *p = row->from; *p; p++) {
        if (p[0] == '%' && p[1] == 'd') {
            int32_t number;
            size_t digits = read_number(name, at, &number);
            if (!digits)
                return 0;
            if (m->layer < 0) {
                m->layer = number;
            } else {
                m->expert = number;
                m->expert_at = at;
                m->expert_digits = digits;
            }
            at += digits;
            p++;
        } else if (at == name.size || name.data[at++] != *p) {
            return 0;
        }
    }
    struct base_view rest = {name.data + at, name.size - at};
    static const char *const suffixes[] = {"", ".weight", ".bias"};
    for (size_t i = 0; i < BASE_COUNT(suffixes); i++)
        if (base_view_equal(rest, suffixes[i])) {
            m->suffix = suffixes[i];
            return 1;
        }
    return 0;
}

static int find_row(struct match *m, const struct model_hf_arch *arch, struct base_view name)
{
    size_t n;
    const struct model_hf_tensor *shared = model_hf_shared_names(&n);
    for (size_t i = 0; i < arch->n_tensors; i++)
        if (fits(m, &arch->tensors[i], name))
            return 1;
    for (size_t i = 0; i < n; i++)
        if (fits(m, &shared[i], name))
            return 1;
    return 0;
}

static infer_status write_name(char out[NAME_MAX_BYTES], const struct match *m)
{
    const char *percent = strstr(m->row->to, "%d");
    int head = percent ? (int)(percent - m->row->to) : (int)strlen(m->row->to), n;
    if (percent)
        n = snprintf(out, NAME_MAX_BYTES, "%.*s%d%s%s", head, m->row->to, m->layer, percent + 2,
                     m->suffix);
    else
        n = snprintf(out, NAME_MAX_BYTES, "%s%s", m->row->to, m->suffix);
    return n < NAME_MAX_BYTES ? INFER_OK : base_error(INFER_ERR_LIMIT, "a name is too long");
}

int model_hf_place(const struct model_hf_arch *arch, struct base_view module,
                   struct model_hf_place *out)
{
    struct match m;
    char name[NAME_MAX_BYTES], to[NAME_MAX_BYTES] = "";
    int n = snprintf(name, sizeof name, "%.*s.weight", (int)BASE_MIN(module.size, sizeof name),
                     module.data);
    struct base_view view = {name, (size_t)n};
    *out = (struct model_hf_place){.layer = -1, .expert = -1};
    if (n >= NAME_MAX_BYTES || !unwrap(&view) || !find_row(&m, arch, view))
        return 0;
    if (m.row->to && write_name(to, &m) != INFER_OK)
        return 0;
    out->row = m.row;
    out->layer = m.layer;
    out->expert = m.expert;
    return snprintf(out->to, sizeof out->to, "%s", to) < (int)sizeof out->to;
}

/* The name of the same tensor of another expert: `prefix` bytes of wrappers come before. */
static infer_status name_of_expert(char out[NAME_MAX_BYTES], struct base_view stored, size_t prefix,
                                   const struct match *m, int32_t expert, struct base_view *view)
{
    size_t at = prefix + m->expert_at, rest = at + m->expert_digits;
    int n = snprintf(out, NAME_MAX_BYTES, "%.*s%d%.*s", (int)at, stored.data, expert,
                     (int)(stored.size - rest), stored.data + rest);
    if (stored.size > INT32_MAX || n >= NAME_MAX_BYTES)
        return base_error(INFER_ERR_LIMIT, "the name of an expert is too long");
    *view = (struct base_view){out, (size_t)n};
    return INFER_OK;
}

static infer_status check_same(const struct model_hf_value *a, const struct model_hf_value *b)
{
    if (a->type == b->type && a->n_dims == b->n_dims && (a->scale != 0) == (b->scale != 0) &&
        memcmp(a->dims, b->dims, sizeof a->dims) == 0)
        return INFER_OK;
    return base_error(INFER_ERR_FORMAT, "tensors \"%.*s\" and \"%.*s\" differ in type or shape",
                      SHOW(a->name), SHOW(b->name));
}

/* Biases and other vectors of experts become the rows of one matrix. */
static infer_status stack_vectors(struct model_hf *hf, const char *to,
                                  const struct model_hf_value *first, const uint8_t *const *data,
                                  uint64_t n)
{
    struct model_hf_value v = *first;
    float *out = gguf_draft_memory(hf->draft, (size_t)(n * v.dims[0]), sizeof *out);
    if (!out)
        return INFER_ERR_NO_MEMORY;
    for (uint64_t e = 0; e < n; e++) {
        float *x;
        v.data = data[e];
        infer_status st = model_hf_floats(hf, &v, &x);
        if (st != INFER_OK)
            return st;
        memcpy(out + e * v.dims[0], x, (size_t)v.dims[0] * sizeof *x);
    }
    v.type = INFER_DTYPE_F32;
    v.n_dims = 2;
    v.dims[1] = n;
    return gguf_draft_tensor(hf->draft, to, v.type, 2, v.dims, out, NULL);
}

static infer_status stack_matrices(struct model_hf *hf, const char *to,
                                   const struct model_hf_value *first, const uint8_t *const *data,
                                   const float *scales, uint64_t n)
{
    uint64_t dims[3] = {first->dims[0], first->dims[1], n};
    if (first->n_dims > 2)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" of an expert has %d dimensions",
                          SHOW(first->name), first->n_dims);
    infer_status st =
        gguf_draft_tensor(hf->draft, to, first->type, 3, dims, NULL, (const void *const *)data);
    return st == INFER_OK && first->scale != 0 ? model_hf_add_scales(hf, to, scales, n) : st;
}

/* All experts at once, when the first comes by; their matrices stay where they are. */
static infer_status add_experts(struct model_hf *hf, const struct safetensors_tensor *t,
                                size_t prefix, const struct match *m, const char *to)
{
    struct model_hf_value first = {0}, v = {0};
    int64_t n =
        model_hf_int(hf, "num_local_experts",
                     model_hf_int(hf, "num_experts", model_hf_int(hf, "n_routed_experts", 0)));
    if (n < 1 || n > MAX_EXPERTS)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\", but config.json says %lld experts",
                          SHOW(t->name), (long long)n);
    const uint8_t **data = base_new(&hf->alloc, (size_t)n, sizeof *data);
    float *scales = gguf_draft_memory(hf->draft, (size_t)n, sizeof *scales);
    if (!data || !scales) {
        base_free(&hf->alloc, data);
        return INFER_ERR_NO_MEMORY;
    }
    infer_status st = INFER_OK;
    for (int32_t e = 0; e < n && st == INFER_OK; e++) {
        char name[NAME_MAX_BYTES];
        struct base_view view;
        st = name_of_expert(name, t->name, prefix, m, e, &view);
        if (st == INFER_OK)
            st = model_hf_value(hf, view, &v);
        if (st == INFER_OK)
            st = model_hf_change(hf, &v, m->row->flags);
        if (st == INFER_OK && e == 0)
            first = v;
        if (st == INFER_OK)
            st = check_same(&first, &v);
        data[e] = v.data;
        scales[e] = v.scale;
    }
    if (st == INFER_OK)
        st = first.n_dims == 1 ? stack_vectors(hf, to, &first, data, (uint64_t)n)
                               : stack_matrices(hf, to, &first, data, scales, (uint64_t)n);
    base_free(&hf->alloc, data);
    return st;
}

static infer_status add_matched(struct model_hf *hf, const struct safetensors_tensor *t,
                                size_t prefix, const struct match *m)
{
    char to[NAME_MAX_BYTES];
    struct model_hf_value v;
    if (m->expert > 0 || (!m->row->to && !m->row->make))
        return INFER_OK; /* comes with the first one; left out on purpose */
    infer_status st = m->row->make ? INFER_OK : write_name(to, m);
    if (st != INFER_OK)
        return st;
    hf->whole_rows = !m->row->make && !(m->row->flags & MODEL_HF_TRANSPOSE);
    st = m->expert == 0 && !m->row->make ? add_experts(hf, t, prefix, m, to)
                                         : model_hf_value(hf, t->name, &v);
    hf->whole_rows = 0;
    if (st != INFER_OK || (m->expert == 0 && !m->row->make))
        return st;
    return m->row->make ? m->row->make(hf, &v, m->layer, m->suffix)
                        : model_hf_add(hf, to, &v, m->row->flags);
}

/* A tied head is the embedding matrix: it may be stored under both names. */
static int is_tied_head(const struct model_hf *hf, const struct match *m)
{
    int32_t tied = 0;
    base_json_bool(model_hf_get(hf, "tie_word_embeddings"), &tied);
    return tied && m->row->to && strcmp(m->row->to, "output") == 0;
}

/* A part of a layer that no table knows would be missing from the computation. What stands beside
 * the layers belongs to something else: another head, another model in the same files. */
static infer_status leave_out(const struct model_hf *hf, const struct safetensors_tensor *t,
                              struct base_view name, int *n_unknown)
{
    static const char *const layers[] = {"layers.", "h.", "layer.", "encoder.layer.",
                                         "encoder.layers."};
    int32_t layer;
    for (size_t i = 0; i < BASE_COUNT(layers); i++)
        if (begins_with(name, layers[i]) && read_number(name, strlen(layers[i]), &layer) &&
            layer < hf->n_layers)
            return base_error(INFER_ERR_UNSUPPORTED,
                              "tensor \"%.*s\" has no place in the architecture \"%s\"",
                              SHOW(t->name), hf->name);
    if ((*n_unknown)++ < MAX_LOGGED)
        base_log(1, "%s: tensor \"%.*s\" is unknown and left out", hf_dir_path(hf->dir),
                 SHOW(t->name));
    return INFER_OK;
}

static infer_status add_tensor(struct model_hf *hf, const struct safetensors_tensor *t,
                               int *n_unknown)
{
    struct match m;
    char plain[NAME_MAX_BYTES];
    struct base_view name = t->name;
    int packed;
    infer_status st = model_hf_quant_find(hf, t->name, &packed, plain);
    if (st != INFER_OK || packed < 0) /* part of another one */
        return st;
    if (packed)
        name = (struct base_view){plain, strlen(plain)};
    size_t whole = name.size;
    if (!unwrap(&name))
        return INFER_OK;
    if (!find_row(&m, hf->arch, name))
        return leave_out(hf, t, name, n_unknown);
    if (m.layer >= hf->n_layers || is_tied_head(hf, &m)) /* layers beyond predict further tokens */
        return INFER_OK;
    return add_matched(hf, t, whole - name.size, &m);
}

infer_status model_hf_tensors(struct model_hf *hf)
{
    int n_unknown = 0;
    infer_status st = INFER_OK;
    size_t n = hf_dir_n_tensors(hf->dir);
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        st = add_tensor(hf, hf_dir_tensor_at(hf->dir, i), &n_unknown);
    if (n_unknown > MAX_LOGGED)
        base_log(1, "%s: %d further tensors are unknown and left out", hf_dir_path(hf->dir),
                 n_unknown - MAX_LOGGED);
    if (st == INFER_OK && hf->arch->finish)
        st = hf->arch->finish(hf);
    return st == INFER_ERR_NOT_FOUND ? INFER_ERR_FORMAT : st; /* a part of another one is missing */
}
