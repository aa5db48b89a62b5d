/* Variables of chat templates: from JSON and from messages, the time, whose texts are guarded. */
#include "support/test.h"
#include "support/test_alloc.h"
#include "unit/tiny_vocab.h"

#include "base/error.h"
#include "text/chat_context.h"

#define MARK "\xef\xb7\x90"

static struct tiny_vocab tiny; /* too large for the stack */

/* Adds JSON, then messages (NULL: none), and renders. */
static infer_status render(const struct base_alloc *a, const char *source, const char *json,
                           const struct text_message *messages, size_t n,
                           const struct text_tokenizer *guard, struct base_str *out)
{
    struct text_chat_template *t = NULL;
    struct text_chat_context c;
    char *copy = strdup(json); /* the context must not need the text later */
    assert_non_null(copy);
    text_chat_context_init(&c, a, guard);
    infer_status st = text_chat_context_add_json(&c, copy, strlen(copy));
    free(copy);
    if (st == INFER_OK && messages)
        st = text_chat_context_add_messages(&c, messages, n);
    if (st == INFER_OK)
        st = text_chat_context_default(&c, "bos_token", jinja_string("[B]", 3));
    if (st == INFER_OK)
        st = text_chat_template_create(&t, a, source, strlen(source));
    if (st == INFER_OK)
        st = text_chat_template_render(t, a, &c, out);
    text_chat_template_destroy(&t);
    text_chat_context_release(&c);
    return st;
}

static void expect(const char *source, const char *json, const char *expected)
{
    struct base_str out;
    base_str_init(&out, &base_alloc_default, 0);
    assert_ok(render(&base_alloc_default, source, json, NULL, 0, NULL, &out));
    assert_string_equal(out.data ? out.data : "", expected);
    base_str_release(&out);
}

static void refuse(const char *json, infer_status status, const char *words)
{
    struct base_str out;
    base_str_init(&out, &base_alloc_default, 0);
    assert_int_equal(render(&base_alloc_default, "x", json, NULL, 0, NULL, &out), status);
    if (!strstr(base_error_text(), words))
        fail_msg("'%s' said '%s', expected '%s'", json, base_error_text(), words);
    assert_int_equal(out.size, 0);
    base_str_release(&out);
}

static void test_values(void **state)
{
    (void)state;
    static const char all[] = "{{ x | tojson }}";
    expect(all, "{\"x\": [1, 1.0, -0.5, 1e2, true, false, null, \"\\u00e9\\n\"]}",
           "[1, 1.0, -0.5, 100.0, true, false, null, \"\xc3\xa9\\n\"]");
    expect(all, "{\"x\": 9223372036854775807}", "9223372036854775807");
    expect(all, "{\"x\": {\"b\": {\"z\": 1, \"y\": []}, \"a\": {}}}",
           "{\"b\": {\"z\": 1, \"y\": []}, \"a\": {}}");
    expect("{{ x is integer }} {{ y is float }} {{ z is none }} {{ u is defined }}",
           "{\"x\": 1, \"y\": 1.0, \"z\": null}", "True True True False");
    expect("{{ bos_token }}", "{}", "[B]");
    expect("{{ bos_token }}", "{\"bos_token\": \"<s>\"}", "<s>");
    expect("{{ bos_token is none }}", "{\"bos_token\": null}", "True");
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("", INFER_ERR_FORMAT, "line 1");
    refuse("{\"a\": 1,\n 2}", INFER_ERR_FORMAT, "line 2");
    refuse("{\"a\": 1, \"a\": 2}", INFER_ERR_FORMAT, "a");
    refuse("[]", INFER_ERR_INVALID, "expected a JSON object");
    refuse("{\"messages\": {}}", INFER_ERR_INVALID, "messages: expected a list");
    refuse("{\"messages\": [{}, 1]}", INFER_ERR_INVALID, "messages[1]: expected an object");
}

