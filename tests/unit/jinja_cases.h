/* Templates and what Jinja2 3.1.6 makes of them, with trim_blocks, lstrip_blocks and
 * the publishers' tojson, over the context at the end. */
#ifndef TESTS_UNIT_JINJA_CASES_H
#define TESTS_UNIT_JINJA_CASES_H

struct jinja_case {
    const char *source, *expected;
};

static const struct jinja_case printing_cases[] = {
    {"{{ 1 }} {{ 1.0 }} {{ 1e16 }} {{ 1.5e-5 }} {{ 0.1 + 0.2 }} {{ -0.0 }}",
     "1 1.0 1e+16 1.5e-05 0.30000000000000004 -0.0"},
    {"{{ 5e-324 }} {{ 1.7976931348623157e308 }} {{ 1e22 }} {{ 123456789.123456789 "
     "}} {{ 1/3 }} {{ 0.0001 }}",
     "5e-324 1.7976931348623157e+308 1e+22 123456789.12345679 0.3333333333333333 "
     "0.0001"},
    {"{{ 1e400 }} {{ -1e400 }} {{ 1e400 - 1e400 }}", "inf -inf nan"},
    {"{{ true }} {{ False }} {{ none }} {{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 0o17 "
     "}} {{ 1_0.5 }}",
     "True False None 1000 31 3 15 10.5"},
    {"{{ [1, 'a', none, true, 1.5, {'k': 'v'}, (1,), (), (1, 2)] }}",
     "[1, 'a', None, True, 1.5, {'k': 'v'}, (1,), (), (1, 2)]"},
    {"{{ [\"it's\", '\"', \"'\\\"\", '\\n\\t\\r\\\\', '\\x01é\\u200b', 'ß'] }}",
     "[\"it's\", '\"', '\\'\"', '\\n\\t\\r\\\\', '\\x01é\\u200b', 'ß']"},
    {"{{ {'a': 1, 2: 'b', none: [], (1, 2): 3.0} }} {{ {1: 'a', 1.0: 'b', true: "
     "'c'} }}",
     "{'a': 1, 2: 'b', None: [], (1, 2): 3.0} {1: 'c'}"},
    {"{{ d.keys() }} {{ d.values() }} {{ d.items() }} {{ range(3) }} {{ range(0, "
     "9, 2) }}",
     "dict_keys(['b', 'a', 'C', 'keys']) dict_values([1, 'x', None, 5]) dict_items([('b', "
     "1), ('a', 'x'), ('C', None), ('keys', 5)]) range(0, 3) range(0, 9, 2)"},
    {"{{ 'a' 'b' \"c\" }} {{ 'a\\tb\\x41\\u00e9\\101\\q' }} {{ 'it\\'s' }} {{ '\\U0001F30D' "
     "}}",
     "abc a\tbAéA\\q it's 🌍"},
    {"{{ missing }}|{{ d.missing }}|{{ nums[9] }}|{{ 'x' if no }}|{{ [missing] "
     "}}",
     "||||[Undefined]"},
    {"{{ 1, 2 }} {{ (1) }} {{ [1, 2,] }} {{ {'a': 1,} }}", "(1, 2) 1 [1, 2] {'a': 1}"},
};

static const struct jinja_case arithmetic_cases[] = {
    {"{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 "
     "}} {{ 6 / 2 }}",
     "3 -4 1 2 -2 3.5 3.0"},
    {"{{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 7.0 // -2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} "
     "{{ 2 ** 0.5 }}",
     "3.0 0.5 -4.0 1024 0.5 1.4142135623730951"},
    {"{{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 2 + 3 * 4 ** 2 // 5 - 1 }} {{ 1 - 1 - "
     "1 }} {{ 10 / 4 }}",
     "4 64 10 -1 2.5"},
    {"{{ 'a' + 'b' }} {{ 'a' ~ 1 ~ none ~ true ~ 1.5 }} {{ 'ab' * 3 }} {{ 3 * 'ab' "
     "}} {{ [1] * 2 }} {{ [1] + [2] }} {{ (1,) + (2,) }}",
     "ab a1NoneTrue1.5 ababab ababab [1, 1] [1, 2] (1, 2)"},
    {"{{ 'a' ~ nums | length }} {{ 2 * nums | length }} {{ -1 | abs }} {{ true "
     "+ true }} {{ +5 }} {{ -true }}",
     "a4 8 1 2 5 -1"},
    {"{{ 9007199254740993 + 1 }} {{ 9007199254740993 == 9007199254740992.0 }} {{ "
     "9007199254740993 > 9007199254740992.0 }} {{ 2 ** 62 }}",
     "9007199254740994 False True 4611686018427387904"},
};

