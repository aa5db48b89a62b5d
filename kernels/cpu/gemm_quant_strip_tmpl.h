/* Template: which weight rows a product of quantised weights takes together; needs LANES. */
#include "kernels/kernels.h"

/* Weight rows computed together: lane skip + i of the groups is output
 * column + i for i < count. */
struct strip {
    const uint8_t *w;
    size_t stride;
    int32_t column, count, skip;
    int groups, packed;
    int fetch_next; /* the strip behind this one comes next */
};

/* Of packed rows: lanes are whole groups. */
static struct strip next_packed(const struct kern_gemm_args *a, int32_t begin, int32_t end,
                                int max_groups)
{
    const int32_t first = begin - begin % LANES, whole = a->n - a->n % LANES;
    struct strip s = {.stride = a->w_stride, .column = begin, .groups = 1, .packed = 1};

    s.skip = begin - first;
    if (s.skip == 0) {
        s.groups = BASE_MAX(BASE_MIN(max_groups, (BASE_MIN(end, whole) - begin) / LANES), 1);
    }
    s.count = BASE_MIN(end, first + s.groups * LANES) - begin;
    s.fetch_next = end - begin > s.count;
    s.w = (const uint8_t *)a->w + (size_t)first * a->w_stride;
    return s;
}

/* The next strip of columns begin .. end - 1. Too few for all lanes: take
 * earlier rows along, or if there are not 16 at all, one row in every lane. */
static struct strip next_strip(const struct kern_gemm_args *a, int32_t begin, int32_t end,
                               int max_groups)
{
    struct strip s = {.stride = a->w_stride, .column = begin, .groups = 1};
    const int32_t left = end - begin;
    int32_t first = begin;

    if (a->packed && begin < a->n - a->n % LANES) {
        return next_packed(a, begin, end, max_groups);
    }
    if (left >= LANES) {
        s.groups = BASE_MIN(max_groups, left / LANES);
        s.count = s.groups * LANES;
    } else if (a->n >= LANES && !a->packed) {
        first = BASE_MIN(begin, a->n - LANES);
        s.count = left;
    } else {
        s.count = 1;
        s.stride = 0;
    }
    s.skip = begin - first;
    s.fetch_next = left > s.count;
    s.w = (const uint8_t *)a->w + (size_t)first * a->w_stride;
    return s;
}