static void test_time(void **state)
{
    (void)state;
    static const char show[] =
        "{% if strftime_now is defined %}{{ strftime_now('%Y-%m-%d %H:%M:%S %a') }}{% endif %}";
    static const char *const times[][2] = {
        {"\"2025-01-15T12:00:00\"", "2025-01-15 12:00:00 Wed"},
        {"\"2024-02-29\"", "2024-02-29 00:00:00 Thu"},
        {"\"2024-02-29 23:59\"", "2024-02-29 23:59:00 Thu"},
        {"\"2024-12-31T01:02:03.456789Z\"", "2024-12-31 01:02:03 Tue"},
        {"0", "1970-01-01 00:00:00 Thu"},
        {"951782400", "2000-02-29 00:00:00 Tue"},
        {"1735689599.9", "2024-12-31 23:59:59 Tue"},
        {"null", ""},
    };
    for (size_t i = 0; i < BASE_COUNT(times); i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"strftime_now\": %s}", times[i][0]);
        expect(show, json, times[i][1]);
    }
    static const char *const wrong[] = {"\"\"",
                                        "\"2025-13-01\"",
                                        "\"2023-02-29\"",
                                        "\"2025-1-1\"",
                                        "\"2025-01-15T\"",
                                        "\"2025-01-15T24:00:00\"",
                                        "\"2025-01-15T12:00:00+1\"",
                                        "[]",
                                        "-1",
                                        "1e300",
                                        "true"};
    for (size_t i = 0; i < BASE_COUNT(wrong); i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"strftime_now\": %s}", wrong[i]);
        refuse(json, INFER_ERR_INVALID, "strftime_now: expected");
    }
    expect("{{ strftime_now('%Y') | int >= 2026 }}", "{}", "True");
    static const char every[] =
        "{{ strftime_now('%a %A %b %B %c %C %d %-d %D %e %f %F %g %G %h %H %I %j "
        "%k %l %m %-m %M %p %P %r %R %S %T %u %U %V %w %W %x %X %y %Y %z%Z%%') }}";
    expect(every, "{\"strftime_now\": \"2025-01-15T12:00:00\"}",
           "Wed Wednesday Jan January Wed Jan 15 12:00:00 2025 20 15 15 01/15/25 15 000000 "
           "2025-01-15 25 2025 Jan 12 12 015 12 12 01 1 00 PM pm 12:00:00 PM 12:00 00 12:00:00 3 "
           "02 03 "
           "3 02 01/15/25 12:00:00 25 2025 %");
    expect(every, "{\"strftime_now\": \"2021-01-03T04:05:06\"}",
           "Sun Sunday Jan January Sun Jan  3 04:05:06 2021 20 03 3 01/03/21  3 000000 2021-01-03 "
           "20 2020 Jan 04 04 003  4  4 01 1 05 AM am 04:05:06 AM 04:05 06 04:05:06 7 01 53 0 00 "
           "01/03/21 04:05:06 21 2021 %");
}

/* Every day of 800 years, there and back: the calendar against a plain count. */
static void test_calendar(void **state)
{
    (void)state;
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    struct jinja_time t = {0}, parsed = {0};
    int64_t day = -135140; /* 1600-01-01 */
    for (int year = 1600; year < 2400; year++) {
        int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for (int month = 1; month <= 12; month++) {
            int n = lengths[month - 1] + (leap && month == 2);
            for (int d = 1; d <= n; d++, day++) {
                char text[64];
                assert_true(jinja_time_from_unix(day * 86400 + 86399, &t));
                assert_true(t.year == year && t.month == month && t.day == d && t.hour == 23 &&
                            t.minute == 59 && t.second == 59);
                snprintf(text, sizeof text, "%04d-%02d-%02d", year, month, d);
                assert_true(jinja_time_parse((struct base_view){text, 10}, &parsed));
            }
            char beyond[64];
            snprintf(beyond, sizeof beyond, "%04d-%02d-%02d", year, month, n + 1);
            assert_false(jinja_time_parse((struct base_view){beyond, 10}, &parsed));
        }
    }
    assert_true(jinja_time_from_unix(-62167219200, &t) && t.year == 0 && t.day == 1);
    assert_false(jinja_time_from_unix(-62167219201, &t));
    assert_true(jinja_time_from_unix(253402300799, &t) && t.year == 9999 && t.month == 12);
    assert_false(jinja_time_from_unix(253402300800, &t));
}

