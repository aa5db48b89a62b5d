/* The function strftime_now: the host's time by a pattern, in the C locale. */
#include "text/jinja_internal.h"

#include <stdio.h>

/* Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

int jinja_time_from_unix(int64_t seconds, struct jinja_time *out)
{
    static const int64_t first = -62167219200, last = 253402300799; /* of years 0 and 9999 */
    if (seconds < first || seconds > last)
        return 0;
    int64_t days = seconds / 86400 - (seconds % 86400 < 0);
    int64_t second = seconds - days * 86400;
    /* The inverse of days_of(), by the same source: years begin on the first of March. */
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int month = (int)((5 * of_year + 2) / 153);
    out->day = (int)(of_year - (153 * month + 2) / 5) + 1;
    out->month = month < 10 ? month + 3 : month - 9;
    out->year = (int)(year + era * 400) + (out->month <= 2);
    out->hour = (int)(second / 3600);
    out->minute = (int)(second / 60 % 60);
    out->second = (int)(second % 60);
    return 1;
}

/* Digits and signs as in the pattern, where '0' stands for a digit; numbers go to `values`. */
static int match(struct base_view *text, const char *pattern, int *values)
{
    size_t n = strlen(pattern);
    if (text->size < n)
        return 0;
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text->data[i];
        if (pattern[i] == '0' ? c < '0' || c > '9' : c != pattern[i])
            return 0;
        if (pattern[i] == '0')
            value = value * 10 + (c - '0');
        if (pattern[i] == '0' && pattern[i + 1] != '0') {
            *values++ = value;
            value = 0;
        }
    }
    text->data += n;
    text->size -= n;
    return 1;
}

static int days_in(int year, int month)
{
    return (int)(days_of(month == 12 ? year + 1 : year, month % 12 + 1, 1) -
                 days_of(year, month, 1));
}

int jinja_time_parse(struct base_view text, struct jinja_time *out)
{
    int v[7] = {0};
    if (!match(&text, "0000-00-00", v))
        return 0;
    if (match(&text, "T00:00", v + 3) || match(&text, " 00:00", v + 3)) {
        if (match(&text, ":00", v + 5) && match(&text, ".0", v + 6))
            while (text.size && text.data[0] >= '0' && text.data[0] <= '9')
                text = (struct base_view){text.data + 1, text.size - 1};
        match(&text, "Z", v + 6);
    }
    if (text.size || v[1] < 1 || v[1] > 12 || v[2] < 1 || v[2] > days_in(v[0], v[1]) || v[3] > 23 ||
        v[4] > 59 || v[5] > 60)
        return 0;
    *out = (struct jinja_time){v[0], v[1], v[2], v[3], v[4], v[5]};
    return 1;
}

static int weekday(const struct jinja_time *t) /* 0 = Sunday */
{
    int64_t days = days_of(t->year, t->month, t->day);
    return (int)(((days + 4) % 7 + 7) % 7);
}

/* The Thursday of a week of ISO 8601, which begins on Monday, decides whose week it is. */
static struct jinja_time iso_thursday(const struct jinja_time *t)
{
    struct jinja_time thursday = *t;
    int64_t days = days_of(t->year, t->month, t->day) - (weekday(t) + 6) % 7 + 3;
    jinja_time_from_unix(days * 86400, &thursday);
    return thursday;
}

static int day_of_year(const struct jinja_time *t)
{
    return (int)(days_of(t->year, t->month, t->day) - days_of(t->year, 1, 1)) + 1;
}

