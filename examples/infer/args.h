/* Command lines by table: each command lists its options, and parsing, checking
 * and --help follow from the list. */
#ifndef INFER_ARGS_H
#define INFER_ARGS_H

#include <stddef.h>
#include <stdint.h>

enum args_kind {
    ARGS_FLAG,   /* int: set to 1 */
    ARGS_COUNT,  /* int64_t: a whole number from `min` to INT32_MAX */
    ARGS_SEED,   /* uint64_t */
    ARGS_NUMBER, /* double: from `min` up */
    ARGS_TEXT,   /* const char * */
    ARGS_CHOICE, /* int: 1 for the first word of `choices`, 2 for the second ... */
    ARGS_LIST,   /* struct args_list: may be given several times */
    ARGS_OPERAND /* struct args_list: words that belong to no option; the name is for --help */
};

#define ARGS_LIST_MAX 16

struct args_list {
    const char *items[ARGS_LIST_MAX];
    size_t n;
};

struct args_option {
    const char *name;  /* with its dashes */
    const char *value; /* what --help calls the value; NULL for a flag */
    const char *help;
    enum args_kind kind;
    void *target; /* as the kind says; keeps its value where the option is not given */
    int64_t min;
    int *given;                 /* set to 1 where the option is given; may be NULL */
    int required;               /* ARGS_TEXT only: complain where it is not given */
    const char *const *choices; /* of ARGS_CHOICE; ends with NULL */
};

/* A row of a table of options; `variable` is of the type that the kind says. */
#define ARGS_ROW(kind_, name_, value_, variable, help_)                                            \
    {                                                                                              \
        .name = name_, .value = value_, .help = help_, .kind = kind_, .target = &(variable)        \
    }
#define ARGS_ROW_MIN(kind_, name_, value_, variable, min_, help_)                                  \
    {                                                                                              \
        .name = name_, .value = value_, .help = help_, .kind = kind_, .target = &(variable),       \
        .min = min_                                                                                \
    }
#define ARGS_ROW_REQUIRED(name_, value_, variable, help_)                                          \
    {                                                                                              \
        .name = name_, .value = value_, .help = help_, .kind = ARGS_TEXT, .target = &(variable),   \
        .required = 1                                                                              \
    }

#define ARGS_ROW_CHOICE(name_, value_, variable, choices_, help_)                                  \
    {                                                                                              \
        .name = name_, .value = value_, .help = help_, .kind = ARGS_CHOICE, .target = &(variable), \
        .choices = choices_                                                                        \
    }

struct args_command {
    const char *name;
    const char *summary; /* one or more lines for --help */
    const struct args_option *options;
    size_t n_options;
};

/* What parsing says: go on, or leave with the status it names. */
enum args_result { ARGS_GO, ARGS_HELP, ARGS_WRONG };

/* Fills the targets. Help goes to stdout, an error with a hint to stderr. */
enum args_result args_parse(const struct args_command *command, int argc, char **argv);

/* A complaint that parsing itself cannot make, such as a missing option.
 * Returns STATUS_USAGE. */
int args_wrong(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