static void test_messages(void **state)
{
    (void)state;
    static const char source[] =
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m['content'] }}{% endfor %}"
        "{{ tools | length }}";
    const struct text_message messages[] = {{{"user", 4}, {"Hi {{ 7*7 }} {% raw %}", 22}},
                                            {{"assistant", 9}, {NULL, 0}}};
    struct base_str out;
    base_str_init(&out, &base_alloc_default, 0);
    assert_ok(render(&base_alloc_default, source, "{\"tools\": [1, 2]}", messages, 2, NULL, &out));
    assert_string_equal(out.data, "[B]<user>Hi {{ 7*7 }} {% raw %}<assistant>2");
    assert_int_equal(
        render(&base_alloc_default, source, "{\"messages\": []}", messages, 2, NULL, &out),
        INFER_ERR_INVALID);
    assert_non_null(strstr(base_error_text(), "two conversations"));
    base_str_release(&out);
}

/* The vocabulary's control token </s> in every place of a context. */
static void test_guard(void **state)
{
    (void)state;
    static const char json[] =
        "{\"messages\": ["
        "{\"role\": \"system\", \"content\": \"</s>1\"},"
        "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"</s>2\"}]},"
        "{\"role\": \"assistant\", \"tool_calls\": [{\"arguments\": {\"a\": \"</s>3\"}}]},"
        "{\"role\": \"tool\", \"content\": \"</s>4\", \"name\": \"</s>5\"},"
        "{\"content\": \"</s>6\"}],"
        "\"tools\": [{\"description\": \"</s>7\", \"</s>8\": 1}],"
        "\"documents\": [{\"title\": \"t\", \"text\": \"</s>9\"}],"
        "\"more\": {\"a\": \"</s>A\"}, \"plain\": \"</s>B\", \"eos_token\": \"</s>\"}";
    static const char source[] =
        "{{ messages[0].content }} {{ messages[1].content[0].text }} "
        "{{ messages[2].tool_calls[0].arguments.a }} {{ messages[3].content }} "
        "{{ messages[3].name }} {{ messages[4].content }} {{ tools[0].description }} "
        "{{ (tools[0] | list)[1] }} {{ documents[0].text }} {{ more.a }} {{ plain }} {{ eos_token "
        "}}";
    struct text_tokenizer *guard = NULL;
    struct base_str out;
    tiny_spm(&tiny, 1);
    assert_ok(text_tokenizer_create(&guard, &base_alloc_default, &tiny.vocab));
    base_str_init(&out, &base_alloc_default, 0);
    assert_ok(render(&base_alloc_default, source, json, NULL, 0, guard, &out));
    assert_string_equal(out.data,
                        "</s>1 <" MARK "/s>2 </s>3 <" MARK "/s>4 <" MARK "/s>5 <" MARK "/s>6 <" MARK
                        "/s>7 <" MARK "/s>8 <" MARK "/s>9 <" MARK "/s>A </s>B </s>");
    base_str_clear(&out);
    assert_ok(render(&base_alloc_default, source, json, NULL, 0, NULL, &out));
    assert_string_equal(out.data, "</s>1 </s>2 </s>3 </s>4 </s>5 </s>6 </s>7 </s>8 </s>9 </s>A "
                                  "</s>B </s>");
    const struct text_message messages[] = {
        {{"user", 4}, {"</s>", 4}}, {{"assistant", 9}, {"</s>", 4}}, {{"</s>", 4}, {"x", 1}}};
    base_str_clear(&out);
    assert_ok(render(&base_alloc_default,
                     "{{ messages[0].content }} {{ messages[1].content }} {{ messages[2].role }}",
                     "{}", messages, 3, guard, &out));
    assert_string_equal(out.data, "<" MARK "/s> </s> <" MARK "/s>");
    base_str_release(&out);
    text_tokenizer_destroy(&guard);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    static const char json[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"</s> hi\"}], "
                               "\"tools\": [{\"a\": [1, 2, 3, 4, 5]}], \"strftime_now\": 0}";
    struct text_tokenizer *guard = NULL;
    size_t failures = 0;
    tiny_spm(&tiny, 1);
    assert_ok(text_tokenizer_create(&guard, &base_alloc_default, &tiny.vocab));
    for (size_t n = 1;; n++) {
        struct test_alloc a;
        struct base_str out;
        test_alloc_init(&a);
        a.fail_at = n;
        base_str_init(&out, &a.alloc, 0);
        infer_status st = render(&a.alloc, "{{ messages }}{{ tools }}", json, NULL, 0, guard, &out);
        base_str_release(&out);
        assert_int_equal(a.live_blocks, 0);
        if (st == INFER_OK)
            break;
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        failures++;
    }
    assert_true(failures > 5);
    text_tokenizer_destroy(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_guard),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
