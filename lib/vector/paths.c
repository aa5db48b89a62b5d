/* Paths as a tree of names, and a pass over a JSON text that follows it. */
#include "vector/paths.h"

#include "base/bytes.h"
#include "base/error.h"

#include <string.h>

struct node {
    struct base_view name;
    int32_t first, n;   /* children, in the order of their names' bytes */
    int32_t path;       /* that ends here; -1: none */
    int32_t literal;    /* the name is a whole path with dots */
    int32_t final;      /* nothing that comes later counts more than what is found here */
    int32_t begin, end; /* while it is built: paths below, of `sorted` */
    size_t skip;        /* and the bytes of them that lead here */
};

struct vector_paths {
    struct base_alloc alloc;
    int32_t n, n_nodes;
    struct node nodes[];
};

/* ------------------------------------------------------------------ the tree */

/* By names: a dot is below every byte of a name, the end below the dot. */
static int compare_paths(struct base_view a, struct base_view b)
{
    for (size_t i = 0;; i++) {
        int x = i == a.size ? -1 : a.data[i] == '.' ? 0 : (uint8_t)a.data[i] + 1;
        int y = i == b.size ? -1 : b.data[i] == '.' ? 0 : (uint8_t)b.data[i] + 1;
        if (x != y)
            return x - y;
        if (x == -1)
            return 0;
    }
}

static void sort_paths(int32_t *sorted, const struct base_view *paths, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t j = i;
        for (; j && compare_paths(paths[i], paths[sorted[j - 1]]) < 0; j--)
            sorted[j] = sorted[j - 1];
        sorted[j] = i;
    }
}

static struct base_view next_name(struct base_view path, size_t skip)
{
    const char *begin = path.data + skip;
    const char *dot = memchr(begin, '.', path.size - skip);
    return (struct base_view){begin, dot ? (size_t)(dot - begin) : path.size - skip};
}

static int same(struct base_view a, struct base_view b)
{
    return a.size == b.size && (!a.size || memcmp(a.data, b.data, a.size) == 0);
}

static void add_child(struct vector_paths *p, struct node *parent, struct node child)
{
    int32_t at = p->n_nodes++;
    for (; at > parent->first && vector_text_compare(child.name, 0, p->nodes[at - 1].name) < 0;
         at--)
        p->nodes[at] = p->nodes[at - 1];
    p->nodes[at] = child;
    parent->n++;
}

/* Children of a node whose paths are known. Those of one name are neighbours in `sorted`. */
static void expand(struct vector_paths *p, struct node *node, const struct base_view *paths,
                   const int32_t *sorted)
{
    node->first = p->n_nodes;
    for (int32_t i = node->begin; i < node->end;) {
        struct base_view path = paths[sorted[i]];
        if (node->skip > path.size) { /* it ends here */
            node->path = sorted[i++];
            continue;
        }
        struct node child = {.name = next_name(path, node->skip), .path = -1, .begin = i};
        child.skip = node->skip + child.name.size + 1;
        while (i < node->end && node->skip <= paths[sorted[i]].size &&
               same(child.name, next_name(paths[sorted[i]], node->skip)))
            i++;
        child.end = i;
        add_child(p, node, child);
    }
}

infer_status vector_paths_create(struct vector_paths **out, const struct base_alloc *a,
                                 const struct base_view *paths, int32_t n)
{
    int32_t sorted[VECTOR_PATHS_MAX] = {0};
    size_t n_nodes = 1;
    if (n > VECTOR_PATHS_MAX)
        return base_error(INFER_ERR_LIMIT, "%d different fields; at most %d are looked up", n,
                          VECTOR_PATHS_MAX);
    for (int32_t i = 0; i < n; i++) {
        size_t names = 1;
        for (size_t j = 0; j < paths[i].size; j++)
            names += paths[i].data[j] == '.';
        if (names > VECTOR_NAMES_MAX)
            return base_error(INFER_ERR_LIMIT, "the field \"%.*s\" has %zu names; at most %d",
                              (int)BASE_MIN(paths[i].size, (size_t)64), paths[i].data, names,
                              VECTOR_NAMES_MAX);
        n_nodes += names + (names > 1);
    }
    struct vector_paths *p = base_new(a, 1, sizeof *p + n_nodes * sizeof *p->nodes);
    if (!p)
        return INFER_ERR_NO_MEMORY;
    p->alloc = *a;
    p->n = n;
    p->n_nodes = 1;
    sort_paths(sorted, paths, n);
    p->nodes[0] = (struct node){.path = -1, .end = n};
    expand(p, &p->nodes[0], paths, sorted);
    for (int32_t i = 0; i < n; i++)
        if (paths[i].size && memchr(paths[i].data, '.', paths[i].size))
            add_child(p, &p->nodes[0], (struct node){.name = paths[i], .path = i, .literal = 1});
    for (int32_t i = 1; i < p->n_nodes; i++)
        p->nodes[i].final = 1;
    for (int32_t i = 1; i < p->n_nodes; i++)
        if (!p->nodes[i].literal)
            expand(p, &p->nodes[i], paths, sorted);
    *out = p;
    return INFER_OK;
}

