/* Writes a GGUF model of true shape with random weights, for speed and memory
 * measurements where no real model is at hand:
 *
 *     make_model --shape llama-7b --type q4_0 --out /tmp/7b.gguf
 *
 * The file is complete (hyperparameters, vocabulary, tensors), the text it
 * generates is noise. The same arguments give the same bytes. */
#include "random_weights.h"
#include "support/gguf_builder.h"

#include "base/clock.h"
#include "format/quant_layout.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (1 << 20)
#define ALIGNMENT   32

struct shape {
    const char *name;
    int32_t dim, layers, heads, kv_heads, ffn, vocab, context;
    float rope_base;
    int32_t tied;                  /* the output matrix is the embedding */
    int32_t experts, experts_used; /* 0: one feed-forward for all tokens */
};

static const struct shape shapes[] = {
    {"tiny", 256, 4, 4, 2, 768, 2048, 1024, 1e4f, 0, 0, 0},
    {"llama-100m", 768, 12, 12, 12, 2048, 32000, 2048, 1e4f, 0, 0, 0},
    {"llama-1b", 2048, 16, 32, 8, 8192, 128256, 131072, 5e5f, 1, 0, 0},
    {"tinyllama-1.1b", 2048, 22, 32, 4, 5632, 32000, 2048, 1e4f, 0, 0, 0},
    {"llama-3b", 3072, 28, 24, 8, 8192, 128256, 131072, 5e5f, 1, 0, 0},
    {"llama-7b", 4096, 32, 32, 32, 11008, 32000, 4096, 1e4f, 0, 0, 0},
    {"llama-8b", 4096, 32, 32, 8, 14336, 128256, 8192, 5e5f, 0, 0, 0},
    {"llama-13b", 5120, 40, 40, 40, 13824, 32000, 4096, 1e4f, 0, 0, 0},
    {"llama-70b", 8192, 80, 64, 8, 28672, 128256, 8192, 5e5f, 0, 0, 0},
    {"moe-8x1b", 2048, 16, 32, 8, 8192, 128256, 131072, 5e5f, 1, 8, 2},
};

/* `better` serves the tensors that suffer most from few bits: the output
 * matrix, and the values and down projections of some layers. The mixes are those of
 * llama.cpp's quantiser, with eight experts also those of add_layer(). */
static const struct scheme {
    const char *name;
    infer_dtype type, better;
    int32_t file_type; /* general.file_type */
} schemes[] = {
    {"f32", INFER_DTYPE_F32, INFER_DTYPE_F32, 0},
    {"f16", INFER_DTYPE_F16, INFER_DTYPE_F16, 1},
    {"bf16", INFER_DTYPE_BF16, INFER_DTYPE_BF16, 32},
    {"q8_0", INFER_DTYPE_Q8_0, INFER_DTYPE_Q8_0, 7},
    {"q4_0", INFER_DTYPE_Q4_0, INFER_DTYPE_Q4_0, 2},
    {"q4_k", INFER_DTYPE_Q4_K, INFER_DTYPE_Q4_K, 14},
    {"q6_k", INFER_DTYPE_Q6_K, INFER_DTYPE_Q6_K, 18},
    {"q4_1", INFER_DTYPE_Q4_1, INFER_DTYPE_Q4_1, 3},
    {"q5_0", INFER_DTYPE_Q5_0, INFER_DTYPE_Q5_0, 8},
    {"q5_1", INFER_DTYPE_Q5_1, INFER_DTYPE_Q5_1, 9},
    {"q2_k", INFER_DTYPE_Q2_K, INFER_DTYPE_Q2_K, 10},
    {"q3_k", INFER_DTYPE_Q3_K, INFER_DTYPE_Q3_K, 11},
    {"q5_k", INFER_DTYPE_Q5_K, INFER_DTYPE_Q5_K, 16},
    {"iq2_xxs", INFER_DTYPE_IQ2_XXS, INFER_DTYPE_IQ2_XXS, 19},
    {"iq2_xs", INFER_DTYPE_IQ2_XS, INFER_DTYPE_IQ2_XS, 20},
    {"iq3_xxs", INFER_DTYPE_IQ3_XXS, INFER_DTYPE_IQ3_XXS, 23},
    {"iq1_s", INFER_DTYPE_IQ1_S, INFER_DTYPE_IQ1_S, 24},
    {"iq4_nl", INFER_DTYPE_IQ4_NL, INFER_DTYPE_IQ4_NL, 25},
    {"iq3_s", INFER_DTYPE_IQ3_S, INFER_DTYPE_IQ3_S, 26},
    {"iq2_s", INFER_DTYPE_IQ2_S, INFER_DTYPE_IQ2_S, 28},
    {"iq4_xs", INFER_DTYPE_IQ4_XS, INFER_DTYPE_IQ4_XS, 30},
    {"iq1_m", INFER_DTYPE_IQ1_M, INFER_DTYPE_IQ1_M, 31},
    {"tq1_0", INFER_DTYPE_TQ1_0, INFER_DTYPE_TQ1_0, 36},
    {"tq2_0", INFER_DTYPE_TQ2_0, INFER_DTYPE_TQ2_0, 37},
    {"mxfp4", INFER_DTYPE_MXFP4, INFER_DTYPE_MXFP4, 38},
    {"nvfp4", INFER_DTYPE_NVFP4, INFER_DTYPE_NVFP4, 39},
    {"f8", INFER_DTYPE_F8_128, INFER_DTYPE_Q8_0, 1024},
    {"q4_k_m", INFER_DTYPE_Q4_K, INFER_DTYPE_Q6_K, 15},
};