static const struct jinja_case comparing_cases[] = {
    {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ 'a' < 'b' "
     "}} {{ [1, 2] < [1, 3] }} {{ (1,) == [1] }} {{ 'a' == 1 }}",
     "True False True True True True False False"},
    {"{{ [1, 2] == [1, 2.0] }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1.0} }} {{ "
     "none == none }} {{ missing == other }} {{ missing == none }}",
     "True True True True False"},
    {"{{ 'a' in 'abc' }} {{ 'a' not in 'abc' }} {{ 1 in [1, 2] }} {{ 'a' in d }} "
     "{{ 5 in (1, 5) }} {{ 2.0 in range(3) }} {{ 'x' in missing }} {{ 1 == 1 in "
     "[true] }}",
     "True False True True True True False True"},
    {"{{ 1 and 2 }} {{ 0 or 'x' }} {{ '' or none }} {{ not 1 }} {{ not '' and 1 "
     "}} {{ [] or {} }} {{ not 3 in nums }}",
     "2 x None False 1 {} False"},
    {"{{ 'a' if no else 'b' if yes else 'c' }} {{ 1 if true else 2 if false else "
     "3 }} {{ ('x' if no) is undefined }}",
     "b 1 True"},
    {"{{ '你' > '😀' }} {{ 'é' > 'z' }} {{ 'nan' | float == 'nan' | float }}", "False True False"},
};

static const struct jinja_case reaching_cases[] = {
    {"{{ d.a }} {{ d['a'] }} {{ d['keys'] }} {{ d.get('a') }} {{ d.get('zz') }} "
     "{{ d.get('zz', 4) }} {{ d.zz is defined }}",
     "x x 5 x None 4 False"},
    {"{{ nums[0] }} {{ nums[-1] }} {{ nums.1 }} {{ nums[1:] }} {{ nums[:-1] }} "
     "{{ nums[::-1] }} {{ nums[::2] }} {{ nums[-9:2] }} {{ nums[none:2] }}",
     "3 -4 1 [1, 2.5, -4] [3, 1, 2.5] [-4, 2.5, 1, 3] [3, 2.5] [3, 1] [3, 1]"},
    {"{{ 'abc'[0] }} {{ messages[1].content[1:3] }} {{ 'abc'[::-1] }} {{ (1, 2, "
     "3)[::-1] }} {{ range(10)[2:5] }} {{ range(10)[2] }} {{ 'abc'[7] }}|",
     "a él cba (3, 2, 1) range(2, 5) 2 |"},
    {"{{ messages[1].calls[0].args.b[1] }} {{ messages[0]['role'] }} {{ (messages "
     "| last).role }} {{ {'a': {'b': 2}}.a.b }} {{ none.x }}|{{ 5[0] }}|{{ nums['a'] "
     "}}|",
     "2.5 user user 2 |||"},
    {"{{ nums.append is defined }} {{ d.update is defined }} {{ nums.index(1) }} "
     "{{ nums.count(3) }} {{ nums.1.5 }}|",
     "False False 1 1 |"},
};

