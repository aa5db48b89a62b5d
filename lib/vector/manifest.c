/* The manifest as a file: small, written whole, and checked before anybody believes it. */
#include "vector/manifest.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

#include <infer/index.h>

#define NUMBERS_BYTES (6 * 4 + 5 * 8)
#define TEXT_MAX      ((size_t)1 << 16)

static int in(int32_t value, int32_t low, int32_t high)
{
    return value >= low && value <= high;
}

static infer_status check_traits(const struct vector_traits *t)
{
    if (!in(t->dims, 1, 8192) || !in(t->metric, INFER_METRIC_COSINE, INFER_METRIC_L2) ||
        !in(t->type, INFER_INDEX_F32, INFER_INDEX_BINARY) || !in(t->degree, 4, 128) ||
        !in(t->effort, 8, 4096) || !in(t->normalized, 0, 1))
        return base_error(
            INFER_ERR_FORMAT,
            "the manifest says %d dimensions, metric %d, type %d, degree %d, effort %d "
            "and normalized %d, which no index has",
            (int)t->dims, (int)t->metric, (int)t->type, (int)t->degree, (int)t->effort,
            (int)t->normalized);
    return INFER_OK;
}

static infer_status check(const struct vector_manifest *m)
{
    infer_status st = check_traits(&m->traits);
    if (st != INFER_OK)
        return st;
    if (!in(m->n_segments, 0, VECTOR_SEGMENTS_MAX) || !in(m->n_fields, 0, VECTOR_FIELDS_MAX) ||
        m->generation > VECTOR_NUMBER_MAX || m->next_file > VECTOR_NUMBER_MAX ||
        m->first_log > VECTOR_NUMBER_MAX)
        return base_error(INFER_ERR_FORMAT,
                          "the manifest says %d segments and %d fields, next file %llu, first log "
                          "%llu, generation %llu, which no index has",
                          (int)m->n_segments, (int)m->n_fields, (unsigned long long)m->next_file,
                          (unsigned long long)m->first_log, (unsigned long long)m->generation);
    for (int32_t i = 0; i < m->n_segments; i++) {
        int twice = 0;
        for (int32_t k = 0; k < i; k++)
            twice |= m->segments[k] == m->segments[i];
        if (twice || m->segments[i] >= m->next_file)
            return base_error(INFER_ERR_FORMAT,
                              "the manifest names segment %llu%s, the next file is number %llu",
                              (unsigned long long)m->segments[i], twice ? " twice" : "",
                              (unsigned long long)m->next_file);
    }
    return INFER_OK;
}

/* ------------------------------------------------------------------ in memory */