struct tensor {
    infer_dtype type;
    uint64_t row, rows; /* the rows of all experts */
    int32_t norm;       /* values about 1 */
};

struct plan {
    struct shape shape;
    const struct scheme *scheme;
    uint64_t seed;
    const char *out;
    struct gguf_builder *builder;
    struct tensor *tensors;
    size_t n_tensors;
    uint64_t parameters;
};

/* --- vocabulary --- */

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_BYTE = 6 };

#define N_SPECIAL 3
#define N_BYTES   256
#define N_ASCII   94 /* printable, without the space */
#define N_SINGLE  (N_ASCII + 1)
#define N_FIXED   (N_SPECIAL + N_BYTES + N_SINGLE)
#define MAX_VOCAB 500000

/* Letters by their frequency in English, so that likely pieces come first. */
static const char letters[] = "etaoinshrdlcumwfgypbvkjxqz";

/* The space of SentencePiece, U+2581. */
static const char space[] = "\xe2\x96\x81";

/* Piece `i` of all words of 1, 2, 3 ... letters, each without and with a space
 * in front (single letters only with): every piece joins two shorter ones, as
 * the merges of a trained vocabulary do. */
static void make_piece(char *out, size_t size, uint64_t i)
{
    char word[8] = {0};
    uint64_t n_words = 26, length = 1;
    if (i < 26) {
        snprintf(out, size, "%s%c", space, letters[i]);
        return;
    }
    i -= 26;
    for (length = 2, n_words = 26 * 26; i >= 2 * n_words; length++, n_words *= 26)
        i -= 2 * n_words;
    uint64_t rank = i / 2;
    for (uint64_t k = length; k-- > 0; rank /= 26)
        word[k] = letters[rank % 26];
    snprintf(out, size, "%s%s", i & 1 ? space : "", word);
}

static void make_token(char *out, size_t size, int32_t i, int32_t n, float *score, int32_t *type)
{
    static const char *const special[N_SPECIAL] = {"<unk>", "<s>", "</s>"};
    int32_t first_single = n - N_SINGLE;
    *score = 0;
    if (i < N_SPECIAL) {
        snprintf(out, size, "%s", special[i]);
        *type = i == 0 ? TYPE_UNKNOWN : TYPE_CONTROL;
    } else if (i < N_SPECIAL + N_BYTES) {
        snprintf(out, size, "<0x%02X>", (unsigned)(i - N_SPECIAL));
        *type = TYPE_BYTE;
    } else {
        if (i < first_single)
            make_piece(out, size, (uint64_t)(i - N_SPECIAL - N_BYTES));
        else if (i == first_single)
            snprintf(out, size, "%s", space);
        else
            snprintf(out, size, "%c", '!' + (i - first_single - 1));
        *score = -(float)(i - N_SPECIAL - N_BYTES);
        *type = TYPE_NORMAL;
    }
}

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "make_model: out of memory\n");
        exit(1);
    }
    return p;
}

