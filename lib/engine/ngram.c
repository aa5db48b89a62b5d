/* Drafts from what was said before. */
#include "engine/ngram.h"

#include "base/error.h"

#define WINDOW_MAX 32768
/* Earlier places that are compared: bounds the time where a text repeats itself endlessly. */
#define CANDIDATES_MAX 16

infer_status ngram_init(struct ngram_index *x, const struct base_alloc *a, int32_t min, int32_t max,
                        int32_t n_tokens)
{
    *x = (struct ngram_index){.min = min, .max = max, .window = 64};
    while (x->window < n_tokens && x->window < WINDOW_MAX)
        x->window *= 2;
    x->head = base_new(a, (size_t)x->window, sizeof *x->head);
    x->prev = base_new(a, (size_t)x->window, sizeof *x->prev);
    if (x->head && x->prev)
        return INFER_OK;
    ngram_release(x, a);
    return INFER_ERR_NO_MEMORY;
}

void ngram_release(struct ngram_index *x, const struct base_alloc *a)
{
    base_free(a, x->head);
    base_free(a, x->prev);
    *x = (struct ngram_index){0};
}

/* Of the `min` tokens that end at a position. */
static int32_t *bucket(const struct ngram_index *x, const void *sequence, ngram_token_fn *get,
                       int32_t position)
{
    uint64_t h = 0;
    for (int32_t i = 0; i < x->min; i++)
        h = (h ^ (uint32_t)get(sequence, position - i)) * 0x9e3779b97f4a7c15u;
    return &x->head[(h >> 40) & (uint64_t)(x->window - 1)];
}

/* Takes in the positions before n_tokens. */
static void extend(struct ngram_index *x, const void *sequence, ngram_token_fn *get,
                   int32_t n_tokens)
{
    for (int32_t p = BASE_MAX(x->n_indexed, x->min - 1); p < n_tokens; p++) {
        int32_t *head = bucket(x, sequence, get, p);
        x->prev[p & (x->window - 1)] = *head;
        *head = p + 1;
    }
    x->n_indexed = BASE_MAX(x->n_indexed, n_tokens);
}

/* How many tokens before and at both positions are the same, up to `max`. */
static int32_t match(const struct ngram_index *x, const void *sequence, ngram_token_fn *get,
                     int32_t earlier, int32_t last)
{
    int32_t n = 0;
    while (n < x->max && n <= earlier && get(sequence, earlier - n) == get(sequence, last - n))
        n++;
    return n;
}

int32_t ngram_draft(struct ngram_index *x, const void *sequence, ngram_token_fn *get,
                    int32_t n_tokens, infer_token *out, int32_t n)
{
    int32_t last = n_tokens - 1, best = -1, longest = x->min - 1;
    if (n_tokens <= x->min)
        return 0;
    extend(x, sequence, get, last); /* the last run itself is no earlier one */
    int32_t at = *bucket(x, sequence, get, last) - 1;
    for (int32_t i = 0; i < CANDIDATES_MAX && at >= 0 && at + x->window >= x->n_indexed; i++) {
        int32_t length = match(x, sequence, get, at, last);
        if (length > longest) {
            longest = length;
            best = at;
        }
        if (longest == x->max)
            break;
        at = x->prev[at & (x->window - 1)] - 1;
    }
    /* A repetition shorter than the draft goes on with the draft itself. */
    for (int32_t i = 0; best >= 0 && i < n; i++) {
        int32_t from = best + 1 + i;
        out[i] = from < n_tokens ? get(sequence, from) : out[from - n_tokens];
    }
    return best >= 0 ? n : 0;
}