void vector_paths_destroy(struct vector_paths **paths)
{
    struct vector_paths *p = *paths;
    if (!p)
        return;
    struct base_alloc a = p->alloc;
    base_free(&a, p);
    *paths = NULL;
}

/* ------------------------------------------------------------------ the pass */

struct pass {
    const struct vector_paths *paths;
    const char *p, *end;
    struct vector_found_value *found;
    int32_t n_open; /* paths of which something better may come */
};

static void skip_blanks(struct pass *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
        s->p++;
}

/* Marks the high bit of the first byte of the eight that is a quote or a backslash, and of some
 * behind it; 0: there is none. */
static uint64_t find_special(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    return ((quote - ones) & ~quote & high) | ((slash - ones) & ~slash & high);
}

/* From behind the opening quote to behind the closing one. */
static int skip_string(struct pass *s, struct vector_found_value *out)
{
    const char *p = s->p;
    out->escaped = 0;
    out->data = p;
    for (;;) {
        uint64_t special = 0;
        while (s->end - p >= 8 && !(special = find_special(base_get_u64((const uint8_t *)p))))
            p += 8;
        if (special)
            p += __builtin_ctzll(special) / 8;
        while (p < s->end && *p != '"' && *p != '\\')
            p++;
        if (p == s->end)
            return 0;
        if (*p == '"')
            break;
        out->escaped = 1;
        if (s->end - p < 2)
            return 0;
        p += 2;
    }
    out->size = (uint32_t)(p - out->data);
    s->p = p + 1;
    return 1;
}

/* From an opening bracket to behind its closing one. */
static int skip_container(struct pass *s)
{
    struct vector_found_value text;
    size_t depth = 0;
    while (s->p < s->end) {
        switch (*s->p++) {
        case '"':
            if (!skip_string(s, &text))
                return 0;
            break;
        case '[':
        case '{':
            depth++;
            break;
        case ']':
        case '}':
            if (--depth == 0)
                return 1;
        }
    }
    return 0;
}

static int skip_word(struct pass *s)
{
    static const char *const words[] = {"null", "true", "false"};
    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            return 1;
        }
    }
    return 0;
}