static void add_vocabulary(struct gguf_builder *b, int32_t n)
{
    enum { TOKEN_BYTES = 12 };
    char *text = must(malloc((size_t)n * TOKEN_BYTES));
    struct base_view *tokens = must(calloc((size_t)n, sizeof *tokens));
    float *scores = must(calloc((size_t)n, sizeof *scores));
    int32_t *types = must(calloc((size_t)n, sizeof *types));
    for (int32_t i = 0; i < n; i++) {
        char *token = text + (size_t)i * TOKEN_BYTES;
        make_token(token, TOKEN_BYTES, i, n, &scores[i], &types[i]);
        tokens[i] = (struct base_view){token, strlen(token)};
    }
    gguf_builder_string(b, "tokenizer.ggml.model", "llama");
    gguf_builder_views(b, "tokenizer.ggml.tokens", tokens, (uint64_t)n);
    gguf_builder_array(b, "tokenizer.ggml.scores", GGUF_F32, scores, (uint64_t)n);
    gguf_builder_array(b, "tokenizer.ggml.token_type", GGUF_I32, types, (uint64_t)n);
    gguf_builder_int(b, "tokenizer.ggml.unknown_token_id", GGUF_U32, 0);
    gguf_builder_int(b, "tokenizer.ggml.bos_token_id", GGUF_U32, 1);
    gguf_builder_int(b, "tokenizer.ggml.eos_token_id", GGUF_U32, 2);
    gguf_builder_int(b, "tokenizer.ggml.add_bos_token", GGUF_BOOL, 1);
    gguf_builder_int(b, "tokenizer.ggml.add_eos_token", GGUF_BOOL, 0);
    gguf_builder_string(b, "tokenizer.chat_template",
                        "{% for message in messages %}{{ message['role'] + ': ' + "
                        "message['content'] + '\\n' }}{% endfor %}"
                        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}");
    free(text);
    free(tokens);
    free(scores);
    free(types);
}

/* --- the model --- */

static void add_keys(struct plan *p)
{
    const struct shape *s = &p->shape;
    struct gguf_builder *b = p->builder;
    char name[64];
    snprintf(name, sizeof name, "Random %s", s->name);
    gguf_builder_string(b, "general.architecture", "llama");
    gguf_builder_string(b, "general.name", name);
    gguf_builder_int(b, "general.file_type", GGUF_U32, p->scheme->file_type);
    gguf_builder_int(b, "general.quantization_version", GGUF_U32, 2);
    gguf_builder_int(b, "llama.vocab_size", GGUF_U32, s->vocab);
    gguf_builder_int(b, "llama.context_length", GGUF_U32, s->context);
    gguf_builder_int(b, "llama.embedding_length", GGUF_U32, s->dim);
    gguf_builder_int(b, "llama.block_count", GGUF_U32, s->layers);
    gguf_builder_int(b, "llama.feed_forward_length", GGUF_U32, s->ffn);
    gguf_builder_int(b, "llama.attention.head_count", GGUF_U32, s->heads);
    gguf_builder_int(b, "llama.attention.head_count_kv", GGUF_U32, s->kv_heads);
    gguf_builder_float(b, "llama.attention.layer_norm_rms_epsilon", GGUF_F32, 1e-5);
    gguf_builder_int(b, "llama.rope.dimension_count", GGUF_U32, s->dim / s->heads);
    gguf_builder_float(b, "llama.rope.freq_base", GGUF_F32, (double)s->rope_base);
    if (s->experts) {
        gguf_builder_int(b, "llama.expert_count", GGUF_U32, s->experts);
        gguf_builder_int(b, "llama.expert_used_count", GGUF_U32, s->experts_used);
    }
    add_vocabulary(b, s->vocab);
}

/* `rows` 0: a norm. `experts` 0: one matrix for all tokens. */
static void add_tensor(struct plan *p, const char *name, infer_dtype type, int32_t row,
                       int32_t rows, int32_t experts)
{
    uint64_t dims[3] = {(uint64_t)row, (uint64_t)rows, (uint64_t)experts};
    const struct quant_layout *layout = quant_layout_of(type);
    uint64_t all_rows = (rows ? dims[1] : 1) * (experts ? dims[2] : 1);
    uint64_t bytes =
        dims[0] / (uint64_t)layout->block_elements * (uint64_t)layout->block_bytes * all_rows;
    gguf_builder_tensor(p->builder, name, type, rows ? (experts ? 3 : 2) : 1, dims, NULL, bytes);
    p->tensors[p->n_tensors++] = (struct tensor){type, dims[0], all_rows, rows == 0};
    p->parameters += dims[0] * all_rows;
}