static const struct jinja_case texts_cases[] = {
    {"{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ "
     "'abcab'.lstrip('ab') }}|{{ s | trim }}|{{ '\\u00a0x\\u3000' | trim }}",
     "Hello World|Hello World  |  Hello World|a|cab|Hello World|x"},
    {"{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a,b,c'.split(',', "
     "1) }} {{ ' a b c '.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }}",
     "['a', 'b', '', 'c'] ['a', 'b', 'c'] ['a', 'b,c'] ['a', 'b c '] [] ['']"},
    {"{{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ ' a b '.split(maxspli"
     "t=0) }} {{ 'a-b'.split(sep='-') }}",
     "['a,b', 'c'] [' a b', 'c'] ['a b '] ['a', 'b']"},
    {"{{ 'abc'.startswith('a') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc')"
     " }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith('b', 0, 2) }}",
     "True True True True True"},
    {"{{ 'aXbXc'.replace('X', '-', 1) }} {{ 'abc'.replace('', '-') }} {{ 'aXb' "
     "| replace('X', 'y') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 5 | replace('5', "
     "'6') }}",
     "a-bXc -a-b-c- ayb bba 6"},
    {"{{ \"they're bill's\".title() }} {{ \"they're-b (x) [y\" | title }} {{ 'hELLO "
     "wORLD' | capitalize }} {{ 'aBc'.swapcase() }}",
     "They'Re Bill'S They're-B (X) [Y Hello world AbC"},
    {"{{ 'ÄÖß ǆ ﬁ ΣΑΣ' | upper }} {{ 'ÄÖß ǆ ﬁ ΣΑΣ' | lower }} {{ 'äöß ǆ ﬁ ΣΑΣ'.title() "
     "}} {{ 'ßÄ'.casefold() }}",
     "ÄÖSS Ǆ FI ΣΑΣ äöß ǆ ﬁ σας Äöß ǅ Fi Σας ssä"},
    {"{{ 'abc'.find('c') }} {{ 'abc'.find('z') }} {{ 'abcabc'.rfind('b') }} {{ "
     "'héllo'.find('l') }} {{ 'aaa'.count('a') }} {{ 'aaa'.count('') }}",
     "2 -1 4 2 3 4"},
    {"{{ 'a-b-c'.partition('-') }} {{ 'a-b-c'.rpartition('-') }} {{ 'abc'.partition('-') "
     "}} {{ 'abc'.rpartition('-') }}",
     "('a', '-', 'b-c') ('a-b', '-', 'c') ('abc', '', '') ('', '', 'abc')"},
    {"{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('bc') }} {{ 'x'.ljust(3) "
     "}}|{{ 'x'.rjust(3, '-') }} {{ 'xy'.center(5, '*') }} {{ '-42'.zfill(6) }}",
     "bc a x  |--x **xy* -00042"},
    {"{{ ','.join(['a', 'b']) }} {{ lines.splitlines() }} {{ 'a\\r\\nb\\rc'.splitlines(true)"
     " }}",
     "a,b ['one', 'two', '', 'four'] ['a\\r\\n', 'b\\r', 'c']"},
    {"{{ 'abc'.isalpha() }} {{ 'a1'.isalnum() }} {{ '12'.isdigit() }} {{ ' '.isspace() "
     "}} {{ 'ab'.islower() }} {{ 'AB'.isupper() }} {{ ''.isalpha() }} {{ 'é'.isascii() "
     "}}",
     "True True True True True True False False"},
    {"{{ lines | indent }}|{{ lines | indent(2, true) }}|{{ lines | indent('> ', "
     "first=true, blank=true) }}|{{ 'a\\n' | indent(blank=true) }}|{{ '' | indent(2, "
     "true) }}",
     "one\n    two\n\n    four|  one\n  two\n\n  four|> one\n> two\n> \n> four|a\n "
     "   |  "},
    {"{{ 'hello world foo' | truncate(11) }} {{ 'hello world foo bar baz' | truncate(11) "
     "}} {{ 'hello world foo bar baz' | truncate(9, true) }} {{ 'a b_c-d' | wordcount "
     "}}",
     "hello world foo hello... hello ... 3"},
    {"{{ 'a b&c/d?é' | urlencode }} {{ {'a': 'b c', 'd': '/'} | urlencode }} {{ "
     "'ab' | center(6) }}|",
     "a%20b%26c/d%3F%C3%A9 a=b+c&d=%2F   ab  |"},
};

