/* adapter_config.json of PEFT: rank, scale, and what cannot be done. */
#include "model/lora_file.h"

#include "base/error.h"
#include "base/json.h"

#include <math.h>
#include <string.h>

#define PATTERNS_MAX 16384
/* Most keys are names, which are compared as they are. What one search may cost, and how many
 * expressions there are, bounds the time that a hostile file takes. */
#define REGEXES_MAX 64
#define REGEX_STEPS UINT32_C(20000)
#define SHOW(view)  (int)BASE_MIN((view).size, (size_t)128), (view).data

struct model_lora_pattern {
    struct base_view name;    /* "." stands for any character, as in the expression it is */
    int32_t whole;            /* the name began with "^": nothing comes before it */
    struct text_regex *regex; /* NULL: the name */
    double value;
};

/* Whether a member says something: null, false, 0, "" and empty lists and objects do not. */
static int says(const struct base_json *v)
{
    int64_t number = 0;
    if (!v || v->type == BASE_JSON_NULL || v->type == BASE_JSON_FALSE)
        return 0;
    if (base_json_is(v, BASE_JSON_STRING))
        return v->as.text.size > 0;
    if (base_json_is(v, BASE_JSON_ARRAY) || base_json_is(v, BASE_JSON_OBJECT))
        return v->n > 0;
    return !base_json_i64(v, &number) || number != 0;
}

static int begins(struct base_view v, const char *text)
{
    size_t n = strlen(text);
    return v.size >= n && memcmp(v.data, text, n) == 0;
}

/* Parts of PEFT that change the computation, or that began by changing the model's own weights. */
static infer_status refuse_parts(const struct base_json *root)
{
    static const char *const parts[] = {
        "modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication",
        "lora_bias",       "alora_invocation_tokens", "megatron_config",   "arrow_config",
    };
    static const char *const starts[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    struct base_view text;
    for (size_t i = 0; i < BASE_COUNT(parts); i++)
        if (says(base_json_get(root, parts[i])))
            return base_error(INFER_ERR_UNSUPPORTED, "%s is not supported", parts[i]);
    for (uint32_t i = 0; i < root->n; i++) {
        struct base_view key = root->as.member[i].key;
        if (begins(key, "use_") && !base_view_equal(key, "use_rslora") &&
            says(&root->as.member[i].value))
            return base_error(INFER_ERR_UNSUPPORTED, "%.*s is not supported", SHOW(key));
    }
    if (base_json_string(base_json_get(root, "init_lora_weights"), &text))
        for (size_t i = 0; i < BASE_COUNT(starts); i++)
            if (begins(text, starts[i]))
                return base_error(INFER_ERR_UNSUPPORTED,
                                  "init_lora_weights is \"%.*s\": its training began by changing "
                                  "the model's weights; save it as a plain adapter",
                                  SHOW(text));
    const struct base_json *bias = base_json_get(root, "bias");
    if (says(bias) && !(base_json_string(bias, &text) && base_view_equal(text, "none")))
        return base_error(INFER_ERR_UNSUPPORTED, "bias is not \"none\"");
    return INFER_OK;
}

static infer_status read_number(const struct base_json *v, const char *what, double min,
                                double *out)
{
    double number;
    if (!v || v->type == BASE_JSON_NULL)
        return INFER_OK;
    if (!base_json_f64(v, &number) || !isfinite(number) || number < min || number > 1e9)
        return base_error(INFER_ERR_FORMAT, "%s is no number of %g to 1e9", what, min);
    *out = number;
    return INFER_OK;
}

/* Whether a key is no more than a name. */
static int is_name(struct base_view key)
{
    for (size_t i = 0; i < key.size; i++) {
        char c = key.data[i];
        int letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '.' && c != '-')
            return 0;
    }
    return 1;
}

/* A key names modules as PEFT matches them: the whole name, or its end behind a dot. */
static int fits_name(const struct model_lora_pattern *p, struct base_view module)
{
    if (p->name.size > module.size || (p->whole && p->name.size != module.size))
        return 0;
    size_t before = module.size - p->name.size;
    for (size_t i = 0; i < p->name.size; i++)
        if (p->name.data[i] != '.' && p->name.data[i] != module.data[before + i])
            return 0;
    return !before || module.data[before - 1] == '.';
}

static infer_status compile(struct model_lora_settings *s, struct base_view key,
                            struct text_regex **out)
{
    struct base_str text;
    base_str_init(&text, &s->arena.alloc, 0);
    infer_status st = base_str_append(&text, "^(?:.*\\.)?(?:", 13);
    if (st == INFER_OK)
        st = base_str_append(&text, key.data, key.size);
    if (st == INFER_OK)
        st = base_str_append(&text, ")$", 2);
    if (st == INFER_OK)
        st = text_regex_create(out, &s->arena.alloc, (struct base_view){text.data, text.size},
                               REGEX_STEPS);
    base_str_release(&text);
    return st;
}