struct part {
    const char *name;
    infer_dtype type;
    int32_t row, rows, experts;
};

static void add_parts(struct plan *p, int32_t layer, const struct part *parts, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", (int)layer, parts[k].name);
        add_tensor(p, name, parts[k].type, parts[k].row, parts[k].rows, parts[k].experts);
    }
}

static void add_layer(struct plan *p, int32_t i)
{
    const struct shape *s = &p->shape;
    int32_t n = s->layers, kv = s->dim / s->heads * s->kv_heads, experts = s->experts;
    infer_dtype type = p->scheme->type, out = type, keys = type;
    /* The first and last eighth of the layers and every third between. */
    int careful = i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    infer_dtype better = careful ? p->scheme->better : type, values = better;
    /* Beside eight experts the attention is small: a mix gives it more bits. */
    if (experts == 8 && type != p->scheme->better) {
        keys = values = INFER_DTYPE_Q8_0;
        out = INFER_DTYPE_Q5_K;
    }
    const struct part attention[] = {
        {"attn_norm", INFER_DTYPE_F32, s->dim, 0, 0},
        {"attn_q", type, s->dim, s->dim, 0},
        {"attn_k", keys, s->dim, kv, 0},
        {"attn_v", values, s->dim, kv, 0},
        {"attn_output", out, s->dim, s->dim, 0},
        {"ffn_norm", INFER_DTYPE_F32, s->dim, 0, 0},
    };
    const struct part dense[] = {
        {"ffn_gate", type, s->dim, s->ffn, 0},
        {"ffn_up", type, s->dim, s->ffn, 0},
        {"ffn_down", better, s->ffn, s->dim, 0},
    };
    const struct part sparse[] = {
        {"ffn_gate_inp", INFER_DTYPE_F32, s->dim, experts, 0},
        {"ffn_gate_exps", type, s->dim, s->ffn, experts},
        {"ffn_up_exps", type, s->dim, s->ffn, experts},
        {"ffn_down_exps", better, s->ffn, s->dim, experts},
    };
    add_parts(p, i, attention, BASE_COUNT(attention));
    add_parts(p, i, experts ? sparse : dense, experts ? BASE_COUNT(sparse) : BASE_COUNT(dense));
}

static void add_tensors(struct plan *p)
{
    const struct shape *s = &p->shape;
    infer_dtype type = p->scheme->type, better = p->scheme->better;
    p->tensors = must(calloc((size_t)s->layers * 10 + 3, sizeof *p->tensors));
    add_tensor(p, "token_embd.weight", s->tied ? better : type, s->dim, s->vocab, 0);
    for (int32_t i = 0; i < s->layers; i++)
        add_layer(p, i);
    add_tensor(p, "output_norm.weight", INFER_DTYPE_F32, s->dim, 0, 0);
    if (!s->tied)
        add_tensor(p, "output.weight", better, s->dim, s->vocab, 0);
}

/* --- writing --- */

static int write_norm(FILE *f, struct random_weights *r, const struct tensor *t, float *buffer)
{
    size_t n = (size_t)t->row;
    random_weights_fill(r, INFER_DTYPE_F32, buffer, n);
    for (size_t i = 0; i < n; i++)
        buffer[i] += 1.0f;
    return fwrite(buffer, sizeof *buffer, n, f) == n;
}

/* Matrices keep the size of what they multiply: std = 1 / sqrt(row). */
static int write_tensor(FILE *f, const struct tensor *t, uint64_t seed, void *buffer)
{
    const struct quant_layout *layout = quant_layout_of(t->type);
    struct random_weights r = {seed, t->norm ? 0.05f : 1.0f / sqrtf((float)t->row)};
    uint64_t blocks = t->row * t->rows / (uint64_t)layout->block_elements;
    uint64_t bytes = blocks * (uint64_t)layout->block_bytes;
    uint64_t per_chunk = CHUNK_BYTES / (uint64_t)layout->block_bytes;
    static const char zeros[ALIGNMENT];

    if (t->norm) {
        if (!write_norm(f, &r, t, buffer))
            return 0;
        blocks = 0;
    }
    while (blocks) {
        uint64_t n = BASE_MIN(blocks, per_chunk);
        size_t part = (size_t)(n * (uint64_t)layout->block_bytes);
        random_weights_fill(&r, t->type, buffer, (size_t)n * (size_t)layout->block_elements);
        if (fwrite(buffer, 1, part, f) != part)
            return 0;
        blocks -= n;
    }
    size_t padding = (size_t)(BASE_ALIGN_UP(bytes, ALIGNMENT) - bytes);
    return fwrite(zeros, 1, padding, f) == padding;
}