/* The conversions that are numbers with leading zeros, or with spaces; 0 for another one. */
static int format_number(const struct jinja_time *t, char conversion, int bare, char out[64])
{
    int year_day = day_of_year(t), hour = t->hour % 12 ? t->hour % 12 : 12;
    struct jinja_time thursday = iso_thursday(t);
    const struct {
        char conversion;
        int value, width;
    } numbers[] = {
        {'Y', t->year, 1},
        {'C', t->year / 100, 2},
        {'y', t->year % 100, 2},
        {'m', t->month, 2},
        {'d', t->day, 2},
        {'H', t->hour, 2},
        {'I', hour, 2},
        {'M', t->minute, 2},
        {'S', t->second, 2},
        {'f', 0, 6},
        {'j', year_day, 3},
        {'w', weekday(t), 1},
        {'u', weekday(t) ? weekday(t) : 7, 1},
        {'U', (year_day + 6 - weekday(t)) / 7, 2},
        {'W', (year_day + 6 - (weekday(t) + 6) % 7) / 7, 2},
        {'V', (day_of_year(&thursday) + 6) / 7, 2},
        {'G', thursday.year, 1},
        {'g', thursday.year % 100, 2},
        {'e', t->day, -2},
        {'k', t->hour, -2},
        {'l', hour, -2},
    };
    for (size_t i = 0; i < BASE_COUNT(numbers); i++) {
        if (numbers[i].conversion == conversion) {
            int width = bare ? 1 : numbers[i].width;
            snprintf(out, 64, width < 0 ? "%*d" : "%0*d", width < 0 ? -width : width,
                     numbers[i].value);
            return 1;
        }
    }
    return 0;
}

static int format_name(const struct jinja_time *t, char conversion, char out[64])
{
    static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    int cut = conversion == 'a' || conversion == 'b' || conversion == 'h' ? 3 : 60;
    if (conversion == 'a' || conversion == 'A')
        snprintf(out, 64, "%.*s", cut, days[weekday(t)]);
    else if (conversion == 'b' || conversion == 'h' || conversion == 'B')
        snprintf(out, 64, "%.*s", cut, months[t->month - 1]);
    else if (conversion == 'p' || conversion == 'P')
        snprintf(out, 64, conversion == 'p' ? "%cM" : "%cm",
                 (t->hour < 12 ? 'A' : 'P') + (conversion == 'P' ? 'a' - 'A' : 0));
    else if (conversion == 'z' || conversion == 'Z')
        out[0] = 0; /* the time has no zone */
    else
        return 0;
    return 1;
}

/* What a conversion that stands for several others stands for, or NULL. */
static const char *expansion(char conversion)
{
    static const struct {
        char conversion;
        const char *text;
    } expansions[] = {
        {'F', "%Y-%m-%d"},
        {'D', "%m/%d/%y"},
        {'T', "%H:%M:%S"},
        {'R', "%H:%M"},
        {'x', "%m/%d/%y"},
        {'X', "%H:%M:%S"},
        {'c', "%a %b %e %H:%M:%S %Y"},
        {'r', "%I:%M:%S %p"},
        {'n', "\n"},
        {'t', "\t"},
    };
    for (size_t i = 0; i < BASE_COUNT(expansions); i++)
        if (expansions[i].conversion == conversion)
            return expansions[i].text;
    return NULL;
}

static void write_time(struct jinja_render *r, const struct jinja_time *t, struct base_view f)
{
    for (size_t i = 0; i < f.size && !jinja_failed(r); i++) {
        if (f.data[i] != '%' || i + 1 == f.size) {
            jinja_write_char(r, f.data[i]);
            continue;
        }
        int bare = f.data[i + 1] == '-' && i + 2 < f.size;
        i += bare ? 2 : 1;
        const char *longer = expansion(f.data[i]);
        char text[64];
        if (longer)
            write_time(r, t, jinja_view_of(longer));
        else if (f.data[i] == '%')
            jinja_write_char(r, '%');
        else if (format_number(t, f.data[i], bare, text) || format_name(t, f.data[i], text))
            jinja_write_text(r, text);
        else
            jinja_fail(r, INFER_ERR_UNSUPPORTED, "strftime_now: %%%c is not supported", f.data[i]);
    }
}

struct jinja_value jinja_function_strftime_now(struct jinja_render *r, const struct jinja_call *c)
{
    const struct jinja_time *t = r->now;
    if (c->a[0].kind != JINJA_STRING)
        return jinja_fail(r, INFER_ERR_INVALID, "strftime_now: the format must be a text");
    if (t->month < 1 || t->month > 12 || t->day < 1 || t->day > 31 || t->year < 0 || t->hour < 0 ||
        t->hour > 23 || t->minute < 0 || t->minute > 59 || t->second < 0 || t->second > 61)
        return jinja_fail(r, INFER_ERR_INVALID, "strftime_now: the host's time is not a time");
    size_t begin = jinja_capture_begin(r);
    write_time(r, t, c->a[0].text);
    return jinja_capture_end(r, begin);
}
