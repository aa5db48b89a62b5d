/* The container of snapshots: head, sections, checksums. */
#include "cache/snapshot.h"

#include "base/error.h"

#define HEAD_CHECKED    (CACHE_SNAPSHOT_HEAD_BYTES - 16)
#define SECTION_CHECKED (CACHE_SNAPSHOT_SECTION_BYTES - 16)
#define GROUP_NUMBERS   CACHE_SNAPSHOT_GROUP_NUMBERS

static const uint8_t magic[8] = {'I', 'N', 'F', 'E', 'R', 'K', 'V', '\n'};

/* ------------------------------------------------------------------ numbers */

void cache_write_u32(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

void cache_write_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t read_u64(const uint8_t *p)
{
    return (uint64_t)read_u32(p) | (uint64_t)read_u32(p + 4) << 32;
}

infer_status cache_put_u32(struct base_str *out, uint32_t value)
{
    uint8_t bytes[4];
    cache_write_u32(bytes, value);
    return base_str_append(out, (const char *)bytes, sizeof bytes);
}

infer_status cache_put_u64(struct base_str *out, uint64_t value)
{
    uint8_t bytes[8];
    cache_write_u64(bytes, value);
    return base_str_append(out, (const char *)bytes, sizeof bytes);
}

infer_status cache_put_f32(struct base_str *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return cache_put_u32(out, bits);
}

infer_status cache_put_tokens(struct base_str *out, const infer_token *tokens, size_t n)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < n && st == INFER_OK; i++)
        st = cache_put_u32(out, (uint32_t)tokens[i]);
    return st;
}

const uint8_t *cache_get_bytes(struct cache_cursor *c, size_t n)
{
    const uint8_t *p = c->data + c->at;
    if (c->bad || n > c->size - c->at) {
        c->bad = 1;
        return NULL;
    }
    c->at += n;
    return p;
}

uint32_t cache_get_u32(struct cache_cursor *c)
{
    const uint8_t *p = cache_get_bytes(c, 4);
    return p ? read_u32(p) : 0;
}

uint64_t cache_get_u64(struct cache_cursor *c)
{
    const uint8_t *p = cache_get_bytes(c, 8);
    return p ? read_u64(p) : 0;
}

float cache_get_f32(struct cache_cursor *c)
{
    uint32_t bits = cache_get_u32(c);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ------------------------------------------------------------------ writing */

static void write_checksum(uint8_t *out, struct base_hash128 hash)
{
    cache_write_u64(out, hash.low);
    cache_write_u64(out + 8, hash.high);
}

void cache_snapshot_head_write(uint8_t out[CACHE_SNAPSHOT_HEAD_BYTES],
                               const struct cache_snapshot_head *h)
{
    memset(out, 0, CACHE_SNAPSHOT_HEAD_BYTES);
    memcpy(out, magic, sizeof magic);
    cache_write_u32(out + 8, (uint32_t)h->format);
    cache_write_u32(out + 12, (uint32_t)h->kind);
    cache_write_u64(out + 16, h->bytes);
    cache_write_u32(out + 24, h->library);
    cache_write_u32(out + 28, (uint32_t)h->type);
    write_checksum(out + 32, h->model);
    cache_write_u64(out + 48, h->adapter);
    cache_write_u32(out + 56, (uint32_t)h->block_tokens);
    cache_write_u32(out + 60, (uint32_t)h->numerics);
    cache_write_u32(out + 64, (uint32_t)h->n_tokens);
    cache_write_u32(out + 68, h->gaps != 0);
    write_checksum(out + HEAD_CHECKED, base_hash128_plain(out, HEAD_CHECKED));
}

/* Of a section's own numbers and of the checksum of its data. */
static struct base_hash128 section_hash(const uint8_t *numbers, const void *data, size_t size)
{
    uint8_t both[SECTION_CHECKED + 16];
    memcpy(both, numbers, SECTION_CHECKED);
    write_checksum(both + SECTION_CHECKED, base_hash128_plain(data, size));
    return base_hash128_plain(both, sizeof both);
}

void cache_snapshot_section_write(uint8_t out[CACHE_SNAPSHOT_SECTION_BYTES],
                                  const struct cache_snapshot_section *s, const void *data)
{
    cache_write_u32(out, s->id);
    cache_write_u32(out + 4, (uint32_t)s->group);
    cache_write_u32(out + 8, (uint32_t)s->index);
    cache_write_u32(out + 12, 0);
    cache_write_u64(out + 16, s->bytes);
    write_checksum(out + SECTION_CHECKED, section_hash(out, data, (size_t)s->bytes));
}

infer_status cache_snapshot_put(struct base_str *out, uint32_t id, const void *data, size_t size)
{
    uint8_t head[CACHE_SNAPSHOT_SECTION_BYTES];
    const struct cache_snapshot_section section = {.id = id, .bytes = size};
    const char *bytes = size ? data : "";
    cache_snapshot_section_write(head, &section, bytes);
    infer_status st = base_str_append(out, (const char *)head, sizeof head);
    return st == INFER_OK ? base_str_append(out, bytes, size) : st;
}

void cache_snapshot_group(const struct cache_blocks *b, int32_t g, uint64_t out[GROUP_NUMBERS])
{
    const struct cache_group *group = &b->config.groups[g];
    out[0] = (uint64_t)group->kind;
    out[1] = (uint64_t)group->n_layers;
    out[2] = (uint64_t)group->n_heads;
    out[3] = (uint64_t)group->window;
    out[4] = group->state_bytes;
    out[5] = group->k_bytes;
    out[6] = group->layer_bytes;
    out[7] = b->block_bytes[g];
}

infer_status cache_snapshot_put_groups(struct base_str *out, const struct cache_blocks *b)
{
    uint8_t bytes[CACHE_GROUPS_MAX * GROUP_NUMBERS * 8];
    uint64_t numbers[GROUP_NUMBERS];
    size_t n = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        cache_snapshot_group(b, g, numbers);
        for (int32_t i = 0; i < GROUP_NUMBERS; i++, n += 8)
            cache_write_u64(bytes + n, numbers[i]);
    }
    return cache_snapshot_put(out, CACHE_SNAPSHOT_GROUPS, bytes, n);
}

