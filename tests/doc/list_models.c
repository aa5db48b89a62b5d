/* Writes the tables of doc/models.md from the tables of the library: architectures, element types,
 * pre-tokenizers. tests/doc/models.py compares, and writes them anew. */
#include "format/quant_layout.h"
#include "model/arch.h"
#include "model/hf.h"
#include "text/pretokenize_table.h"

#include <stdio.h>
#include <string.h>

static int has(const struct model_arch *a, enum model_role role)
{
    for (size_t i = 0; i < a->n_tensors; i++)
        if (a->tensors[i].role == role)
            return 1;
    return 0;
}

/* ", " between the parts. */
static void say(int *n, int condition, const char *text)
{
    if (!condition)
        return;
    printf("%s%s", *n ? ", " : "", text);
    ++*n;
}

static const char *feed_forward(const struct model_arch *a)
{
    static const char *const gated[] = {"SwiGLU", "GeGLU",       "GeGLU by tanh",
                                        "ReGLU",  "gated ReLU2", "clipped SwiGLU"};
    static const char *const plain[] = {"SiLU", "GELU", "GELU by tanh", "ReLU", "squared ReLU", ""};
    int has_gate = has(a, MODEL_FFN_GATE) || has(a, MODEL_FFN_GATE_UP) ||
                   has(a, MODEL_EXPERT_GATE) || has(a, MODEL_EXPERT_GATE_UP);
    return has_gate ? gated[a->act] : plain[a->act];
}

static void list_parts(const struct model_arch *a)
{
    static const char *const norms[] = {"RMS norm", "layer norm"};
    static const char *const ropes[] = {"rotary pairs", "rotary halves", "no rotation"};
    int n = 0;
    say(&n, (a->traits & MODEL_ENCODER) != 0, "encoder");
    say(&n, 1, norms[a->norm]);
    say(&n, has(a, MODEL_POS_EMBD), "learned positions");
    say(&n, (a->traits & MODEL_ALIBI) != 0, "ALiBi");
    say(&n, !has(a, MODEL_POS_EMBD) && !(a->traits & MODEL_ALIBI), ropes[a->rope]);
    say(&n, 1, feed_forward(a));
    say(&n, has(a, MODEL_ROUTER), "experts");
    say(&n, has(a, MODEL_SHARED_UP), "shared experts");
    say(&n, has(a, MODEL_ATTN_KV_A), "latent attention");
    say(&n, a->recurrent != NULL, "recurrent layers");
    say(&n, has(a, MODEL_ATTN_Q_NORM), "norms of queries and keys");
    say(&n, a->defaults.qk_unit, "unit queries and keys");
    say(&n, has(a, MODEL_ATTN_SINKS), "sinks");
    say(&n, (a->traits & MODEL_QUERY_GATE) != 0, "gated attention");
    say(&n, has(a, MODEL_ATTN_POST_NORM) || has(a, MODEL_LAYER_OUT_NORM), "norms after the parts");
    say(&n, (a->traits & MODEL_PARALLEL) || a->defaults.parallel,
        "attention beside the feed-forward");
    say(&n, a->defaults.window_period > 1 && !(a->traits & MODEL_WINDOW_CHUNKS),
        "windows in some layers");
    say(&n, (a->traits & MODEL_WINDOW_CHUNKS) != 0, "chunked windows");
    say(&n, (a->traits & MODEL_NOPE_FULL) != 0 || a->defaults.nope_period,
        "layers without positions");
    say(&n, has(a, MODEL_ROPE_LONG), "LongRoPE");
    say(&n, a->defaults.attn_softcap > 0 || a->defaults.logit_softcap > 0, "soft caps");
}

static void list_architectures(void)
{
    puts("<!-- generated: architectures -->");
    puts(
        "| `general.architecture` | models | classes of Hugging Face | parts |\n|---|---|---|---|");
    for (size_t i = 0; model_arch_at(i); i++) {
        const struct model_arch *a = model_arch_at(i);
        printf("| `%s` | %s | ", a->name, a->title);
        const char *const *name = a->hf ? a->hf->classes : NULL;
        for (size_t j = 0; name && name[j]; j++)
            printf("%s`%s`", j ? ", " : "", name[j]);
        printf(" | ");
        list_parts(a);
        puts(" |");
    }
    puts("<!-- end -->");
}

/* Words in lines of a paragraph. */
struct lines {
    size_t column;
    int n;
};

static void put_word(struct lines *l, const char *word, size_t size)
{
    if (l->n)
        putchar(',');
    if (l->n && l->column + size + 6 > 88) {
        putchar('\n');
        l->column = 0;
    } else if (l->n) {
        putchar(' ');
    }
    printf("`%.*s`", (int)size, word);
    l->column += size + 4;
    l->n++;
}

static void list_types(void)
{
    struct lines l = {0};
    puts("<!-- generated: element types -->");
    for (infer_dtype type = 0; type < 256; type++) {
        const struct quant_layout *layout = quant_layout_of(type);
        /* integers and doubles hold no weights */
        if (layout && type != INFER_DTYPE_F64 &&
            !(type >= INFER_DTYPE_I8 && type <= INFER_DTYPE_I64))
            put_word(&l, layout->name, strlen(layout->name));
    }
    puts(".\n<!-- end -->");
}

static void list_pretokenizers(void)
{
    struct lines l = {0};
    puts("<!-- generated: pre-tokenizers -->");
    for (size_t i = 0; i < BASE_COUNT(pretokenizers); i++)
        for (const char *name = pretokenizers[i].names; *name;) {
            size_t size = strcspn(name, " ");
            put_word(&l, name, size);
            name += size + strspn(name + size, " ");
        }
    puts(".\n<!-- end -->");
}

int main(void)
{
    list_architectures();
    list_types();
    list_pretokenizers();
    return 0;
}