static int write_model(const struct plan *p, uint64_t *bytes)
{
    size_t size;
    uint8_t *header = gguf_builder_header(p->builder, &size);
    void *buffer = must(malloc(CHUNK_BYTES));
    FILE *f = fopen(p->out, "wb");
    int ok = f && setvbuf(f, NULL, _IONBF, 0) == 0 && fwrite(header, 1, size, f) == size;
    for (size_t i = 0; ok && i < p->n_tensors; i++)
        ok = write_tensor(f, &p->tensors[i], p->seed + (i << 32), buffer);
    int problem = errno;
    if (ok)
        *bytes = (uint64_t)ftello(f);
    if (f && fclose(f) != 0 && ok) {
        problem = errno;
        ok = 0;
    }
    if (!ok) {
        fprintf(stderr, "make_model: %s: %s\n", p->out, strerror(problem));
        if (f)
            remove(p->out);
    }
    free(buffer);
    free(header);
    return ok;
}

/* --- arguments --- */

static int usage(void)
{
    fprintf(stderr, "usage: make_model --shape NAME --type NAME --out FILE [--vocab N] "
                    "[--layers N] [--context N] [--seed N]\nshapes:");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        fprintf(stderr, " %s", shapes[i].name);
    fprintf(stderr, "\ntypes: ");
    for (size_t i = 0; i < BASE_COUNT(schemes); i++)
        fprintf(stderr, " %s", schemes[i].name);
    fprintf(stderr, "\n");
    return 1;
}

static int set_number(const char *value, int32_t min, int32_t max, int32_t *out)
{
    char *end;
    long n = strtol(value, &end, 10);
    if (*end || n < min || n > max)
        return 0;
    *out = (int32_t)n;
    return 1;
}

static int set_argument(struct plan *p, const char *name, const char *value)
{
    struct shape *s = &p->shape;
    if (strcmp(name, "--out") == 0) {
        p->out = value;
        return 1;
    }
    if (strcmp(name, "--type") == 0) {
        for (size_t i = 0; i < BASE_COUNT(schemes); i++)
            if (strcmp(value, schemes[i].name) == 0)
                p->scheme = &schemes[i];
        return p->scheme != NULL;
    }
    if (strcmp(name, "--seed") == 0) {
        p->seed = strtoull(value, NULL, 10);
        return 1;
    }
    if (strcmp(name, "--vocab") == 0)
        return set_number(value, N_FIXED, MAX_VOCAB, &s->vocab);
    if (strcmp(name, "--layers") == 0)
        return set_number(value, 1, 1000, &s->layers);
    if (strcmp(name, "--context") == 0)
        return set_number(value, 1, 1 << 24, &s->context);
    return strcmp(name, "--shape") == 0; /* read first: the others change it */
}

int main(int argc, char **argv)
{
    struct plan p = {.seed = 1};
    uint64_t bytes = 0, start = base_clock_ns();
    if (argc % 2 == 0)
        return usage();
    for (int i = 1; i + 1 < argc; i += 2)
        for (size_t k = 0; k < BASE_COUNT(shapes); k++)
            if (strcmp(argv[i], "--shape") == 0 && strcmp(argv[i + 1], shapes[k].name) == 0)
                p.shape = shapes[k];
    for (int i = 1; i + 1 < argc; i += 2)
        if (!set_argument(&p, argv[i], argv[i + 1]))
            return usage();
    if (!p.shape.name || !p.scheme || !p.out)
        return usage();

    p.builder = gguf_builder_new();
    add_keys(&p);
    add_tensors(&p);
    int ok = write_model(&p, &bytes);
    double seconds = (double)(base_clock_ns() - start) * 1e-9;
    if (ok)
        printf("%s: %.3f GB, %.3f billion parameters, %.1f s\n", p.out, (double)bytes * 1e-9,
               (double)p.parameters * 1e-9, seconds);
    gguf_builder_free(p.builder);
    free(p.tensors);
    return !ok;
}
