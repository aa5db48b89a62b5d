/* Tiny encoders as folders. */
#include "encoder_folder.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

void encoder_folder_file(const char *folder, const char *name, const char *text)
{
    char path[600];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_true(n > 0 && (size_t)n < sizeof path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

void encoder_folder_modules(const char *folder)
{
    encoder_folder_file(folder, "modules.json",
                        "[{\"idx\":0,\"name\":\"0\",\"path\":\"\","
                        "\"type\":\"sentence_transformers.models.Transformer\"},"
                        "{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\","
                        "\"type\":\"sentence_transformers.models.Pooling\"},"
                        "{\"idx\":2,\"name\":\"2\",\"path\":\"2_Normalize\","
                        "\"type\":\"sentence_transformers.models.Normalize\"}]");
}

#define SPECIAL(name)  "{\"SpecialToken\":{\"id\":\"" name "\",\"type_id\":0}}"
#define SEQUENCE(a, t) "{\"Sequence\":{\"id\":\"" a "\",\"type_id\":" t "}}"

/* WordPiece over words, with a template as BERT's, or one that adds nothing. */
static void write_tokenizer(const char *folder, int special)
{
    static char text[16384];
    int n = snprintf(
        text, sizeof text,
        "{%s"
        "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
        "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
        "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[%s],\"pair\":[%s],"
        "\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},"
        "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}},"
        "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
        "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{"
        "\"[PAD]\":0,\"[UNK]\":1,\"%s\":2,\"%s\":3",
        special ? "\"added_tokens\":[{\"id\":2,\"content\":\"[CLS]\",\"special\":true},"
                  "{\"id\":3,\"content\":\"[SEP]\",\"special\":true}],"
                : "",
        special ? SPECIAL("[CLS]") "," SEQUENCE("A", "0") "," SPECIAL("[SEP]") : SEQUENCE("A", "0"),
        special ? SPECIAL("[CLS]") "," SEQUENCE("A", "0") "," SPECIAL("[SEP]") "," SEQUENCE(
                      "B", "1") "," SPECIAL("[SEP]")
                : SEQUENCE("A", "0") "," SEQUENCE("B", "1"),
        special ? "[CLS]" : "x2", special ? "[SEP]" : "x3");
    for (int i = 0; i < ENCODER_WORDS; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, ",\"w%d\":%d", i, i + ENCODER_FIRST);
    snprintf(text + n, sizeof text - (size_t)n, "}}}");
    encoder_folder_file(folder, "tokenizer.json", text);
}

void encoder_folder_make(struct encoder_folder *f, const struct encoder_kind *kind)
{
    char path[600];
    json_error_t error;
    snprintf(path, sizeof path, "tests/model/encoder/%s.json", kind->fixture);
    *f = (struct encoder_folder){.fixture = {.root = json_load_file(test_source(path), 0, &error)}};
    assert_non_null(f->fixture.root);
    arch_folder_make(f->path, sizeof f->path);
    arch_fixture_write(&f->fixture, f->path, "F32");
    write_tokenizer(f->path, kind->special);
    if (!kind->pooling)
        return;
    snprintf(path, sizeof path, "%s/1_Pooling", f->path);
    assert_int_equal(mkdir(path, 0700), 0);
    encoder_folder_file(path, "config.json", kind->pooling);
    encoder_folder_modules(f->path);
    encoder_folder_file(f->path, "config_sentence_transformers.json",
                        "{\"prompts\":{\"query\":\"w7 w8 \",\"document\":\"w9 \"}}");
    encoder_folder_file(f->path, "sentence_bert_config.json", "{\"max_seq_length\":32}");
}

void encoder_folder_remove(struct encoder_folder *f)
{
    static const char *const names[] = {"1_Pooling/config.json", "1_Pooling", "modules.json",
                                        "config_sentence_transformers.json",
                                        "sentence_bert_config.json"};
    char path[600];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", f->path, names[i]);
        (void)remove(path); /* not all have them */
    }
    arch_folder_remove(f->path);
    json_decref(f->fixture.root);
}

void encoder_folder_words(const json_t *text, size_t first, size_t end, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    for (size_t i = first; i < end; i++) {
        json_int_t id = json_integer_value(json_array_get(json_object_get(text, "tokens"), i));
        assert_in_range(id, ENCODER_FIRST - 2, ENCODER_FIRST + ENCODER_WORDS - 1);
        n += (size_t)snprintf(out + n, size - n, "%s%c%d", n ? " " : "",
                              id < ENCODER_FIRST ? 'x' : 'w',
                              (int)(id < ENCODER_FIRST ? id : id - ENCODER_FIRST));
    }
}

double encoder_folder_apart(const float *got, const json_t *want)
{
    double apart = 0, largest = 0;
    size_t k;
    json_t *value;
    assert_true(json_array_size(want) > 0);
    json_array_foreach(want, k, value)
    {
        const double number = json_number_value(value), d = fabs((double)got[k] - number);
        apart = d <= apart ? apart : isnan(d) ? INFINITY : d;
        largest = fabs(number) > largest ? fabs(number) : largest;
    }
    return apart / largest;
}