static const struct jinja_case formats_cases[] = {
    {"{{ \"%s and %d\" % ('x', 5) }} {{ \"%5d|%-5d|%05d|%+d|% d\" % (1, 2, 3, 4, "
     "5) }} {{ \"%.2f %e %g %G\" % (1.005, 12345.678, 0.00001, 1e20) }}",
     "x and 5     1|2    |00003|+4| 5 1.00 1.234568e+04 1e-05 1E+20"},
    {"{{ \"%x %X %o %#x\" % (255, 255, 8, 255) }} {{ \"%r %s\" % ('a', none) }} "
     "{{ \"%%\" % () }} {{ \"%(a)s\" % {'a': 1} }} {{ \"%5s|%-5s|%.2s\" % ('a', "
     "'b', 'cde') }}",
     "ff FF 10 0xff 'a' None % 1     a|b    |cd"},
    {"{{ \"%s %s\" | format('a', 'b') }} {{ \"%(x)s\" | format(x=3) }} {{ \"%*d\" "
     "% (5, 3) }} {{ \"%010.3f\" % 3.14159 }} {{ \"%s\" % [1, 2] }}",
     "a b 3     3 000003.142 [1, 2]"},
    {"{{ \"{} {}\".format(1, 'a') }} {{ \"{0}{1}{0}\".format('a', 'b') }} {{ \"{x}\".format("
     "x=1) }} {{ \"{0.role} {0[role]}\".format(messages[0]) }} {{ \"{{}}\".format() "
     "}}",
     "1 a aba 1 user user {}"},
    {"{{ \"{:>5}|{:<5}|{:^5}|{:*^7}\".format('a', 'b', 'c', 'd') }} {{ \"{!r} {!s}\".format("
     "'a', 'b') }} {{ \"{:{w}}|\".format('a', w=4) }} {{ \"{:.3}\".format('abcdef') "
     "}}",
     "    a|b    |  c  |***d*** 'a' b a   | abc"},
    {"{{ \"{:05d} {:,} {:.2f} {:e} {:%} {:x} {:#x} {:b} {:+d}\".format(42, 1234567, "
     "3.14159, 1234.5, 0.25, 255, 255, 5, 3) }} {{ \"{:,.2f}\".format(1234567.891) "
     "}}",
     "00042 1,234,567 3.14 1.234500e+03 25.000000% ff 0xff 101 +3 1,234,567.89"},
};

static const struct jinja_case numbers_cases[] = {
    {"{{ '12' | int }} {{ '12.7' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ "
     "-3.9 | int }} {{ true | int }} {{ none | int }} {{ '1f' | int(base=16) }} "
     "{{ ' 12 ' | int }} {{ '1_000' | int }}",
     "12 12 0 5 -3 1 0 31 12 1000"},
    {"{{ '1.5' | float }} {{ 'x' | float(2) }} {{ '1e3' | float }} {{ 'inf' | float "
     "}} {{ 'nan' | float }} {{ none | float }}",
     "1.5 2 1000.0 inf nan 0.0"},
    {"{{ 42.55 | round }} {{ 42.55 | round(1) }} {{ 42.5 | round }} {{ 42.55 | "
     "round(1, 'floor') }} {{ 42.51 | round(0, 'ceil') }} {{ 42 | round }} {{ 2.675 "
     "| round(2) }} {{ 1234.5 | round(-2) }}",
     "43.0 42.5 42.0 42.5 43.0 42 2.67 1200.0"},
    {"{{ -5 | abs }} {{ (-5.5) | abs }} {{ nums | sum }} {{ people | sum(attribute='age') "
     "}} {{ [1, 2] | sum(start=10) }} {{ nums | min }} {{ nums | max }} {{ words "
     "| min }}",
     "5 5.5 2.5 85 13 -4 3 A"},
};

