/* The fields of a line by table, then what only holds of several together. */
#include "batch_line.h"

#include "json_out.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS_MAX 1e12 /* thirty years */

static int wrong(struct batch_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int wrong(struct batch_line *line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(line->error, sizeof line->error, format, args);
    va_end(args);
    return -1;
}

static int no_memory(struct batch_line *line)
{
    return wrong(line, "no memory for the request");
}

enum field_kind {
    FIELD_ID,
    FIELD_RAW,   /* struct json_value: of any kind, looked at later */
    FIELD_TEXT,  /* struct buffer */
    FIELD_NAME,  /* struct buffer: a text without U+0000 */
    FIELD_TEXTS, /* struct batch_texts: a text or a list of them */
    FIELD_BOOL,  /* int32_t */
    FIELD_INT32,
    FIELD_INT64,
    FIELD_SEED, /* uint64_t */
    FIELD_FLOAT,
    FIELD_MS /* uint64_t, in nanoseconds */
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
};

#define FIELD(name, kind, member)                                                                  \
    {                                                                                              \
        name, kind, offsetof(struct batch_line, member)                                            \
    }

static const struct field fields[] = {
    FIELD("id", FIELD_ID, id),
    FIELD("prompt", FIELD_TEXT, prompt),
    FIELD("prompt_ids", FIELD_RAW, prompt_ids),
    FIELD("messages", FIELD_RAW, messages),
    FIELD("tools", FIELD_RAW, tools),
    FIELD("context", FIELD_RAW, variables),
    FIELD("parse_special", FIELD_BOOL, options.parse_special),
    FIELD("max_tokens", FIELD_INT64, options.max_tokens),
    FIELD("stop", FIELD_TEXTS, stop),
    FIELD("ignore_eos", FIELD_BOOL, options.ignore_eos),
    FIELD("prefill_only", FIELD_BOOL, options.prefill_only),
    FIELD("temperature", FIELD_FLOAT, sampling.temperature),
    FIELD("top_k", FIELD_INT32, sampling.top_k),
    FIELD("top_p", FIELD_FLOAT, sampling.top_p),
    FIELD("min_p", FIELD_FLOAT, sampling.min_p),
    FIELD("repetition_penalty", FIELD_FLOAT, sampling.repetition_penalty),
    FIELD("frequency_penalty", FIELD_FLOAT, sampling.frequency_penalty),
    FIELD("presence_penalty", FIELD_FLOAT, sampling.presence_penalty),
    FIELD("penalty_last_n", FIELD_INT32, sampling.penalty_last_n),
    FIELD("logit_bias", FIELD_RAW, logit_bias),
    FIELD("seed", FIELD_SEED, sampling.seed),
    FIELD("schema", FIELD_RAW, schema),
    FIELD("grammar", FIELD_RAW, grammar),
    FIELD("regex", FIELD_RAW, regex),
    FIELD("choice", FIELD_RAW, choice),
    FIELD("compact", FIELD_BOOL, compact),
    FIELD("disable_jump_ahead", FIELD_BOOL, options.disable_jump_ahead),
    FIELD("logprobs", FIELD_BOOL, options.logprobs),
    FIELD("top_logprobs", FIELD_INT32, options.n_top_logprobs),
    FIELD("prompt_logprobs", FIELD_BOOL, options.prompt_logprobs),
    FIELD("namespace", FIELD_NAME, name_space),
    FIELD("tenant", FIELD_NAME, tenant),
    FIELD("priority", FIELD_INT32, options.priority),
    FIELD("deadline_ms", FIELD_MS, options.deadline_ns),
};

#define N_FIELDS (sizeof fields / sizeof fields[0])

static const struct field *find_field(const struct buffer *name)
{
    for (size_t i = 0; i < N_FIELDS; i++)
        if (strlen(fields[i].name) == name->size &&
            memcmp(fields[i].name, name->data, name->size) == 0)
            return &fields[i];
    return NULL;
}

int batch_line_id(struct buffer *out, const struct json_value *value)
{
    struct json_out json = {0};
    struct buffer text = {0};
    if (value->kind == JSON_NUMBER) {
        buffer_append(out, value->text, value->size);
        return 0;
    }
    if (json_in_text(value, &text) != 0)
        return -1;
    json_text(&json, NULL, text.data, text.size);
    json.buffer.failed |= text.failed;
    buffer_free(&text);
    buffer_free(out);
    *out = json.buffer;
    return 0;
}

/* One string that the library reads up to its 0. */
static const char *append_name(struct buffer *out, const struct json_value *value)
{
    size_t begin = out->size;
    if (json_in_text(value, out) != 0)
        return "a string";
    if (!out->failed && memchr(out->data + begin, 0, out->size - begin))
        return "a string without U+0000";
    return NULL;
}

static const char *append_texts(struct batch_texts *out, const struct json_value *value)
{
    struct json_value item;
    struct json_walk walk;
    const char *expected = NULL;
    if (value->kind == JSON_TEXT) {
        expected = append_name(&out->all, value);
        buffer_append(&out->all, "", 1);
        out->n++;
        return expected;
    }
    if (value->kind != JSON_ARRAY)
        return "a string or a list of strings";
    for (walk = json_walk_begin(value); !expected && json_walk_next(&walk, NULL, &item); out->n++) {
        if (item.kind != JSON_TEXT)
            return "a list of strings";
        expected = append_name(&out->all, &item);
        buffer_append(&out->all, "", 1);
    }
    return expected;
}

static const char *read_i32(int32_t *out, const struct json_value *value)
{
    int64_t n;
    if (json_in_i64(value, &n) != 0 || n < INT32_MIN || n > INT32_MAX)
        return "a whole number";
    *out = (int32_t)n;
    return NULL;
}

static const char *read_float(float *out, const struct json_value *value)
{
    double x;
    if (json_in_f64(value, &x) != 0 || fabs(x) > (double)FLT_MAX)
        return "a number";
    *out = (float)x;
    return NULL;
}

static const char *read_ms(uint64_t *out, const struct json_value *value)
{
    double x;
    if (json_in_f64(value, &x) != 0 || x < 0 || x > MS_MAX)
        return "milliseconds from 0 to 10^12";
    *out = (uint64_t)(x * 1e6);
    return NULL;
}

/* Returns NULL, or what the field expects instead. */
static const char *read_field(struct batch_line *line, const struct field *field,
                              const struct json_value *value)
{
    void *target = (char *)line + field->offset;
    switch (field->kind) {
    case FIELD_ID:
        return batch_line_id(target, value) == 0 ? NULL : "a string or a number";
    case FIELD_RAW:
        *(struct json_value *)target = *value;
        return NULL;
    case FIELD_TEXT:
        return json_in_text(value, target) == 0 ? NULL : "a string";
    case FIELD_NAME:
        return append_name(target, value);
    case FIELD_TEXTS:
        return append_texts(target, value);
    case FIELD_BOOL:
        return json_in_bool(value, target) == 0 ? NULL : "true or false";
    case FIELD_INT32:
        return read_i32(target, value);
    case FIELD_INT64:
        return json_in_i64(value, target) == 0 ? NULL : "a whole number";
    case FIELD_SEED:
        return json_in_u64(value, target) == 0 ? NULL : "a whole number from 0 to 2^64 - 1";
    case FIELD_MS:
        return read_ms(target, value);
    default:
        return read_float(target, value);
    }
}

static int shown(size_t size)
{
    return (int)(size < 60 ? size : 60);
}

static int unexpected(struct batch_line *line, const char *name, const struct json_value *value,
                      const char *expected)
{
    return wrong(line, "\"%s\" is %.*s%s, expected %s", name, shown(value->size), value->text,
                 value->size > 60 ? "..." : "", expected);
}

static int read_member(struct batch_line *line, uint64_t *seen, const struct json_value *key,
                       const struct json_value *value)
{
    struct buffer name = {0};
    const struct field *field;
    const char *expected;
    json_in_text(key, &name);
    field = name.failed ? NULL : find_field(&name);
    buffer_free(&name);
    if (!field)
        return wrong(line, "there is no field %.*s", shown(key->size), key->text);
    uint64_t bit = (uint64_t)1 << (field - fields);
    if (*seen & bit)
        return wrong(line, "\"%s\" is given twice", field->name);
    *seen |= bit;
    if (value->kind == JSON_NULL) /* as if it were not there */
        return 0;
    expected = read_field(line, field, value);
    return expected ? unexpected(line, field->name, value, expected) : 0;
}

static int read_members(struct batch_line *line, const struct json_value *object)
{
    struct json_walk walk = json_walk_begin(object);
    struct json_value key, value;
    uint64_t seen = 0;
    int status = 0;
    while (json_walk_next(&walk, &key, &value)) {
        if (status == 0)
            status = read_member(line, &seen, &key, &value);
        else if (!line->id.size && key.size == 4 && memcmp(key.text, "\"id\"", 4) == 0)
            batch_line_id(&line->id, &value); /* the error shall say whose it is */
    }
    return status;
}

/* Pointers to the strings, which do not move any more. */
static int index_texts(struct batch_texts *texts)
{
    const char *at = texts->all.data;
    if (texts->n == 0)
        return 0;
    texts->items = texts->all.failed ? NULL : malloc(texts->n * sizeof *texts->items);
    if (!texts->items)
        return -1;
    for (size_t i = 0; i < texts->n; i++, at += strlen(at) + 1)
        texts->items[i] = at;
    return 0;
}

/* Elements or members are at least two bytes each, with what parts them. */
static size_t most_items(const struct json_value *container)
{
    return container->size / 2 + 1;
}

static int read_ids(struct batch_line *line)
{
    const struct json_value *list = &line->prompt_ids;
    struct json_value item;
    struct json_walk walk;
    size_t n = 0;
    if (list->kind != JSON_ARRAY)
        return unexpected(line, "prompt_ids", list, "a list of token ids");
    line->ids = malloc(most_items(list) * sizeof *line->ids);
    if (!line->ids)
        return no_memory(line);
    for (walk = json_walk_begin(list); json_walk_next(&walk, NULL, &item); n++)
        if (read_i32(&line->ids[n], &item) != NULL)
            return unexpected(line, "prompt_ids", &item, "token ids");
    if (n == 0)
        return unexpected(line, "prompt_ids", list, "a list of token ids");
    line->options.tokens = line->ids;
    line->options.n_tokens = n;
    return 0;
}

/* An object of token ids in quotes, as others have it: {"42": -1.5}. */
static int read_bias(struct batch_line *line)
{
    const struct json_value *object = &line->logit_bias;
    struct json_value key, value;
    struct json_walk walk;
    size_t n = 0;
    if (object->kind != JSON_OBJECT)
        return unexpected(line, "logit_bias", object, "an object such as {\"42\":-1.5}");
    line->biases = malloc(most_items(object) * sizeof *line->biases);
    if (!line->biases)
        return no_memory(line);
    for (walk = json_walk_begin(object); json_walk_next(&walk, &key, &value); n++) {
        const char *digits = key.text + 1;
        size_t size = key.size - 2;
        if (size == 0 || size > 9 || strspn(digits, "0123456789") != size ||
            read_float(&line->biases[n].bias, &value) != NULL)
            return unexpected(line, "logit_bias", object, "an object such as {\"42\":-1.5}");
        line->biases[n].token = (infer_token)strtol(digits, NULL, 10);
    }
    line->sampling.logit_bias = line->biases;
    line->sampling.n_logit_bias = n;
    return 0;
}

static void add_variable(struct json_out *json, const char *name, const struct json_value *value)
{
    if (value->size)
        json_raw(json, name, value->text, value->size);
}

/* The template's variables: messages and tools beside what "context" holds. */
static int make_context(struct batch_line *line)
{
    const struct json_value *more = &line->variables;
    struct json_out json = {0};
    struct json_value key, value;
    struct json_walk walk;
    if (more->size && more->kind != JSON_OBJECT)
        return unexpected(line, "context", more, "an object of the chat template's variables");
    json_open(&json, NULL, '{');
    add_variable(&json, "messages", &line->messages);
    add_variable(&json, "tools", &line->tools);
    if (more->size)
        for (walk = json_walk_begin(more); json_walk_next(&walk, &key, &value);) {
            /* The name keeps its own quotes and escapes. */
            json_raw(&json, NULL, key.text, key.size);
            buffer_append(&json.buffer, ":", 1);
            buffer_append(&json.buffer, value.text, value.size);
        }
    json_close(&json, '}');
    line->context = json.buffer;
    line->options.context = json.buffer.data;
    line->options.context_size = json.buffer.size;
    return json.buffer.failed ? no_memory(line) : 0;
}

static int read_prompt(struct batch_line *line)
{
    int chat = line->messages.size || line->tools.size || line->variables.size;
    int forms = (line->prompt.data != NULL) + (line->prompt_ids.size > 0) + chat;
    if (line->prompt.failed)
        return no_memory(line);
    if (forms != 1)
        return wrong(line, "%s",
                     forms ? "only one of \"prompt\", \"prompt_ids\" and \"messages\", with "
                             "\"tools\" and \"context\", may be given"
                           : "one of \"prompt\", \"prompt_ids\" and \"messages\" is needed");
    if (chat)
        return make_context(line);
    if (line->prompt_ids.size)
        return read_ids(line);
    line->options.prompt = line->prompt.data; /* "" has a 0 byte and a size that means up to it */
    line->options.prompt_size = line->prompt.size;
    return 0;
}

/* Fills the options and says which value they came from. */
static const struct json_value *grammar_source(struct batch_line *line, infer_grammar_options *o)
{
    if (line->schema.size) {
        o->kind = INFER_GRAMMAR_JSON_SCHEMA;
        o->text = line->schema.text;
        o->text_size = line->schema.size;
        return &line->schema;
    }
    if (line->choice.size) {
        o->kind = INFER_GRAMMAR_CHOICE;
        return &line->choice;
    }
    o->kind = line->grammar.size ? INFER_GRAMMAR_GBNF : INFER_GRAMMAR_REGEX;
    return line->grammar.size ? &line->grammar : &line->regex;
}

static int read_grammar(struct batch_line *line, struct grammar_cache *grammars)
{
    infer_grammar_options options = {.struct_size = sizeof options, .compact = line->compact};
    int n = !!line->schema.size + !!line->grammar.size + !!line->regex.size + !!line->choice.size;
    const struct json_value *source;
    infer_grammar *grammar = NULL;
    infer_status status;
    if (n == 0)
        return line->compact ? wrong(line, "\"compact\" is of \"schema\", which is not given") : 0;
    if (n > 1)
        return wrong(line, "only one of \"schema\", \"grammar\", \"regex\" and \"choice\" may be "
                           "given");
    source = grammar_source(line, &options);
    if (source == &line->choice) {
        const char *expected =
            source->kind == JSON_ARRAY ? append_texts(&line->choices, source) : "a list of strings";
        if (expected)
            return unexpected(line, "choice", source, expected);
        if (index_texts(&line->choices) != 0)
            return no_memory(line);
        options.choices = line->choices.items;
        options.n_choices = line->choices.n;
    } else if (source != &line->schema) {
        if (json_in_text(source, &line->grammar_text) != 0)
            return unexpected(line, source == &line->regex ? "regex" : "grammar", source,
                              "a string");
        if (line->grammar_text.failed)
            return no_memory(line);
        options.text = line->grammar_text.data ? line->grammar_text.data : "";
        options.text_size = line->grammar_text.size;
    }
    status = grammar_cache_get(grammars, &grammar, &options, source->text, source->size);
    line->options.grammar = grammar;
    return status == INFER_OK ? 0 : wrong(line, "%s", infer_last_error());
}

static void set_defaults(struct batch_line *line, const struct batch_defaults *defaults)
{
    *line = (struct batch_line){.sampling = defaults->sampling};
    line->options.struct_size = sizeof line->options;
    line->options.max_tokens = defaults->max_tokens;
    line->options.grammar = defaults->grammar;
    line->options.adapter = defaults->adapter;
    line->options.adapter_scale = defaults->adapter_scale;
}

int batch_line_read(struct batch_line *line, const struct batch_defaults *defaults,
                    struct grammar_cache *grammars, const char *text, size_t size)
{
    struct json_value object;
    set_defaults(line, defaults);
    if (json_in_check(&object, text, size, line->error, sizeof line->error) != 0)
        return -1;
    if (object.kind != JSON_OBJECT)
        return wrong(line, "the line is %.*s, expected an object", shown(object.size), object.text);
    if (read_members(line, &object) != 0 || read_prompt(line) != 0)
        return -1;
    if (line->logit_bias.size && read_bias(line) != 0)
        return -1;
    if (read_grammar(line, grammars) != 0)
        return -1;
    if (line->id.failed || line->name_space.failed || line->tenant.failed ||
        index_texts(&line->stop) != 0)
        return no_memory(line);
    line->options.sampling = &line->sampling;
    line->options.stop = line->stop.items;
    line->options.n_stop = line->stop.n;
    line->options.cache_namespace = line->name_space.data;
    line->options.tenant = line->tenant.data;
    return 0;
}

void batch_line_free(struct batch_line *line)
{
    buffer_free(&line->id);
    buffer_free(&line->prompt);
    buffer_free(&line->context);
    buffer_free(&line->name_space);
    buffer_free(&line->tenant);
    buffer_free(&line->grammar_text);
    buffer_free(&line->stop.all);
    buffer_free(&line->choices.all);
    free(line->stop.items);
    free(line->choices.items);
    free(line->ids);
    free(line->biases);
}