static infer_status read_key(struct model_lora_settings *s, struct base_view key,
                             struct model_lora_pattern *out)
{
    out->name = key;
    if (key.size && key.data[0] == '^') {
        out->whole = 1;
        out->name = (struct base_view){key.data + 1, key.size - 1};
    }
    if (is_name(out->name))
        return INFER_OK;
    if (s->n_regexes++ == REGEXES_MAX)
        return base_error(INFER_ERR_LIMIT, "more than %d regular expressions", REGEXES_MAX);
    return compile(s, key, &out->regex);
}

static infer_status read_patterns(struct model_lora_settings *s, const struct base_json *root,
                                  const char *what, struct model_lora_pattern **out, size_t *n,
                                  double min)
{
    const struct base_json *object = base_json_get(root, what);
    if (!says(object))
        return INFER_OK;
    if (!base_json_is(object, BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "%s is no object", what);
    if (object->n > PATTERNS_MAX)
        return base_error(INFER_ERR_LIMIT, "%s has %u entries, at most %d", what, object->n,
                          PATTERNS_MAX);
    *out = base_arena_new(&s->arena, object->n, sizeof **out);
    if (!*out)
        return INFER_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < object->n; i++) {
        struct model_lora_pattern *p = &(*out)[i];
        p->value = NAN;
        infer_status st = read_number(&object->as.member[i].value, what, min, &p->value);
        if (st == INFER_OK && isnan(p->value))
            st = base_error(INFER_ERR_FORMAT, "%s has a null", what);
        if (st == INFER_OK)
            st = read_key(s, object->as.member[i].key, p);
        if (st != INFER_OK)
            return st;
        (*n)++;
    }
    return INFER_OK;
}

static infer_status read_settings(struct model_lora_settings *s, const struct base_json *root)
{
    struct base_view type;
    double rank = 8; /* what PEFT takes where the file is silent */
    s->alpha = 8;
    if (!base_json_is(root, BASE_JSON_OBJECT))
        return base_error(INFER_ERR_FORMAT, "no JSON object");
    if (!base_json_string(base_json_get(root, "peft_type"), &type))
        return base_error(INFER_ERR_FORMAT, "peft_type is missing");
    if (!base_view_equal(type, "LORA"))
        return base_error(INFER_ERR_UNSUPPORTED, "peft_type is \"%.*s\", expected \"LORA\"",
                          SHOW(type));
    infer_status st = refuse_parts(root);
    if (st == INFER_OK)
        st = read_number(base_json_get(root, "r"), "r", 1, &rank);
    if (st == INFER_OK)
        st = read_number(base_json_get(root, "lora_alpha"), "lora_alpha", -1e9, &s->alpha);
    s->rank = (int64_t)rank;
    base_json_bool(base_json_get(root, "use_rslora"), &s->rslora);
    if (st == INFER_OK)
        st = read_patterns(s, root, "rank_pattern", &s->ranks, &s->n_ranks, 1);
    if (st == INFER_OK)
        st = read_patterns(s, root, "alpha_pattern", &s->alphas, &s->n_alphas, -1e9);
    return st;
}

infer_status model_lora_settings_read(struct model_lora_settings *s, const struct base_alloc *a,
                                      const char *text, size_t size)
{
    const struct base_json *root;
    *s = (struct model_lora_settings){0};
    base_arena_init(&s->arena, a);
    infer_status st = text_matcher_init(&s->matcher, &s->arena.alloc);
    if (st == INFER_OK)
        st = base_json_parse(&root, &s->arena, text, size);
    return st == INFER_OK ? read_settings(s, root) : st;
}

void model_lora_settings_release(struct model_lora_settings *s)
{
    for (size_t i = 0; i < s->n_ranks; i++)
        text_regex_destroy(&s->ranks[i].regex);
    for (size_t i = 0; i < s->n_alphas; i++)
        text_regex_destroy(&s->alphas[i].regex);
    text_matcher_release(&s->matcher);
    base_arena_release(&s->arena);
}

static infer_status match(struct model_lora_settings *s, const struct model_lora_pattern *patterns,
                          size_t n, struct base_view module, double *value)
{
    for (size_t i = 0; i < n; i++) {
        size_t from, to;
        if (!patterns[i].regex && fits_name(&patterns[i], module)) {
            *value = patterns[i].value;
            return INFER_OK;
        }
        if (!patterns[i].regex)
            continue;
        infer_status st = text_regex_search(patterns[i].regex, &s->matcher, module.data,
                                            module.size, 0, &from, &to);
        if (st != INFER_OK)
            return st;
        if (from == 0 && to == module.size && module.size) {
            *value = patterns[i].value;
            return INFER_OK;
        }
    }
    return INFER_OK;
}

infer_status model_lora_settings_of(struct model_lora_settings *s, struct base_view module,
                                    int64_t *rank, double *scale)
{
    double r = (double)s->rank, alpha = s->alpha;
    infer_status st = match(s, s->ranks, s->n_ranks, module, &r);
    if (st == INFER_OK)
        st = match(s, s->alphas, s->n_alphas, module, &alpha);
    *rank = (int64_t)r;
    *scale = alpha / (s->rslora ? sqrt((double)*rank) : (double)*rank);
    return st;
}
