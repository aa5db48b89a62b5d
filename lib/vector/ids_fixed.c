/* Ids that do not change: sorted once, then found by halving. Made in memory, written to a file and
 * mapped from it; nothing that leads from there to memory is used unchecked. */
#include "vector/ids_fixed.h"

#include "base/error.h"

#include <string.h>

#define BITMAP_SHARE 32 /* a namespace of this share of the rows gets a bitmap of its own */

struct head {
    uint32_t n_rows, n_spaces, n_bitmaps, reserved;
};

/* -------------------------------------------------------------------- search */

struct base_view ids_fixed_space_name(const struct vector_ids *ids, int32_t space)
{
    const struct ids_space *s = &ids->table[space];
    return (struct base_view){(const char *)ids->space_text + s->name_at, s->name_size};
}

int32_t ids_fixed_space(const struct vector_ids *ids, struct base_view name)
{
    int32_t low = 0, high = ids->n_spaces;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        const int order = vector_names_compare(ids_fixed_space_name(ids, middle), name);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

int32_t ids_fixed_behind(const struct vector_ids *ids, int32_t space, struct base_view id)
{
    const struct ids_space *s = &ids->table[space];
    int32_t low = s->first, high = s->first + s->count;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        struct base_view at;
        if (vector_ids_get(ids, ids->order[middle], &at) == INFER_OK &&
            vector_names_compare(at, id) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* ------------------------------------------------------------------- sorting */

struct ids_key ids_key_of(struct base_view id, uint32_t space, int32_t row)
{
    struct ids_key key = {.space = space, .row = row};
    for (size_t i = 0; i < 8; i++)
        key.prefix = key.prefix << 8 | (i < id.size ? (uint8_t)id.data[i] : 0);
    return key;
}

static int comes_after(const struct vector_ids *ids, const struct ids_key *a,
                       const struct ids_key *b)
{
    if (a->space != b->space)
        return a->space > b->space;
    if (a->prefix != b->prefix)
        return a->prefix > b->prefix;
    struct base_view x, y;
    if (vector_ids_get(ids, a->row, &x) == INFER_OK &&
        vector_ids_get(ids, b->row, &y) == INFER_OK) {
        const int order = vector_names_compare(x, y);
        if (order)
            return order > 0;
    }
    return a->row > b->row;
}

static void sink(const struct vector_ids *ids, struct ids_key *keys, int32_t at, int32_t n)
{
    const struct ids_key key = keys[at];
    for (int64_t child; (child = 2 * (int64_t)at + 1) < n; at = (int32_t)child) {
        if (child + 1 < n && comes_after(ids, &keys[child + 1], &keys[child]))
            child++;
        if (!comes_after(ids, &keys[child], &key))
            break;
        keys[at] = keys[child];
    }
    keys[at] = key;
}

void ids_sort(const struct vector_ids *ids, struct ids_key *keys, int32_t n)
{
    for (int32_t i = n / 2; i-- > 0;)
        sink(ids, keys, i, n);
    for (int32_t end = n - 1; end > 0; end--) {
        const struct ids_key last = keys[end];
        keys[end] = keys[0];
        keys[0] = last;
        sink(ids, keys, 0, end);
    }
}

/* ------------------------------------------------------------------- merging */

enum { TEXT, AT, BASE, ORDER, TABLE, SPACE_TEXT, ROW_SPACE, BITMAPS };

struct merge {
    struct vector_ids *ids;
    struct vector_names *spaces; /* of all sources */
    int32_t *number;             /* of a namespace there, by its name's order */
    uint32_t *row_space;
};

static int is_dead(const struct vector_ids_source *s, int32_t row)
{
    return s->dead && s->dead[row / 64] >> row % 64 & 1;
}

static void *own(struct vector_ids *ids, int which, size_t n, size_t size)
{
    ids->owned[which] = base_new(&ids->alloc, n ? n : 1, size);
    ids->owned_bytes += n * size;
    return ids->owned[which];
}

static infer_status measure(struct merge *m, const struct vector_ids_source *sources, int32_t n)
{
    struct vector_ids *ids = m->ids;
    int64_t rows = 0;
    for (int32_t s = 0; s < n; s++)
        for (int32_t row = 0; row < sources[s].n_rows; row++) {
            struct base_view id;
            if (is_dead(&sources[s], row))
                continue;
            infer_status st = vector_ids_get(sources[s].ids, row, &id);
            if (st != INFER_OK)
                return st;
            ids->text_size += id.size;
            rows++;
        }
    if (rows > INT32_MAX - 64)
        return base_error(INFER_ERR_LIMIT, "%lld rows are more than a part of an index holds",
                          (long long)rows);
    ids->n_rows = (int32_t)rows;
    return INFER_OK;
}

/* A namespace gets its number with its first row: those of which no row is left are gone. */
static infer_status number_space(struct merge *m, struct base_view name, int32_t *number)
{
    *number = vector_names_find(m->spaces, 0, name, INT32_MAX);
    if (*number >= 0)
        return INFER_OK;
    infer_status st = vector_names_reserve(m->spaces, 1, name.size);
    if (st != INFER_OK)
        return st;
    *number = vector_names_add(m->spaces, 0, name);
    m->ids->n_spaces++;
    m->ids->space_text_size += name.size;
    return INFER_OK;
}

/* Ids one behind the other, and each row's namespace by the number in m->spaces. */
static infer_status gather(struct merge *m, const struct vector_ids_source *sources, int32_t n)
{
    struct vector_ids *ids = m->ids;
    uint8_t *text = own(ids, TEXT, ids->text_size, 1);
    uint32_t *at = own(ids, AT, (size_t)ids->n_rows, sizeof *at);
    uint64_t *base = own(ids, BASE, BASE_DIV_UP((size_t)ids->n_rows, IDS_BASE_ROWS), sizeof *base);
    m->row_space = own(ids, ROW_SPACE, (size_t)ids->n_rows, sizeof *m->row_space);
    if (!text || !at || !base || !m->row_space)
        return INFER_ERR_NO_MEMORY;
    uint64_t end = 0;
    int32_t to = 0;
    for (int32_t s = 0; s < n; s++) {
        const struct vector_ids *from = sources[s].ids;
        const int32_t n_spaces = vector_ids_spaces(from);
        int32_t *of = base_new_raw(&ids->alloc, (size_t)n_spaces + 1, sizeof *of);
        infer_status st = of ? INFER_OK : INFER_ERR_NO_MEMORY;
        for (int32_t i = 0; of && i < n_spaces; i++)
            of[i] = -1;
        for (int32_t row = 0; st == INFER_OK && row < sources[s].n_rows; row++) {
            struct base_view id;
            if (is_dead(&sources[s], row) || (st = vector_ids_get(from, row, &id)) != INFER_OK)
                continue;
            const int32_t space = vector_ids_space_of(from, row);
            if (of[space] < 0) {
                st = number_space(m, vector_ids_space_name(from, space), &of[space]);
                if (st != INFER_OK)
                    break;
            }
            if (to % IDS_BASE_ROWS == 0)
                base[to / IDS_BASE_ROWS] = end;
            at[to] = (uint32_t)(end - base[to / IDS_BASE_ROWS]);
            m->row_space[to++] = (uint32_t)of[space];
            memcpy(text + end, id.data, id.size);
            end += id.size;
        }
        base_free(&ids->alloc, of);
        if (st != INFER_OK)
            return st;
    }
    ids->text = text;
    ids->at = at;
    ids->base = base;
    return INFER_OK;
}

static int32_t space_comes_after(const struct vector_names *names, int32_t a, int32_t b)
{
    return vector_names_compare(vector_names_get(names, a), vector_names_get(names, b)) > 0;
}

/* Numbers of namespaces in the order of their names, by heap sort. */
static void sort_spaces(const struct vector_names *names, int32_t *of, int32_t n)
{
    for (int32_t i = n / 2, end = n; end > 1;) {
        int32_t moved, hole;
        if (i > 0) {
            moved = of[hole = --i];
        } else {
            moved = of[--end];
            of[end] = of[0];
            hole = 0;
        }
        for (int64_t child; (child = 2 * (int64_t)hole + 1) < end; hole = (int32_t)child) {
            if (child + 1 < end && space_comes_after(names, of[child + 1], of[child]))
                child++;
            if (!space_comes_after(names, of[child], moved))
                break;
            of[hole] = of[child];
        }
        of[hole] = moved;
    }
}

/* The table of namespaces in the order of their names, and rows by those numbers. */
static infer_status tabulate(struct merge *m)
{
    struct vector_ids *ids = m->ids;
    const size_t n = (size_t)ids->n_spaces;
    struct ids_space *table = own(ids, TABLE, n, sizeof *table);
    char *text = own(ids, SPACE_TEXT, ids->space_text_size + 1, 1);
    int32_t *by_name = base_new_raw(&ids->alloc, 2 * n + 1, sizeof *by_name);
    ids->alive = base_new(&ids->alloc, n + 1, sizeof *ids->alive);
    if (!table || !text || !by_name || !ids->alive) {
        base_free(&ids->alloc, by_name);
        return INFER_ERR_NO_MEMORY;
    }
    int32_t *number = by_name + n;
    for (size_t i = 0; i < n; i++)
        by_name[i] = (int32_t)i;
    sort_spaces(m->spaces, by_name, (int32_t)n);
    size_t end = 0;
    for (size_t i = 0; i < n; i++) {
        const struct base_view name = vector_names_get(m->spaces, by_name[i]);
        number[by_name[i]] = (int32_t)i;
        table[i] = (struct ids_space){.name_at = end, .name_size = (uint32_t)name.size, .bits = -1};
        memcpy(text + end, name.data, name.size);
        end += name.size;
    }
    ids->space_text_size++; /* never empty */
    for (int32_t row = 0; row < ids->n_rows; row++) {
        m->row_space[row] = (uint32_t)number[m->row_space[row]];
        table[m->row_space[row]].count++;
    }
    for (size_t i = 0; i < n; i++) {
        table[i].first = i ? table[i - 1].first + table[i - 1].count : 0;
        atomic_init(&ids->alive[i], table[i].count);
        if (n > 1 && table[i].count > ids->n_rows / BITMAP_SHARE)
            table[i].bits = ids->n_bitmaps++;
    }
    base_free(&ids->alloc, by_name);
    ids->table = table;
    ids->space_text = (const uint8_t *)text;
    return INFER_OK;
}

static infer_status arrange(struct merge *m)
{
    struct vector_ids *ids = m->ids;
    const size_t words = ((size_t)ids->n_rows + 63) / 64;
    int32_t *order = own(ids, ORDER, (size_t)ids->n_rows, sizeof *order);
    uint64_t *bitmaps = own(ids, BITMAPS, (size_t)ids->n_bitmaps * words, sizeof *bitmaps);
    const size_t keys_bytes = ((size_t)ids->n_rows + 1) * sizeof(struct ids_key);
    struct ids_key *keys = base_new_pages(&ids->alloc, keys_bytes);
    if (!order || !bitmaps || !keys) {
        base_free_pages(&ids->alloc, keys, keys_bytes);
        return INFER_ERR_NO_MEMORY;
    }
    for (int32_t row = 0; row < ids->n_rows; row++) {
        struct base_view id = {"", 0};
        (void)vector_ids_get(ids, row, &id);
        keys[row] = ids_key_of(id, m->row_space[row], row);
        const int32_t bits = ids->table[m->row_space[row]].bits;
        if (bits >= 0)
            bitmaps[(size_t)bits * words + (size_t)row / 64] |= UINT64_C(1) << row % 64;
    }
    ids_sort(ids, keys, ids->n_rows);
    for (int32_t i = 0; i < ids->n_rows; i++)
        order[i] = keys[i].row;
    base_free_pages(&ids->alloc, keys, keys_bytes);
    ids->order = order;
    ids->bitmaps = bitmaps;
    ids->row_space = m->row_space;
    if (ids->n_spaces <= 1) {
        base_free(&ids->alloc, m->row_space);
        ids->owned[ROW_SPACE] = NULL;
        ids->row_space = NULL;
    }
    return INFER_OK;
}

infer_status vector_ids_merge(struct vector_ids **out, const struct base_alloc *a,
                              const struct vector_ids_source *sources, int32_t n)
{
    struct merge m = {.ids = base_new(a, 1, sizeof *m.ids)};
    if (!m.ids)
        return INFER_ERR_NO_MEMORY;
    m.ids->alloc = *a;
    m.ids->path = "";
    m.ids->fixed = 1;
    infer_status st = vector_names_create(&m.spaces, a);
    if (st == INFER_OK)
        st = measure(&m, sources, n);
    if (st == INFER_OK)
        st = gather(&m, sources, n);
    if (st == INFER_OK)
        st = tabulate(&m);
    if (st == INFER_OK)
        st = arrange(&m);
    vector_names_destroy(&m.spaces);
    if (st != INFER_OK)
        vector_ids_destroy(&m.ids);
    else
        *out = m.ids;
    return st;
}

/* --------------------------------------------------------------------- files */

infer_status vector_ids_write(const struct vector_ids *ids, struct vector_file_writer *writer)
{
    const size_t n = (size_t)ids->n_rows;
    const size_t words = (n + 63) / 64;
    const struct head head = {(uint32_t)ids->n_rows, (uint32_t)ids->n_spaces,
                              (uint32_t)ids->n_bitmaps, 0};
    const struct {
        const char *name;
        const void *data;
        size_t size;
    } sections[] = {
        {"ids.head", &head, sizeof head},
        {"ids.text", ids->text, ids->text_size},
        {"ids.at", ids->at, n * sizeof *ids->at},
        {"ids.base", ids->base, BASE_DIV_UP(n, IDS_BASE_ROWS) * sizeof *ids->base},
        {"ids.order", ids->order, n * sizeof *ids->order},
        {"ids.spaces", ids->table, (size_t)ids->n_spaces * sizeof *ids->table},
        {"ids.space_names", ids->space_text, ids->space_text_size},
        {"ids.row_space", ids->row_space, ids->row_space ? n * sizeof *ids->row_space : 0},
        {"ids.bitmaps", ids->bitmaps, (size_t)ids->n_bitmaps * words * sizeof *ids->bitmaps},
    };
    infer_status st = INFER_OK;
    for (size_t i = 0; i < BASE_COUNT(sections) && st == INFER_OK; i++)
        if (sections[i].size)
            st = vector_file_section(writer, sections[i].name, sections[i].data, sections[i].size);
    return st;
}

static infer_status damaged(const struct vector_ids *ids, const char *what)
{
    return base_error(INFER_ERR_FORMAT, "%s is damaged: %s", ids->path, what);
}

/* The few things that are used without a look at each use. */
static infer_status check_spaces(const struct vector_ids *ids)
{
    for (int32_t i = 0; i < ids->n_spaces; i++) {
        const struct ids_space *s = &ids->table[i];
        if (s->name_size > VECTOR_NAME_MAX || s->name_at > ids->space_text_size ||
            ids->space_text_size - s->name_at < s->name_size)
            return damaged(ids, "the name of a namespace lies outside");
        if (s->count < 0 || s->first < 0 || s->count > ids->n_rows - s->first || s->bits < -1 ||
            s->bits >= ids->n_bitmaps)
            return damaged(ids, "the rows of a namespace lie outside");
    }
    return INFER_OK;
}

static infer_status map_arrays(struct vector_ids *ids, const struct vector_file *file)
{
    const size_t n = (size_t)ids->n_rows;
    const struct {
        const char *name;
        const void **data;
        size_t count, bytes;
    } arrays[] = {
        {"ids.at", (const void **)&ids->at, n, sizeof *ids->at},
        {"ids.base", (const void **)&ids->base, BASE_DIV_UP(n, IDS_BASE_ROWS), sizeof *ids->base},
        {"ids.order", (const void **)&ids->order, n, sizeof *ids->order},
        {"ids.spaces", (const void **)&ids->table, (size_t)ids->n_spaces, sizeof *ids->table},
        {"ids.row_space", (const void **)&ids->row_space, ids->n_spaces > 1 ? n : 0,
         sizeof *ids->row_space},
        {"ids.bitmaps", (const void **)&ids->bitmaps, (size_t)ids->n_bitmaps * ((n + 63) / 64),
         sizeof *ids->bitmaps},
    };
    infer_status st = vector_file_find(file, "ids.text", &ids->text, &ids->text_size);
    if (st == INFER_OK)
        st = vector_file_find(file, "ids.space_names", &ids->space_text, &ids->space_text_size);
    for (size_t i = 0; i < BASE_COUNT(arrays) && st == INFER_OK; i++)
        if (arrays[i].count)
            st = vector_file_array(file, arrays[i].name, arrays[i].data, arrays[i].count,
                                   arrays[i].bytes);
    return st == INFER_ERR_NOT_FOUND ? damaged(ids, "it has no ids") : st;
}

infer_status vector_ids_open(struct vector_ids **out, const struct base_alloc *a,
                             const struct vector_file *file)
{
    const void *data;
    struct vector_ids *ids = base_new(a, 1, sizeof *ids);
    if (!ids)
        return INFER_ERR_NO_MEMORY;
    ids->alloc = *a;
    ids->path = vector_file_path(file);
    ids->fixed = 1;
    infer_status st = vector_file_array(file, "ids.head", &data, 1, sizeof(struct head));
    if (st == INFER_ERR_NOT_FOUND)
        st = damaged(ids, "it has no ids");
    if (st == INFER_OK) {
        struct head head;
        memcpy(&head, data, sizeof head);
        if (!head.n_rows || head.n_rows > INT32_MAX - 64 || !head.n_spaces ||
            head.n_spaces > head.n_rows || head.n_bitmaps > BITMAP_SHARE)
            st = damaged(ids, "the count of its rows or namespaces is none");
        ids->n_rows = (int32_t)head.n_rows;
        ids->n_spaces = (int32_t)head.n_spaces;
        ids->n_bitmaps = (int32_t)head.n_bitmaps;
    }
    if (st == INFER_OK)
        st = map_arrays(ids, file);
    if (st == INFER_OK)
        st = check_spaces(ids);
    if (st == INFER_OK) {
        ids->alive = base_new(a, (size_t)ids->n_spaces, sizeof *ids->alive);
        st = ids->alive ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    for (int32_t i = 0; st == INFER_OK && i < ids->n_spaces; i++)
        atomic_init(&ids->alive[i], ids->table[i].count);
    if (st != INFER_OK)
        vector_ids_destroy(&ids);
    else
        *out = ids;
    return st;
}

infer_status vector_ids_verify(const struct vector_ids *ids)
{
    for (int32_t s = 0; s < ids->n_spaces; s++) {
        struct base_view before = {"", 0};
        for (int32_t i = 0; i < ids->table[s].count; i++) {
            const int32_t row = ids->order[ids->table[s].first + i];
            struct base_view id;
            infer_status st = vector_ids_get(ids, row, &id);
            if (st != INFER_OK)
                return st;
            if (vector_ids_space_of(ids, row) != s || vector_names_compare(before, id) > 0)
                return damaged(ids, "its ids are out of order");
            before = id;
        }
    }
    return INFER_OK;
}