static const struct jinja_case lists_cases[] = {
    {"{{ nums | sort }} {{ nums | sort(reverse=true) }} {{ words | sort }} {{ words "
     "| sort(case_sensitive=true) }} {{ people | sort(attribute='age,name') | map(attribute="
     "'name') | list }}",
     "[-4, 1, 2.5, 3] [3, 2.5, 1, -4] ['A', 'a', 'b', 'c'] ['A', 'a', 'b', 'c'] "
     "['al', 'Bob', 'Cy']"},
    {"{{ people | sort(attribute='age', reverse=true) | map(attribute='name') | "
     "list }} {{ d | dictsort }} {{ {'x': 3, 'y': 1} | dictsort(by='value') }} "
     "{{ d | items | list }}",
     "['Bob', 'Cy', 'al'] [('a', 'x'), ('b', 1), ('C', None), ('keys', 5)] [('y', "
     "1), ('x', 3)] [('b', 1), ('a', 'x'), ('C', None), ('keys', 5)]"},
    {"{{ words | unique | list }} {{ [1, 1.0, true, 2] | unique | list }} {{ people "
     "| unique(attribute='city') | map(attribute='name') | join(',') }}",
     "['b', 'A', 'c'] [1, 2] Bob,al"},
    {"{{ nums | first }} {{ nums | last }} {{ [] | first }}| {{ 'abé' | last }} "
     "{{ d | first }} {{ nums | reverse | list }} {{ 'abc' | reverse }} {{ range(7) "
     "| batch(3) | list }} {{ range(4) | batch(3, 'x') | list }} {{ range(7) | "
     "slice(3) | list }}",
     "3 -4 | é b [-4, 2.5, 1, 3] cba [[0, 1, 2], [3, 4, 5], [6]] [[0, 1, 2], [3, "
     "'x', 'x']] [[0, 1, 2], [3, 4], [5, 6]]"},
    {"{{ people | groupby('city') | length }} {% for k, v in people | groupby('age') "
     "%}{{ k }}:{{ v | map(attribute='name') | join('+') }};{% endfor %}{% for "
     "g in people | groupby('city') %}{{ g.grouper }}={{ g.list | length }} {% "
     "endfor %}",
     "2 25:al;30:Bob+Cy;X=2 Y=1 "},
    {"{{ [3, -1] | map('abs') | list }} {{ words | map('upper') | join }} {{ people "
     "| map(attribute='zip', default='?') | list }} {{ ['a b'] | map('replace', "
     "' ', '-') | list }} {{ messages[1:2] | map(attribute='calls.0.name') | list "
     "}}",
     "[3, 1] BACA ['?', '?', '?'] ['a-b'] ['f']"},
    {"{{ nums | select('gt', 1) | list }} {{ [1, 2, 3] | reject('odd') | list }} "
     "{{ [0, 1, ''] | select | list }} {{ people | selectattr('age', 'eq', 30) "
     "| map(attribute='name') | list }} {{ messages | rejectattr('calls', 'defined') "
     "| map(attribute='content') | join('|') }}",
     "[3, 2.5] [2] [1] ['Bob', 'Cy'] Hi <b>|x"},
    {"{% set x = messages | map(attribute='role') %}{{ x | list }}{{ x | list }} "
     "{% set y = nums | select('gt', 0) %}{{ y | first }}{{ y | list }} {{ (nums "
     "| select('gt', 0))[0] }}|",
     "['user', 'assistant', 'user'][] 3[1, 2.5] |"},
    {"{{ [1, none, 'x'] | join(',') }} {{ people | join(',', attribute='name') "
     "}} {{ 'abc' | join('-') }} {{ dict(a=1, b=2) }} {{ dict([('x', 1)]) }} {{ "
     "range(5, 0, -2) | list }} {{ nums | length }} {{ 'héllo' | length }}",
     "1,None,x Bob,al,Cy a-b-c {'a': 1, 'b': 2} {'x': 1} [5, 3, 1] 4 5"},
};

