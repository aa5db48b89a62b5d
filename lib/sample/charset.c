/* Sets of characters: joining, inverting, membership. */
#include "sample/charset.h"

#define SURROGATE_FIRST 0xD800u
#define SURROGATE_LAST  0xDFFFu

infer_status charset_add(struct charset *s, const struct base_alloc *a, uint32_t lo, uint32_t hi)
{
    return base_array_push(a, s, ((struct charset_range){lo, hi}));
}

infer_status charset_add_all(struct charset *s, const struct base_alloc *a,
                             const struct charset *other)
{
    infer_status st = base_array_reserve(a, s, other->size);
    for (size_t i = 0; st == INFER_OK && i < other->size; i++)
        s->data[s->size++] = other->data[i];
    return st;
}

/* Sinks data[i] in a heap of n by its lower end. */
static void sift(struct charset_range *data, size_t i, size_t n)
{
    struct charset_range item = data[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && data[child + 1].lo > data[child].lo)
            child++;
        if (data[child].lo <= item.lo)
            break;
        data[i] = data[child];
    }
    data[i] = item;
}

static void sort(struct charset_range *data, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(data, i, n);
    for (size_t left = n; left-- > 1;) {
        struct charset_range top = data[0];
        data[0] = data[left];
        data[left] = top;
        sift(data, 0, left);
    }
}

void charset_finish(struct charset *s)
{
    sort(s->data, s->size);
    size_t n = 0;
    for (size_t i = 0; i < s->size; i++) {
        struct charset_range r = s->data[i];
        r.hi = BASE_MIN(r.hi, CHARSET_LAST);
        /* Ranges may not begin or end inside the surrogates; those around them stay whole,
         * which the writers of UTF-8 know. */
        if (r.lo >= SURROGATE_FIRST && r.lo <= SURROGATE_LAST)
            r.lo = SURROGATE_LAST + 1;
        if (r.hi >= SURROGATE_FIRST && r.hi <= SURROGATE_LAST)
            r.hi = SURROGATE_FIRST - 1;
        if (r.lo > r.hi)
            continue;
        if (n && (r.lo <= s->data[n - 1].hi + 1 ||
                  (r.lo == SURROGATE_LAST + 1 && s->data[n - 1].hi == SURROGATE_FIRST - 1)))
            s->data[n - 1].hi = BASE_MAX(s->data[n - 1].hi, r.hi);
        else
            s->data[n++] = r;
    }
    s->size = n;
}

infer_status charset_invert(struct charset *s, const struct base_alloc *a)
{
    struct charset out = {0};
    uint32_t next = 0;
    infer_status st = base_array_reserve(a, &out, s->size + 1);
    if (st != INFER_OK)
        return st;
    for (size_t i = 0; i < s->size; i++) {
        if (s->data[i].lo > next)
            out.data[out.size++] = (struct charset_range){next, s->data[i].lo - 1};
        next = s->data[i].hi + 1;
    }
    if (next <= CHARSET_LAST)
        out.data[out.size++] = (struct charset_range){next, CHARSET_LAST};
    charset_finish(&out);
    base_array_release(a, s);
    *s = out;
    return INFER_OK;
}

int charset_has(const struct charset *s, uint32_t cp)
{
    for (size_t i = 0; i < s->size; i++)
        if (cp >= s->data[i].lo && cp <= s->data[i].hi)
            return 1;
    return 0;
}

void charset_release(struct charset *s, const struct base_alloc *a)
{
    base_free(a, s->data);
    *s = (struct charset){0};
}
