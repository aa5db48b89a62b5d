/* Command lines by table: finding the option, reading its value, --help. */
#include "args.h"

#include "command.h"
#include "terminal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 32 /* longer words are no misspelt option */

int args_wrong(const char *command, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    terminal_error("%s (see infer %s --help)", text, command);
    return STATUS_USAGE;
}

static const struct args_option *find_operand(const struct args_command *command)
{
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i].kind == ARGS_OPERAND)
            return &command->options[i];
    return NULL;
}

static void print_help(const struct args_command *command)
{
    const struct args_option *operand = find_operand(command);
    printf("usage: infer %s [OPTIONS]%s%s\n\n%s\n\n", command->name, operand ? " " : "",
           operand ? operand->name : "", command->summary);
    for (size_t i = 0; i < command->n_options; i++) {
        const struct args_option *option = &command->options[i];
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        printf("  %-24s %s\n", left, option->help);
    }
    printf("  %-24s %s\n", "--help", "this text");
}

/* Levenshtein's distance by one row: both words are at most NAME_MAX_BYTES. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1];
    size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            if (row[j] + 1 < change)
                change = row[j] + 1;
            if (diagonal + 1 < change)
                change = diagonal + 1;
            row[j + 1] = change;
        }
    }
    return row[n];
}

static const struct args_option *nearest(const struct args_command *command, const char *name)
{
    const struct args_option *best = NULL;
    size_t best_distance = 4; /* more changes than three are another word */
    if (strlen(name) > NAME_MAX_BYTES)
        return NULL;
    for (size_t i = 0; i < command->n_options; i++) {
        size_t d = distance(name, command->options[i].name);
        if (d < best_distance) {
            best_distance = d;
            best = &command->options[i];
        }
    }
    return best;
}

static const struct args_option *find(const struct args_command *command, const char *word,
                                      size_t size)
{
    for (size_t i = 0; i < command->n_options; i++)
        if (strncmp(command->options[i].name, word, size) == 0 && !command->options[i].name[size])
            return &command->options[i];
    return NULL;
}

static int unknown(const struct args_command *command, const char *word, size_t size)
{
    char name[256];
    const struct args_option *near;
    snprintf(name, sizeof name, "%.*s", (int)(size < 200 ? size : 200), word);
    if (name[0] != '-')
        return args_wrong(command->name, "\"%s\" belongs to no option", name);
    near = nearest(command, name);
    if (near)
        return args_wrong(command->name, "there is no option %s; %s?", name, near->name);
    return args_wrong(command->name, "there is no option %s", name);
}

/* Sets a numeric target. Returns NULL, or what the option expects instead. */
static const char *set_number(const struct args_option *option, const char *text)
{
    char *end = NULL;
    errno = 0;
    if (option->kind == ARGS_NUMBER) {
        double x = strtod(text, &end);
        if (end == text || *end || !isfinite(x) || x < (double)option->min)
            return "a number";
        *(double *)option->target = x;
    } else if (option->kind == ARGS_SEED) {
        unsigned long long x = strtoull(text, &end, 10);
        if (end == text || *end || errno || text[0] == '-')
            return "a whole number";
        *(uint64_t *)option->target = x;
    } else {
        long long x = strtoll(text, &end, 10);
        if (end == text || *end || errno || x < option->min || x > INT32_MAX)
            return "a whole number";
        *(int64_t *)option->target = x;
    }
    return NULL;
}

/* Names what there is to choose from where the word is none of it. */
static int set_choice(const char *command, const struct args_option *option, const char *text)
{
    char all[256] = "";
    size_t size = 0;
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *(int *)option->target = i + 1;
            return STATUS_OK;
        }
        size += (size_t)snprintf(all + size, sizeof all - size, "%s%s",
                                 i == 0                   ? ""
                                 : option->choices[i + 1] ? ", "
                                                          : " or ",
                                 option->choices[i]);
    }
    return args_wrong(command, "%s is \"%s\", expected %s", option->name, text, all);
}

static int set_value(const char *command, const struct args_option *option, const char *text)
{
    const char *expected;
    struct args_list *list;
    switch (option->kind) {
    case ARGS_FLAG:
        *(int *)option->target = 1;
        return STATUS_OK;
    case ARGS_TEXT:
        *(const char **)option->target = text;
        return STATUS_OK;
    case ARGS_CHOICE:
        return set_choice(command, option, text);
    case ARGS_LIST:
    case ARGS_OPERAND:
        list = option->target;
        if (list->n == ARGS_LIST_MAX)
            return args_wrong(command, "%s may be given %d times", option->name, ARGS_LIST_MAX);
        list->items[list->n++] = text;
        return STATUS_OK;
    default:
        expected = set_number(option, text);
        if (!expected)
            return STATUS_OK;
        if (option->kind == ARGS_SEED)
            return args_wrong(command, "%s is \"%s\", expected %s", option->name, text, expected);
        return args_wrong(command, "%s is \"%s\", expected %s from %lld%s", option->name, text,
                          expected, (long long)option->min,
                          option->kind == ARGS_COUNT ? " to 2147483647" : " up");
    }
}

/* One option and its value, as "--name value" or "--name=value". Moves *i. */
static int parse_option(const struct args_command *command, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    size_t size = strcspn(word, "=");
    const struct args_option *option = find(command, word, size);
    const char *value = word[size] ? word + size + 1 : NULL;
    if (!option)
        return unknown(command, word, size);
    if (option->given)
        *option->given = 1;
    if (option->kind == ARGS_FLAG && value)
        return args_wrong(command->name, "%s takes no value", option->name);
    if (option->kind != ARGS_FLAG && !value) {
        /* The name of another option is a forgotten value, other dashes are text. */
        if (*i + 1 == argc || find(command, argv[*i + 1], strlen(argv[*i + 1])))
            return args_wrong(command->name, "%s needs a value: %s %s", option->name, option->name,
                              option->value);
        value = argv[++*i];
    }
    return set_value(command->name, option, value);
}

enum args_result args_parse(const struct args_command *command, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(command);
            return ARGS_HELP;
        }
        const struct args_option *operand = argv[i][0] != '-' ? find_operand(command) : NULL;
        int status = operand ? set_value(command->name, operand, argv[i])
                             : parse_option(command, argc, argv, &i);
        if (status != STATUS_OK)
            return ARGS_WRONG;
    }
    for (size_t i = 0; i < command->n_options; i++) {
        const struct args_option *option = &command->options[i];
        if (option->required && !*(const char **)option->target) {
            args_wrong(command->name, "%s %s is missing", option->name, option->value);
            return ARGS_WRONG;
        }
    }
    return ARGS_GO;
}