/* ------------------------------------------------------------------ reading */

static int same_checksum(const uint8_t *at, struct base_hash128 hash)
{
    return read_u64(at) == hash.low && read_u64(at + 8) == hash.high;
}

static infer_status read_head(struct cache_snapshot *s)
{
    const uint8_t *p = s->data;
    struct cache_snapshot_head *h = &s->head;
    if (s->size < sizeof magic || memcmp(p, magic, sizeof magic) != 0)
        return base_error(INFER_ERR_FORMAT, "this is no snapshot of libinfer");
    if (s->size < 12)
        return base_error(INFER_ERR_FORMAT, "the snapshot is cut: it has %zu bytes", s->size);
    const uint32_t format = read_u32(p + 8);
    if (format < CACHE_SNAPSHOT_FORMAT_FIRST || format > CACHE_SNAPSHOT_FORMAT)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "the snapshot has format version %u, this library reads versions %d to "
                          "%d",
                          (unsigned)format, CACHE_SNAPSHOT_FORMAT_FIRST, CACHE_SNAPSHOT_FORMAT);
    if (s->size < CACHE_SNAPSHOT_HEAD_BYTES)
        return base_error(INFER_ERR_FORMAT, "the snapshot is cut: it has %zu bytes", s->size);
    if (!same_checksum(p + HEAD_CHECKED, base_hash128_plain(p, HEAD_CHECKED)))
        return base_error(INFER_ERR_FORMAT,
                          "the snapshot is damaged: its head's checksum is wrong");
    *h = (struct cache_snapshot_head){
        .format = (int32_t)format,
        .kind = (int32_t)read_u32(p + 12),
        .bytes = read_u64(p + 16),
        .library = read_u32(p + 24),
        .type = (int32_t)read_u32(p + 28),
        .model = {read_u64(p + 32), read_u64(p + 40)},
        .adapter = read_u64(p + 48),
        .block_tokens = (int32_t)read_u32(p + 56),
        .numerics = (int32_t)read_u32(p + 60),
        .n_tokens = (int32_t)read_u32(p + 64),
        .gaps = read_u32(p + 68) != 0,
    };
    if (h->bytes != s->size)
        return base_error(
            INFER_ERR_FORMAT, "the snapshot says it has %llu bytes and has %zu: it is %s",
            (unsigned long long)h->bytes, s->size, h->bytes > s->size ? "cut" : "damaged");
    return INFER_OK;
}