static const struct jinja_case json_cases[] = {
    {"{{ d | tojson }} {{ messages | tojson }} {{ {} | tojson(indent=2) }} {{ (1, "
     "2) | tojson }} {{ 'a</b>&\\'\"' | tojson }} {{ {1: 2, none: 3, true: 4, 1.5: "
     "5} | tojson }}",
     "{\"b\": 1, \"a\": \"x\", \"C\": null, \"keys\": 5} [{\"role\": \"user\", "
     "\"content\": \"Hi <b>\"}, {\"role\": \"assistant\", \"content\": \"héllo "
     "你好\", \"calls\": [{\"name\": \"f\", \"args\": {\"a\": 1, \"b\": [1, 2.5, "
     "null, true]}}]}, {\"role\": \"user\", \"content\": \"x\"}] {} [1, 2] \"a</b>&'\\\"\" "
     "{\"1\": 4, \"null\": 3, \"1.5\": 5}"},
    {"{{ messages[1] | tojson(indent=2) }}",
     "{\n  \"role\": \"assistant\",\n  \"content\": \"héllo 你好\",\n  \"calls\": "
     "[\n    {\n      \"name\": \"f\",\n      \"args\": {\n        \"a\": 1,\n "
     "       \"b\": [\n          1,\n          2.5,\n          null,\n         "
     " true\n        ]\n      }\n    }\n  ]\n}"},
    {"{{ '\\x01\\x7f\\n\\\\ é 🌍' | tojson }} {{ '\\x01\\x7f\\n\\\\ é 🌍' | tojson(ensure_asci"
     "i=true) }} {{ d | tojson(separators=(',', ':')) }} {{ {'b': 1, 'a': 2} | "
     "tojson(sort_keys=true) }} {{ [1e400, 0.1, 1e20] | tojson }} {{ [1] | tojson(indent='--"
     "') }}",
     "\"\\u0001\177\\n\\\\ é 🌍\" \"\\u0001\\u007f\\n\\\\ \\u00e9 \\ud83c\\udf0d\" "
     "{\"b\":1,\"a\":\"x\",\"C\":null,\"keys\":5} {\"a\": 2, \"b\": 1} [Infinity, "
     "0.1, 1e+20] [\n--1\n]"},
};

static const struct jinja_case tests_cases[] = {
    {"{{ 1 is odd }} {{ 2 is even }} {{ 6 is divisibleby 3 }} {{ 1 is number }} "
     "{{ true is number }} {{ 1.5 is float }} {{ 1 is integer }} {{ true is integer "
     "}} {{ true is boolean }} {{ none is none }} {{ 'a' is string }}",
     "True True True True True True True False True True True"},
    {"{{ [] is sequence }} {{ {} is mapping }} {{ {} is sequence }} {{ 'a' is iterable "
     "}} {{ 5 is iterable }} {{ true is true }} {{ 1 is true }} {{ false is false "
     "}} {{ 'a' is lower }} {{ 'A' is upper }} {{ none is sameas none }} {{ [] "
     "is sameas [] }}",
     "True True True True False True False True True True True False"},
    {"{{ 1 is eq 1 }} {{ 1 is lt(2) }} {{ 2 is ge 2 }} {{ 1 is in [1] }} {{ 1 is "
     "not in [1] }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ range is callable "
     "}} {{ d.items() is sequence }} {{ nums | map('abs') is iterable }}",
     "True True True True False True True True False True"},
    {"{{ missing is defined }} {{ missing is iterable }} {{ missing is sequence "
     "}} {{ missing is string }} {{ 1 is not string and true }} {{ not 1 is string "
     "}} {{ missing | default('z') }} {{ '' | default('z') }}| {{ '' | default('z', "
     "true) }} {{ missing | length }} {{ missing | list }}",
     "False True True False True True z | z 0 []"},
};

static const struct jinja_case markup_cases[] = {
    {"{{ '<a>' | e }} {{ '<a>' | safe }} {{ '<a>' | safe + '<b>' }} {{ '<b>' + "
     "'<a>' | safe }} {{ ('<a>' | safe) ~ '<b>' }} {{ ('<a>' | e) | e }} {{ ['<a>' "
     "| safe] }} {{ ('%s' | safe) % '<' }} {{ ('{}' | safe).format('<') }} {{ ('<,<' "
     "| safe).split(',')[0] + '<' }} {{ ('<' | safe) | upper + '<' }}",
     "&lt;a&gt; <a> <a>&lt;b&gt; &lt;b&gt;<a> <a><b> &lt;a&gt; [Markup('<a>')] "
     "&lt; &lt; <&lt; <&lt;"},
};

