/* Stable sorting by keys. */
#include "text/jinja_internal.h"

struct pair {
    struct jinja_value key, item;
};

/* Merges the runs [from, mid) and [mid, to) of `in` into `out`. */
static void merge(struct jinja_render *r, const struct pair *in, struct pair *out, size_t from,
                  size_t mid, size_t to, int reverse)
{
    size_t a = from, b = mid;
    for (size_t i = from; i < to; i++) {
        int take_b = a == mid;
        if (a < mid && b < to && !jinja_failed(r)) {
            /* Equal keys keep their order, also when the order is reversed. */
            take_b = reverse ? jinja_order(r, in[a].key, in[b].key, "<") == -1
                             : jinja_order(r, in[b].key, in[a].key, "<") == -1;
        }
        out[i] = take_b ? in[b++] : in[a++];
    }
}

void jinja_sort(struct jinja_render *r, struct jinja_value *keys, struct jinja_value *items,
                size_t n, int reverse)
{
    struct pair *from = jinja_new(r, n, sizeof *from), *to = jinja_new(r, n, sizeof *to);
    if (!from || !to)
        return;
    for (size_t i = 0; i < n; i++)
        from[i] = (struct pair){keys[i], items[i]};
    for (size_t run = 1; run < n && !jinja_failed(r); run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run)
            merge(r, from, to, i, BASE_MIN(i + run, n), BASE_MIN(i + 2 * run, n), reverse);
        struct pair *swap = from;
        from = to;
        to = swap;
    }
    for (size_t i = 0; i < n; i++) {
        keys[i] = from[i].key;
        items[i] = from[i].item;
    }
}