/* The section at s->at, whose data lies inside the snapshot. */
static infer_status read_section(struct cache_snapshot *s, struct cache_snapshot_section *out,
                                 struct cache_cursor *data)
{
    const uint8_t *p = s->data + s->at;
    size_t left = s->size - s->at;
    if (left < CACHE_SNAPSHOT_SECTION_BYTES ||
        read_u64(p + 16) > left - CACHE_SNAPSHOT_SECTION_BYTES)
        return base_error(INFER_ERR_FORMAT,
                          "the snapshot is damaged: the section at byte %zu ends behind it", s->at);
    *out = (struct cache_snapshot_section){.id = read_u32(p),
                                           .group = (int32_t)read_u32(p + 4),
                                           .index = (int32_t)read_u32(p + 8),
                                           .bytes = read_u64(p + 16)};
    *data =
        (struct cache_cursor){.data = p + CACHE_SNAPSHOT_SECTION_BYTES, .size = (size_t)out->bytes};
    return INFER_OK;
}

static infer_status check_sections(struct cache_snapshot *s)
{
    struct cache_snapshot_section section;
    struct cache_cursor data;
    while (s->at < s->size) {
        infer_status st = read_section(s, &section, &data);
        if (st != INFER_OK)
            return st;
        const uint8_t *p = s->data + s->at;
        if (!same_checksum(p + SECTION_CHECKED, section_hash(p, data.data, data.size)))
            return base_error(INFER_ERR_FORMAT,
                              "the snapshot is damaged: the checksum of the section at byte %zu is "
                              "wrong",
                              s->at);
        s->at += CACHE_SNAPSHOT_SECTION_BYTES + data.size;
    }
    return INFER_OK;
}

infer_status cache_snapshot_open(struct cache_snapshot *out, const void *data, size_t size)
{
    struct cache_snapshot s = {.data = data, .size = size};
    infer_status st = read_head(&s);
    if (st != INFER_OK)
        return st;
    s.at = CACHE_SNAPSHOT_HEAD_BYTES;
    st = check_sections(&s);
    if (st != INFER_OK)
        return st;
    s.at = CACHE_SNAPSHOT_HEAD_BYTES;
    *out = s;
    return INFER_OK;
}

infer_status cache_snapshot_next(struct cache_snapshot *s, uint32_t id,
                                 struct cache_snapshot_section *section, struct cache_cursor *out)
{
    if (s->at == s->size)
        return base_error(INFER_ERR_FORMAT, "the snapshot lacks its section %.4s",
                          (const char *)(const uint8_t[4]){(uint8_t)id, (uint8_t)(id >> 8),
                                                           (uint8_t)(id >> 16),
                                                           (uint8_t)(id >> 24)});
    infer_status st = read_section(s, section, out);
    if (st != INFER_OK)
        return st;
    if (section->id != id)
        return base_error(INFER_ERR_FORMAT,
                          "the section at byte %zu of the snapshot is not the one that belongs "
                          "there",
                          s->at);
    s->at += CACHE_SNAPSHOT_SECTION_BYTES + (size_t)section->bytes;
    return INFER_OK;
}

infer_status cache_snapshot_end(const struct cache_snapshot *s)
{
    if (s->at != s->size)
        return base_error(INFER_ERR_FORMAT, "the snapshot has sections that do not belong there");
    return INFER_OK;
}

infer_status cache_snapshot_fits(struct cache_snapshot *s, const struct cache_blocks *b)
{
    const struct cache_snapshot_head *h = &s->head;
    const size_t bytes = (size_t)b->config.n_groups * GROUP_NUMBERS * 8;
    struct cache_snapshot_section section;
    struct cache_cursor data;
    uint64_t numbers[GROUP_NUMBERS];
    infer_status st = cache_snapshot_next(s, CACHE_SNAPSHOT_GROUPS, &section, &data);
    if (st != INFER_OK)
        return st;
    if (h->block_tokens != b->config.block_tokens)
        return base_error(INFER_ERR_INVALID,
                          "the snapshot has blocks of %d tokens, this KV cache of %d",
                          h->block_tokens, b->config.block_tokens);
    if (h->type != b->config.type)
        return base_error(INFER_ERR_INVALID,
                          "the snapshot's keys and values are of type %d, this KV cache's of %d",
                          h->type, b->config.type);
    int same = data.size == bytes;
    for (int32_t g = 0; same && g < b->config.n_groups; g++) {
        cache_snapshot_group(b, g, numbers);
        for (int32_t i = 0; i < GROUP_NUMBERS; i++)
            same &= cache_get_u64(&data) == numbers[i];
    }
    if (!same)
        return base_error(INFER_ERR_INVALID,
                          "the snapshot's blocks are laid out for another model or device");
    return INFER_OK;
}