static const struct jinja_case loops_cases[] = {
    {"{% for x in nums %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ "
     "loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.previtem "
     "}}/{{ loop.nextitem }}/{{ loop.cycle('a', 'b') }}/{{ loop.changed(x > 0) "
     "}}/{{ loop.depth }};{% endfor %}",
     "1/0/4/3/True/False/4//1/a/True/1;2/1/3/2/False/False/4/3/2.5/b/False/1;3/2/2/1/False/F"
     "alse/4/1/-4/a/False/1;4/3/1/0/False/True/4/2.5//b/True/1;"},
    {"{% for x in [] %}a{% else %}empty{% endfor %} {% for k, v in d.items() %}{{ "
     "k }}={{ v }} {% endfor %} {% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b "
     "}}{{ c }}{% endfor %} {% for x in 'abc' %}{{ x }}.{% endfor %}",
     "empty b=1 a=x C=None keys=5  123 a.b.c."},
    {"{% for x in nums if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %} {% for "
     "x in nums if x > 100 %}a{% else %}none{% endfor %} {% for x in missing %}a{% "
     "else %}b{% endfor %}",
     "1:3 2:2.5  none b"},
    {"{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == "
     "5 %}{% break %}{% endif %}{{ x }}{% endfor %} {% for x in range(3) %}{% break "
     "%}{% else %}E{% endfor %} {% for x in range(3) %}{% if x == 1 %}{% break "
     "%}{% endif %}{% else %}E{% endfor %}",
     "0134 E "},
    {"{% for n in tree recursive %}{{ n.v }}{% if n.c %}({{ loop(n.c) }}){% endif "
     "%}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
     "1(2213(432)21)10"},
    {"{% for x in [1, 2] %}{% set outer = loop %}{% for y in [1, 2] %}{{ outer.index "
     "}}{{ loop.index }} {% endfor %}{{ loop.index }} {% endfor %}{{ loop is defined "
     "}}",
     "11 12 1 21 22 2 False"},
};

static const struct jinja_case scopes_cases[] = {
    {"{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ "
     "x }}",
     "231"},
    {"{% set ns = namespace(x=1, y='a') %}{% for i in [1, 2] %}{% set ns.x = ns.x "
     "+ i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z }}|{{ ns }} {{ ns['x'] }}",
     "4a|<Namespace {'x': 4, 'y': 'a'}> 4"},
    {"{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set c = 1, 2 %}{{ c }} {% set (e, "
     "f) = [3, 4] %}{{ e }}{{ f }}",
     "12 (1, 2) 34"},
    {"{% set x %}  hello {{ 1 }} {% endset %}[{{ x }}] {% set y | upper | trim "
     "%} abc {% endset %}[{{ y }}] {% if no %}{% set z = 1 %}{% endif %}{{ z is "
     "defined }}",
     "[  hello 1 ] [ABC] False"},
    {"{% macro m(a, b=2, c=a) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ m(1) }} "
     "{{ m(1, 3) }} {{ m(a=5, c=1) }} {{ m() }}| {{ m(1, 2, 3) }} {{ m }} {{ m(*[1, "
     "2]) }} {{ m(1, **{'b': 4}) }}",
     "1-2-1 1-3-1 5-2-1 -2-| 1-2-3 <Macro 'm'> 1-2-1 1-4-1"},
    {"{% macro m() %}{{ varargs }} {{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }} "
     "{% macro r(x) %}{% if x > 0 %}{{ x }}{{ r(x - 1) }}{% endif %}{% endmacro "
     "%}{{ r(5) }}",
     "(1, 2) {'x': 3} 54321"},
    {"{% macro m(a) %}<{{ a }}>{{ caller() }}</>{% endmacro %}{% call m('x') %}body "
     "{{ yes }}{% endcall %} {% macro l(xs) %}{% for x in xs %}{{ caller(x, k=1) "
     "}}{% endfor %}{% endmacro %}{% call(x, k=0) l([1, 2]) %}[{{ x }}{{ k }}]{% "
     "endcall %}",
     "<x>body True</> [11][21]"},
    {"{% set g = 1 %}{% macro m() %}{{ g }}{% set g = 5 %}{{ g }}{% endmacro %}{{ "
     "m() }}{{ g }}{% set g = 2 %}{{ m() }}",
     "15125"},
    {"{% filter upper %}abc {{ 'def' }}{% endfilter %} {% with a=1, b=2 %}{{ a "
     "}}{{ b }}{% endwith %}{{ a is defined }} {% set a = 5 %}{% with a = a + 1, "
     "b = a %}{{ a }}{{ b }}{% endwith %}",
     "ABC DEF 12False 65"},
    {"{% generation %}x{% set inner = 1 %}{{ inner }}{% endgeneration %}{{ inner "
     "is defined }} {% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ "
     "c.next() }}{{ c.current }} {% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ "
     "j() }}",
     "x1False abab a|b|"},
    {"{{ strftime_now('%Y-%m-%d %H:%M:%S %B %b %A %a %d %j %p %I %y %-d %e %%') "
     "}}",
     "2025-01-15 12:00:00 January Jan Wednesday Wed 15 015 PM 12 25 15 15 %"},
    {"{% if no %}{{ 1 | nope }}{% endif %}{{ 1 | nope if no else 2 }}", "2"},
};