static int is_of_number(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* Any value but an object. */
static int skip_value(struct pass *s, struct vector_found_value *out)
{
    const char *begin = s->p;
    int ok;
    out->literal = 0;
    out->escaped = 0;
    switch (*begin) {
    case '"':
        s->p++;
        out->type = VECTOR_FOUND_STRING;
        return skip_string(s, out);
    case '[':
        out->type = VECTOR_FOUND_ARRAY;
        ok = skip_container(s);
        break;
    case 'n':
    case 't':
    case 'f':
        out->type = VECTOR_FOUND_WORD;
        ok = skip_word(s);
        break;
    default:
        out->type = VECTOR_FOUND_NUMBER;
        while (s->p < s->end && is_of_number(*s->p))
            s->p++;
        ok = s->p > begin;
    }
    out->data = begin;
    out->size = (uint32_t)(s->p - begin);
    return ok;
}

static const struct node *find_child(const struct pass *s, const struct node *node,
                                     const struct vector_found_value *name)
{
    const struct base_view text = {name->data, name->size};
    const struct node *children = s->paths->nodes + node->first;
    int32_t low = 0, high = node->n;
    if (high == 1 && !name->escaped) /* most filters are of one field, and most names another's */
        return text.size == children->name.size &&
                       (!text.size || (text.data[0] == children->name.data[0] &&
                                       memcmp(text.data, children->name.data, text.size) == 0))
                   ? children
                   : NULL;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        int order = vector_text_compare(text, name->escaped, children[middle].name);
        if (!order)
            return &children[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static void keep(struct pass *s, const struct node *node, const struct vector_found_value *value)
{
    if (node->path < 0 || s->found[node->path].literal)
        return;
    struct vector_found_value *found = &s->found[node->path];
    s->n_open -= node->final && (node->literal || found->type == VECTOR_FOUND_NOTHING);
    *found = *value;
    found->literal = (uint8_t)node->literal;
}

static int pass_object(struct pass *s, const struct node *node);

static int pass_value(struct pass *s, const struct node *child)
{
    struct vector_found_value value;
    if (*s->p == '{') {
        value = (struct vector_found_value){.type = VECTOR_FOUND_OBJECT};
        if (child)
            keep(s, child, &value);
        return child && child->n ? pass_object(s, child) : skip_container(s);
    }
    if (!skip_value(s, &value))
        return 0;
    if (child)
        keep(s, child, &value);
    return 1;
}

/* Recursion is as deep as the paths. */
static int pass_object(struct pass *s, const struct node *node)
{
    s->p++;
    skip_blanks(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
        return 1;
    }
    while (s->p < s->end) {
        struct vector_found_value name;
        if (*s->p++ != '"' || !skip_string(s, &name))
            return 0;
        skip_blanks(s);
        if (s->p == s->end || *s->p++ != ':')
            return 0;
        skip_blanks(s);
        if (s->p == s->end || !pass_value(s, find_child(s, node, &name)))
            return 0;
        if (!s->n_open)
            return 1;
        skip_blanks(s);
        if (s->p == s->end)
            return 0;
        if (*s->p == '}') {
            s->p++;
            return 1;
        }
        if (*s->p++ != ',')
            return 0;
        skip_blanks(s);
    }
    return 0;
}

infer_status vector_paths_find(const struct vector_paths *paths, const char *json, size_t size,
                               struct vector_found_value *found)
{
    memset(found, 0, sizeof *found * (size_t)paths->n);
    if (!size || !paths->n)
        return INFER_OK;
    struct pass s = {paths, json, json + size, found, paths->n};
    skip_blanks(&s);
    if (size <= UINT32_MAX && s.p < s.end && *s.p == '{' && pass_object(&s, paths->nodes))
        return INFER_OK;
    return base_error(INFER_ERR_FORMAT,
                      "byte %zu of the metadata is no JSON as it was written: it was damaged",
                      (size_t)(s.p - json));
}

/* ------------------------------------------------------------------ values */

int vector_found_scalar(const struct vector_found_value *found, struct vector_value *out)
{
    switch (found->type) {
    case VECTOR_FOUND_WORD:
        *out = (struct vector_value){.kind = found->data[0] == 'n'   ? VECTOR_NULL
                                             : found->data[0] == 'f' ? VECTOR_FALSE
                                                                     : VECTOR_TRUE};
        return 1;
    case VECTOR_FOUND_NUMBER:
        return vector_value_number(out, found->data, found->size) ? 1 : -1;
    case VECTOR_FOUND_STRING:
        *out = (struct vector_value){
            .kind = VECTOR_STRING, .escaped = found->escaped, .text = {found->data, found->size}};
        return 1;
    default:
        return 0;
    }
}

int vector_found_element(const struct vector_found_value *array, const char **at,
                         struct vector_found_value *out)
{
    struct pass s = {.p = *at ? *at : array->data + 1, .end = array->data + array->size};
    skip_blanks(&s);
    if (s.p < s.end && *at && *s.p == ',') {
        s.p++;
        skip_blanks(&s);
    }
    if (s.p == s.end)
        return -1;
    if (*s.p == ']')
        return 0;
    if (*s.p == '{') {
        *out = (struct vector_found_value){.type = VECTOR_FOUND_OBJECT};
        if (!skip_container(&s))
            return -1;
    } else if (!skip_value(&s, out)) {
        return -1;
    }
    *at = s.p;
    return 1;
}