static infer_status take_text(struct base_arena *arena, const char **out, const char *text)
{
    const size_t n = text ? strlen(text) : 0;
    if (n > TEXT_MAX)
        return base_error(INFER_ERR_LIMIT, "a text of the manifest has %zu bytes, at most %zu", n,
                          TEXT_MAX);
    *out = base_arena_strdup(arena, text ? text : "", n);
    return *out ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static infer_status take(struct vector_manifest_held *held, const struct vector_manifest *m)
{
    struct vector_manifest *to = &held->is;
    uint64_t *segments = base_arena_new(&held->arena, (size_t)m->n_segments, sizeof *segments);
    const char **fields = base_arena_new(&held->arena, (size_t)m->n_fields, sizeof *fields);
    if (!segments || !fields)
        return INFER_ERR_NO_MEMORY;
    *to = *m;
    to->segments = segments;
    to->fields = fields;
    for (int32_t i = 0; i < m->n_segments; i++)
        segments[i] = m->segments[i];
    infer_status st = take_text(&held->arena, &to->traits.model, m->traits.model);
    if (st == INFER_OK)
        st = take_text(&held->arena, &to->traits.pooling, m->traits.pooling);
    for (int32_t i = 0; st == INFER_OK && i < m->n_fields; i++)
        st = take_text(&held->arena, &fields[i], m->fields[i]);
    return st;
}

infer_status vector_manifest_copy(struct vector_manifest_held *out, const struct base_alloc *a,
                                  const struct vector_manifest *m)
{
    struct vector_manifest_held held;
    infer_status st = check(m);
    if (st != INFER_OK)
        return st;
    base_arena_init(&held.arena, a);
    st = take(&held, m);
    if (st != INFER_OK) {
        base_arena_release(&held.arena);
        return st;
    }
    *out = held;
    return INFER_OK;
}

void vector_manifest_release(struct vector_manifest_held *held)
{
    base_arena_release(&held->arena);
    memset(held, 0, sizeof *held);
}

/* ------------------------------------------------------------------- reading */

/* The texts, whose number is known: two and the fields. */
static infer_status read_texts(const struct vector_file *file, struct vector_manifest *m,
                               const char **texts)
{
    const uint8_t *p;
    size_t left;
    infer_status st = vector_file_find(file, "texts", &p, &left);
    if (st != INFER_OK)
        return base_error(INFER_ERR_FORMAT, "it has no section \"texts\"");
    for (int32_t i = 0; i < m->n_fields + 2; i++) {
        const uint8_t *end = left ? memchr(p, 0, left) : NULL;
        if (!end)
            return base_error(INFER_ERR_FORMAT, "section \"texts\" has %d of %d texts", (int)i,
                              (int)m->n_fields + 2);
        texts[i] = (const char *)p;
        left -= (size_t)(end - p) + 1;
        p = end + 1;
    }
    if (left)
        return base_error(INFER_ERR_FORMAT, "section \"texts\" goes on behind the last text");
    m->traits.model = texts[0];
    m->traits.pooling = texts[1];
    m->fields = texts + 2;
    return INFER_OK;
}

static infer_status read_numbers(const struct vector_file *file, struct vector_manifest *m)
{
    const void *found;
    infer_status st = vector_file_array(file, "numbers", &found, NUMBERS_BYTES, 1);
    if (st != INFER_OK)
        return st;
    const uint8_t *p = found;
    int32_t *traits[] = {&m->traits.dims,   &m->traits.metric, &m->traits.type,
                         &m->traits.degree, &m->traits.effort, &m->traits.normalized};
    for (size_t i = 0; i < BASE_COUNT(traits); i++, p += 4)
        *traits[i] = (int32_t)base_get_u32(p);
    m->generation = base_get_u64(p);
    m->next_file = base_get_u64(p + 8);
    m->first_log = base_get_u64(p + 16);
    const uint64_t n_segments = base_get_u64(p + 24), n_fields = base_get_u64(p + 32);
    if (n_segments > VECTOR_SEGMENTS_MAX || n_fields > VECTOR_FIELDS_MAX)
        return base_error(INFER_ERR_FORMAT, "%s names %llu segments and %llu fields",
                          vector_file_path(file), (unsigned long long)n_segments,
                          (unsigned long long)n_fields);
    m->n_segments = (int32_t)n_segments;
    m->n_fields = (int32_t)n_fields;
    st = vector_file_array(file, "segments", &found, (size_t)n_segments, sizeof *m->segments);
    m->segments = found;
    return st;
}

infer_status vector_manifest_read(struct vector_manifest_held *out, const struct base_alloc *a,
                                  const char *path)
{
    const char *texts[VECTOR_FIELDS_MAX + 2];
    struct vector_manifest m = {.n_fields = 0};
    struct vector_file *file = NULL;
    infer_status st = vector_file_open(&file, a, path, "manifest", 1);
    if (st == INFER_OK)
        st = read_numbers(file, &m);
    if (st != INFER_OK) {
        vector_file_close(&file);
        return st;
    }
    st = read_texts(file, &m, texts);
    if (st == INFER_OK)
        st = vector_manifest_copy(out, a, &m);
    vector_file_close(&file);
    return st == INFER_OK || st == INFER_ERR_NO_MEMORY ? st : base_error_prefix(st, "%s", path);
}

/* ------------------------------------------------------------------- writing */

static infer_status write_sections(struct vector_file_writer *w, const struct vector_manifest *m)
{
    uint8_t numbers[NUMBERS_BYTES];
    const struct vector_traits *t = &m->traits;
    const int32_t traits[] = {t->dims, t->metric, t->type, t->degree, t->effort, t->normalized};
    const uint64_t others[] = {m->generation, m->next_file, m->first_log, (uint64_t)m->n_segments,
                               (uint64_t)m->n_fields};
    for (size_t i = 0; i < BASE_COUNT(traits); i++)
        base_put_u32(numbers + 4 * i, (uint32_t)traits[i]);
    for (size_t i = 0; i < BASE_COUNT(others); i++)
        base_put_u64(numbers + 24 + 8 * i, others[i]);
    infer_status st = vector_file_section(w, "numbers", numbers, sizeof numbers);
    if (st == INFER_OK)
        st = vector_file_section(w, "segments", m->segments, (size_t)m->n_segments * 8);
    if (st == INFER_OK)
        st = vector_file_begin(w, "texts", 1);
    for (int32_t i = 0; st == INFER_OK && i < m->n_fields + 2; i++) {
        const char *text = i == 0 ? t->model : i == 1 ? t->pooling : m->fields[i - 2];
        st = vector_file_append(w, text, strlen(text) + 1);
    }
    return st;
}

infer_status vector_manifest_write(const struct base_alloc *a, const char *path,
                                   const struct vector_manifest *m, int32_t *placed)
{
    struct vector_file_writer *w;
    infer_status st = vector_file_create(&w, a, path, "manifest");
    *placed = 0;
    if (st != INFER_OK)
        return st;
    st = write_sections(w, m);
    if (st == INFER_OK)
        return vector_file_replace(&w, placed);
    vector_file_abandon(&w);
    return st;
}