static const struct jinja_case white_space_cases[] = {
    {"a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"},
    {"{% if true %}\r\nx\r\n{% endif %}\r\ny\r\n", "x\ny"},
    {"  {{ 1 }}\n  {# c #}\n  x", "  1\n  x"},
    {"{% set x = 1 %}\n\n{{ x }}\n\n", "\n1\n"},
    {"{% for i in [1, 2] %}\n  {{ i }}\n{% endfor %}\nend", "  1\n  2\nend"},
    {"a {%- if true %} b {% endif -%} \n c", "a b c"},
    {"  {%- set x = 1 -%}  \n\n  a", "a"},
    {"{%+ if true +%}\n x {%+ endif %}", "\n x "},
    {"   {%+ if true %}\n x {% endif %}", "    x "},
    {"\t {% if true %}\tx\n\t{% endif %}\n", "\tx\n"},
    {"{% raw %}\n  {{ x }}\n{% endraw %}\ny", "\n  {{ x }}\ny"},
    {"  {% raw %}\n  x\n  {% endraw -%}\n y", "\n  x\ny"},
    {"a {%- raw -%}  {{ y }} {% if %} {%- endraw %} z", "a{{ y }} {% if %} z"},
    {"a\n  {#- x -#}\n  b", "ab"},
    {"{# x +#}\nb", "\nb"},
    {"{{ 'a' -}}\n b {{- 'c' }}", "abc"},
    {"{{-1}}{{+1}}", "11"},
    {"\302\240\n  x\343\200\200{%- if 1 %}y{% endif %}", "\302\240\n  xy"},
    {"{", "{"},
    {"x {", "x {"},
    {"{{ '}}' }}{{ {'a': {}} }}", "}}{'a': {}}"},
    {"\n\n", "\n"},
};

static const char context_json[] =
    "{\"s\": \"  Hello World  \", \"nums\": [3, 1, 2.5, -4], \"words\": [\"b\", "
    "\"A\", \"c\", \"a\"], \"d\": {\"b\": 1, \"a\": \"x\", \"C\": null, \"keys\": "
    "5}, \"people\": [{\"name\": \"Bob\", \"age\": 30, \"city\": \"X\"}, {\"name\": "
    "\"al\", \"age\": 25, \"city\": \"Y\"}, {\"name\": \"Cy\", \"age\": 30, \"city\": "
    "\"X\"}], \"messages\": [{\"role\": \"user\", \"content\": \"Hi <b>\"}, {\"role\": "
    "\"assistant\", \"content\": \"héllo 你好\", \"calls\": [{\"name\": \"f\", \"args\": "
    "{\"a\": 1, \"b\": [1, 2.5, null, true]}}]}, {\"role\": \"user\", \"content\": "
    "\"x\"}], \"tree\": [{\"v\": 1, \"c\": [{\"v\": 2, \"c\": []}, {\"v\": 3, "
    "\"c\": [{\"v\": 4, \"c\": []}]}]}], \"yes\": true, \"no\": false, \"nil\": "
    "null, \"lines\": \"one\\ntwo\\n\\nfour\"}";

#endif
